"""Accuracy of images with several classes: which classes each of them has."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import check_whole
from kerazoo.labels import Labels, is_empty
from kerazoo.metrics._base import (
    StreamingMetric,
    areas,
    check_num_classes,
    check_num_ids,
    check_threshold,
    predicted_ids,
)
from kerazoo.metrics._confusion import mean_ratio
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="metrics.ImageMulticlassAccuracy")
class ImageMulticlassAccuracy(StreamingMetric):
    """Mean recall of images, over the kinds "empty" and "has the class" for each foreground class.

    The recall of a class is the share of the images that have it in which at least `min_area` of its pixels are
    predicted, anywhere; the recall of "empty" is the share of the empty images in which no class is predicted. An image
    with several classes counts for each. Kinds that do not occur are left out of the mean; 0 before any image. Images
    that are ignored altogether do not count.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        min_area: Pixels of a foreground class from which on an image is predicted to have it, at least 1.
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        min_area: int = 1,
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "image_multiclass_accuracy",
        dtype: Any = None,
    ):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        self.num_classes, self.num_ids = check_num_classes(num_classes, type(self).__name__)
        check_whole(type(self).__name__, "min_area", min_area)
        self.min_area = int(min_area)
        self.threshold = check_threshold(threshold, type(self).__name__)
        self.totals = Counter(self, 2 * self.num_ids, "totals")

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count images by kind, and those that are recognized."""
        check_num_ids(self, labels)
        found = areas(predicted_ids(self, labels, logits), labels) >= self.min_area
        nothing = ops.logical_not(ops.any(found, axis=-1))
        kinds = ops.concatenate([is_empty(labels)[:, None], areas(labels.ids, labels) > 0], axis=-1)
        hits = ops.logical_and(kinds, ops.concatenate([nothing[:, None], found], axis=-1))
        both = ops.concatenate([kinds, hits], axis=-1)
        self.totals.add(ops.sum(ops.cast(both, "int32"), axis=0))

    def compute(self) -> Tensor:
        """Mean recall of the kinds that occur."""
        total, hits = ops.split(self.totals.value(), 2)
        return mean_ratio(hits, total)

    def counts(self) -> np.ndarray:
        """`(2, K)` int64: images of each kind, and those recognized; kind 0 is empty. Outside of compiled code."""
        return self.totals.exact().reshape(2, self.num_ids)
