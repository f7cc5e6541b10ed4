"""Dice coefficient (F1 score) of pixels."""

from typing import get_args

import keras

from kerazoo.metrics._base import ConfusionMetric
from kerazoo.metrics._confusion import OverlapEmpty, Ratio, outcomes
from kerazoo.types import Tensor


def dice_score(confusion: Tensor) -> Ratio:
    """2 TP / (2 TP + FP + FN) of each class; undefined where it is neither true nor predicted."""
    tp, fp, fn = outcomes(confusion)
    return 2.0 * tp, 2.0 * tp + fp + fn


@keras.saving.register_keras_serializable("kerazoo", name="metrics.Dice")
class Dice(ConfusionMetric):
    """Dice coefficient, 2 TP / (2 TP + FP + FN), averaged over the foreground classes.

    The pixels of all images are counted together; the mean of the Dice of each image is `PerImageDice`. A class that is
    neither true nor predicted anywhere is left out of the mean; without any class left the result is 0. By default only
    images with a foreground pixel take part, as for `IoU`.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "non_empty" (None is the same) or "all".
        average: "foreground", or None for a vector with one entry per mask id.
        empty: What a class is worth that is neither true nor predicted in any image that takes part. "skip": it is left
            out of the mean, which is 0 if no class is left, and is 0 in the vector. "one": 0/0 := 1. "penalize": a
            class that is not true in any of them, predicted or not, is worth `1 - log(1 + A) / log(1 + N)`, A the
            pixels predicted as the class, N all of their pixels.
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric; None for "dice".
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    ratio = staticmethod(dice_score)
    default_name = "dice"
    default_images = "non_empty"
    policies = get_args(OverlapEmpty)
