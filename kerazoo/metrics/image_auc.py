"""Area under the ROC curve of images, empty or not (Hanley and McNeil, 1982, https://doi.org/10.1148/radiology.143.1.7063747)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.labels import Labels, has_foreground, has_valid
from kerazoo.metrics._base import StreamingMetric
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor

_BINS = 2**14
_FAR_BELOW = 1e9  # subtracted from a logit so that its exponential is 0


@keras.saving.register_keras_serializable("kerazoo", name="metrics.ImageAUC")
class ImageAUC(StreamingMetric):
    """Probability that an image with foreground has a higher score than an empty one, ties counted as half.

    The score of an image is the highest foreground probability of its pixels, as in `kerazoo.inference.DecisionRule`,
    so no threshold takes part. Scores are counted in 16384 bins; images of one bin are ties. The bins are even in
    z / (1 + |z|), z the log-odds of the score: near 0.5 they are 1e-4 wide in z, and at probabilities of 0.9999 or
    0.0001 still 0.01. 0 where all images are of one kind, and before any. Images that are ignored altogether do not
    count.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    def __init__(self, *, ignore_class: int | None = None, name: str | None = "image_auc", dtype: Any = None):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        self.histogram = Counter(self, 2 * _BINS, "histogram")

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count images by kind and bin of their score."""
        odds = ops.where(labels.valid, _foreground_odds(logits), -_FAR_BELOW)
        score = ops.max(odds, axis=labels.space)
        place = (score / (1.0 + ops.abs(score)) + 1.0) * (_BINS / 2)
        place = ops.cast(ops.clip(ops.floor(place), 0, _BINS - 1), "int32")
        cell = ops.where(has_foreground(labels), place + _BINS, place)
        cell = ops.where(has_valid(labels), cell, 2 * _BINS)  # the last segment takes what does not count
        self.histogram.add(ops.segment_sum(ops.ones_like(cell), cell, num_segments=2 * _BINS + 1)[:-1])

    def compute(self) -> Tensor:
        """Share of pairs of an image with and one without foreground that are in the right order."""
        empty, shown = ops.split(self.histogram.value(), 2)
        empties, images = ops.sum(empty), ops.sum(shown)
        share_empty = ops.divide_no_nan(empty, empties)
        below = ops.cumsum(share_empty) - share_empty / 2
        return ops.sum(ops.divide_no_nan(shown, images) * below) * ops.cast(empties > 0, "float32")

    def counts(self) -> np.ndarray:
        """`(2, 16384)` int64 images by score, ascending: empty ones, those with foreground; not in compiled code."""
        return self.histogram.exact().reshape(2, _BINS)


def _foreground_odds(logits: Tensor) -> Tensor:
    """`(B, ...)` log-odds of the likeliest foreground class, from `(B, ..., C)` logits."""
    if logits.shape[-1] == 1:
        return logits[..., 0]
    best = ops.argmax(logits[..., 1:], axis=-1) + 1
    others = logits - _FAR_BELOW * ops.one_hot(best, logits.shape[-1], dtype=logits.dtype)
    return ops.max(logits[..., 1:], axis=-1) - ops.logsumexp(others, axis=-1)
