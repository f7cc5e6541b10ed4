"""Expected calibration error of pixels (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

Differs from the paper: class by class (Nixon et al., 2019, https://arxiv.org/abs/1904.01685), because the likeliest
class of nearly every pixel is the background.
"""

from typing import Any, get_args

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import check_choice, check_whole
from kerazoo.labels import Labels
from kerazoo.metrics._base import Images, StreamingMetric, check_num_classes, check_num_ids, takes_part
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor

_PARTS = 3  # a probability is summed as a whole number of 24 bits, in three parts of 8 that do not overflow
_PART = 2**8


@keras.saving.register_keras_serializable("kerazoo", name="metrics.CalibrationError")
class CalibrationError(StreamingMetric):
    """Expected calibration error, `Σ_b n_b / n |mean p_b - share_b|`, averaged over the foreground classes.

    The n pixels of all images together are divided into bins of equal width by the probability p that they are of the
    class; `share_b` is the part of the n_b pixels of a bin that really is. 0 is a model whose probabilities are
    frequencies; also before any pixel. Most pixels are background with a probability near 0 and dominate this error:
    look at `curve()` too.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; up to 126 images of up
        to 8 million pixels each in a batch.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        bins: Number of bins, at least 2.
        images: "all" or "non_empty".
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    higher_is_better = False

    def __init__(
        self,
        num_classes: int,
        *,
        bins: int = 15,
        images: Images = "all",
        ignore_class: int | None = None,
        name: str | None = "calibration_error",
        dtype: Any = None,
    ):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        check_whole("CalibrationError", "bins", bins, least=2)
        check_choice("CalibrationError", "images", images, get_args(Images))
        self.num_classes, self.num_ids = check_num_classes(num_classes, "CalibrationError")
        self.bins = int(bins)
        self.images: Images = images
        self.totals = Counter(self, (self.num_ids - 1) * self.bins * (2 + _PARTS), "totals")

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count pixels, those of the class, and probabilities, by class and bin."""
        check_num_ids(self, labels)
        probs = ops.sigmoid(logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)[..., 1:]
        classes = self.num_ids - 1
        whole = ops.cast(ops.minimum(probs * 2**24, 2.0**24 - 1), "int32")
        place = ops.cast(ops.clip(ops.floor(probs * self.bins), 0, self.bins - 1), "int32")
        place = place + ops.arange(classes, dtype="int32") * self.bins
        cells = classes * self.bins + 1  # of each image; the last takes what does not count
        images = ops.shape(labels.ids)[0]
        first = ops.reshape(ops.arange(images, dtype="int32") * cells, (-1,) + (1,) * (len(labels.space) + 1))
        place = first + ops.where(ops.expand_dims(takes_part(labels, self.images), -1), place, cells - 1)
        hit = ops.cast(ops.expand_dims(labels.ids, -1) == ops.arange(1, self.num_ids, dtype="int32"), "int32")
        parts = [whole // _PART**2, whole // _PART % _PART, whole % _PART]
        columns = [ops.ones_like(whole), hit, *parts]
        rows = ops.stack([ops.reshape(column, (-1,)) for column in columns], axis=-1)
        sums = ops.segment_sum(rows, ops.reshape(place, (-1,)), num_segments=images * cells)
        sums = ops.reshape(sums, (-1, cells, 2 + _PARTS))[:, :-1]
        self.totals.add(ops.reshape(sums, (-1, (cells - 1) * (2 + _PARTS))))

    def compute(self) -> Tensor:
        """The mean error of the foreground classes."""
        table = ops.reshape(self.totals.value(), (self.num_ids - 1, self.bins, 2 + _PARTS))
        pixels, hits, high, middle, low = ops.unstack(table, axis=-1)
        probability = high / _PART + middle / _PART**2 + low / _PART**3
        errors = ops.sum(ops.abs(probability - hits), axis=-1)
        return ops.mean(ops.divide_no_nan(errors, ops.sum(pixels, axis=-1)))

    def curve(self) -> np.ndarray:
        """`(K - 1, bins, 3)` float64: pixels, mean probability, share of the class; NaN in empty bins. Not compiled."""
        table = self.totals.exact().reshape(self.num_ids - 1, self.bins, 2 + _PARTS).astype(np.float64)
        pixels, hits = table[..., 0], table[..., 1]
        probability = table[..., 2:] @ (1.0 / _PART ** np.arange(1, _PARTS + 1))
        shares = [np.divide(x, pixels, out=np.full(x.shape, np.nan), where=pixels > 0) for x in (probability, hits)]
        return np.stack([pixels, *shares], axis=-1)
