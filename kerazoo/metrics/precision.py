"""Precision (positive predictive value) of pixels."""

import keras

from kerazoo.metrics._base import ConfusionMetric
from kerazoo.metrics._confusion import Ratio, outcomes
from kerazoo.types import Tensor


def precision_score(confusion: Tensor) -> Ratio:
    """TP / (TP + FP) of each class; undefined where it is not predicted."""
    tp, fp, _ = outcomes(confusion)
    return tp, tp + fp


@keras.saving.register_keras_serializable("kerazoo", name="metrics.Precision")
class Precision(ConfusionMetric):
    """Precision, TP / (TP + FP), averaged over the foreground classes.

    The pixels of all images are counted together. A class that is predicted nowhere is left out of the mean; without
    any class left the result is 0. By default empty images take part: foreground predicted on them counts as false.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "all" (None is the same) or "non_empty".
        average: "foreground", or None for a vector with one entry per mask id.
        empty: What a class is worth that is not predicted in any image that takes part. "skip": it is left out of the
            mean, which is 0 if no class is left, and is 0 in the vector. "one": 0/0 := 1.
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric; None for "precision".
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    ratio = staticmethod(precision_score)
    default_name = "precision"
