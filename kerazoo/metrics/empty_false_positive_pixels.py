"""False positive pixels on empty images."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.labels import Labels, is_empty
from kerazoo.metrics._base import StreamingMetric, check_threshold, predicted_ids
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="metrics.EmptyFalsePositivePixels")
class EmptyFalsePositivePixels(StreamingMetric):
    """Mean number of pixels predicted as foreground (any class) per empty image; 0 if there was no empty image.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None. An image with ignored pixels is empty if the rest
            is; an image that is ignored altogether is none.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "empty_false_positive_pixels",
        dtype: Any = None,
    ):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        self.threshold = check_threshold(threshold, type(self).__name__)
        self.totals = Counter(self, 2, "totals")

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count predicted pixels of empty images, and empty images."""
        empty = ops.cast(is_empty(labels), "int32")
        found = ops.sum(ops.cast(predicted_ids(self, labels, logits) > 0, "int32"), axis=labels.space)
        self.totals.add(ops.stack([ops.sum(empty * found), ops.sum(empty)]))

    def compute(self) -> Tensor:
        """Pixels per empty image."""
        pixels, images = self.totals.value()[0], self.totals.value()[1]
        return ops.divide_no_nan(pixels, images)

    def counts(self) -> np.ndarray:
        """`(2,)` int64: false positive pixels on empty images, and empty images; outside of compiled code."""
        return self.totals.exact()
