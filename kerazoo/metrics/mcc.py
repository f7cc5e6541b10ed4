"""Matthews correlation coefficient of pixels, with several classes R_K (Gorodkin, 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006)."""

from typing import Any

import keras
from keras import ops

from kerazoo.metrics._base import ConfusionMetric, Images
from kerazoo.metrics._confusion import Ratio
from kerazoo.types import Tensor


def mcc_score(confusion: Tensor) -> Ratio:
    """R_K; undefined where truth or prediction has one class only.

    From shares of pixels, and sums of products alone, so that rare classes keep their digits.
    """
    share = ops.divide_no_nan(confusion, ops.sum(confusion))
    others = 1.0 - ops.eye(confusion.shape[0], dtype=share.dtype)
    true, predicted = ops.sum(share, axis=1), ops.sum(share, axis=0)
    hits, rejections = ops.diagonal(share), ops.diagonal(others @ share @ others)
    misses, false_alarms = ops.sum(share * others, axis=1), ops.sum(share * others, axis=0)
    covariance = ops.sum(hits * rejections - misses * false_alarms)
    variances = (ops.sum(part * ops.reshape(others @ part[:, None], (-1,))) for part in (true, predicted))
    true_variance, predicted_variance = variances
    return covariance, ops.sqrt(true_variance) * ops.sqrt(predicted_variance)


@keras.saving.register_keras_serializable("kerazoo", name="metrics.MCC")
class MCC(ConfusionMetric):
    """Matthews correlation coefficient of true and predicted class, in [-1, 1], over the pixels of all images together.

    `R_K = Σ_k cov(t_k, p_k) / √(Σ_k var(t_k) Σ_k var(p_k))` with t_k, p_k the indicators of class k, background
    included. Unlike accuracy it is 0, and not near 1, for a prediction that does not depend on the image; also where
    truth or prediction has one class only, and before any pixel.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "all" or "non_empty".
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    ratio = staticmethod(mcc_score)

    def __init__(
        self,
        num_classes: int,
        *,
        images: Images = "all",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "mcc",
        dtype: Any = None,
    ):
        super().__init__(
            num_classes,
            images=images,
            average=None,
            threshold=threshold,
            ignore_class=ignore_class,
            name=name,
            dtype=dtype,
        )
