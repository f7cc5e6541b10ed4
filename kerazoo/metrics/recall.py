"""Recall (sensitivity) of pixels."""

from typing import Any

import keras

from kerazoo.metrics._base import Average, ClassMetric, Empty, Images
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="metrics.Recall")
class Recall(ClassMetric):
    """TP / (TP + FN) of each class, from the pixels of all images together; mean over foreground classes.

    A class that is true nowhere is left out of the mean; without any class left the result is 0.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "all" or "non_empty".
        average: "foreground", or None for a vector with one entry per mask id.
        empty: What a class is worth that is in no image that takes part. "skip": it is left out of the mean, which
            is 0 if no class is left, and is 0 in the vector. "one": 0/0 := 1.
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
        images: Images = "all",
        average: Average = "foreground",
        empty: Empty = "skip",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "recall",
        dtype: Any = None,
    ):
        super().__init__(
            num_classes,
            images=images,
            average=average,
            empty=empty,
            threshold=threshold,
            ignore_class=ignore_class,
            name=name,
            dtype=dtype,
        )

    def ratio(self, hits: Tensor, false_positives: Tensor, false_negatives: Tensor) -> tuple[Tensor, Tensor]:
        """TP, and TP + FN."""
        return hits, hits + false_negatives
