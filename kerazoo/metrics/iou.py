"""Intersection over union (Jaccard index) of pixels."""

from typing import get_args

import keras

from kerazoo.metrics._base import ConfusionMetric
from kerazoo.metrics._confusion import OverlapEmpty, Ratio, outcomes
from kerazoo.types import Tensor


def iou_score(confusion: Tensor) -> Ratio:
    """TP / (TP + FP + FN) of each class; undefined where it is neither true nor predicted."""
    tp, fp, fn = outcomes(confusion)
    return tp, tp + fp + fn


@keras.saving.register_keras_serializable("kerazoo", name="metrics.IoU")
class IoU(ConfusionMetric):
    """Intersection over union, TP / (TP + FP + FN), averaged over the foreground classes.

    The pixels of all images are counted together (this is no mean over images), and the background is never averaged
    in. A class that is neither true nor predicted anywhere has no IoU and is left out of the mean; without any class
    left the result is 0. By default only images with a foreground pixel take part, so false positives on empty images
    go unnoticed here: count them with `EmptyFalsePositivePixels`, `ImageBalancedAccuracy` or `images="all"`.

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
        name: Name of the metric; None for "iou".
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    ratio = staticmethod(iou_score)
    default_name = "iou"
    default_images = "non_empty"
    policies = get_args(OverlapEmpty)
