"""Balanced accuracy of images, empty or not (Brodersen et al., 2010, https://doi.org/10.1109/ICPR.2010.764)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import check_whole
from kerazoo.labels import Labels, has_foreground, has_valid
from kerazoo.metrics._base import StreamingMetric, areas, check_threshold, predicted_ids
from kerazoo.metrics._confusion import mean_ratio
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="metrics.ImageBalancedAccuracy")
class ImageBalancedAccuracy(StreamingMetric):
    """Mean of sensitivity and specificity over images, ½ (TP / P + TN / N): P have foreground of any class, N none.

    An image is predicted positive with at least `min_area` pixels of one foreground class. If all images are of one
    kind, the result is the recall of that kind; 0 before any image. Images that are ignored altogether do not count.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        min_area: Pixels of a foreground class from which on an image is predicted positive, at least 1.
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    def __init__(
        self,
        *,
        min_area: int = 1,
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "image_balanced_accuracy",
        dtype: Any = None,
    ):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        check_whole(type(self).__name__, "min_area", min_area)
        self.min_area = int(min_area)
        self.threshold = check_threshold(threshold, type(self).__name__)
        self.confusion = Counter(self, 4, "confusion")

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count images by truth and prediction."""
        positive = ops.any(areas(predicted_ids(self, labels, logits), labels) >= self.min_area, axis=-1)
        cell = ops.where(has_foreground(labels), 2, 0) + ops.where(positive, 1, 0)
        cell = ops.where(has_valid(labels), cell, -1)  # the one-hot of -1 is all 0
        self.confusion.add(ops.sum(ops.one_hot(cell, 4, dtype="int32"), axis=0))

    def compute(self) -> Tensor:
        """Mean recall of the kinds of images that occur."""
        matrix = ops.reshape(self.confusion.value(), (2, 2))
        return mean_ratio(ops.stack([matrix[0, 0], matrix[1, 1]]), ops.sum(matrix, axis=1))

    def counts(self) -> np.ndarray:
        """`(2, 2)` int64 images, [[TN, FP], [FN, TP]]; outside of compiled code."""
        return self.confusion.exact().reshape(2, 2)
