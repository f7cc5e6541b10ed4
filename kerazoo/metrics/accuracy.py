"""Pixel accuracy."""

from typing import Any

import keras
from keras import ops

from kerazoo.metrics._base import ConfusionMetric, Images
from kerazoo.metrics._confusion import Ratio
from kerazoo.types import Tensor


def accuracy_score(confusion: Tensor) -> Ratio:
    """Hits by pixels; undefined without a pixel."""
    return ops.sum(confusion * ops.eye(confusion.shape[0], dtype=confusion.dtype)), ops.sum(confusion)


@keras.saving.register_keras_serializable("kerazoo", name="metrics.Accuracy")
class Accuracy(ConfusionMetric):
    """Share of pixels whose class is predicted correctly, over all images together and the background included.

    With few foreground pixels it is near 1 for a model that finds nothing: look at `IoU` or `MCC`. 0 before any pixel.

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

    ratio = staticmethod(accuracy_score)

    def __init__(
        self,
        num_classes: int,
        *,
        images: Images = "all",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "accuracy",
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
