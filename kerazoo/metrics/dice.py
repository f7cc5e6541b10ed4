"""Dice coefficient (F1 score) of pixels."""

from typing import Any, get_args

import keras

from kerazoo.metrics._base import Average, ClassMetric, Images, OverlapEmpty
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="metrics.Dice")
class Dice(ClassMetric):
    """2 TP / (2 TP + FP + FN) of each class, from the pixels of all images together; mean over foreground classes.

    Not the mean of the Dice of each image: that is `PerImageDice`. A class that is neither true nor predicted anywhere
    is left out of the mean; without any class left the result is 0. By default only images with a foreground pixel take
    part, as for `IoU`.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "non_empty" or "all".
        average: "foreground", or None for a vector with one entry per mask id.
        empty: What a class is worth that is neither true nor predicted in any image that takes part. "skip": it is left
            out of the mean, which is 0 if no class is left, and is 0 in the vector. "one": 0/0 := 1. "penalize": a
            class that is not true in any of them, predicted or not, is worth `1 - log(1 + A) / log(1 + N)`, A the
            pixels predicted as the class, N all of their pixels.
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    policies = get_args(OverlapEmpty)

    def __init__(
        self,
        num_classes: int,
        *,
        images: Images = "non_empty",
        average: Average = "foreground",
        empty: OverlapEmpty = "skip",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "dice",
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
        """2 TP, and 2 TP + FP + FN."""
        return 2.0 * hits, 2.0 * hits + false_positives + false_negatives
