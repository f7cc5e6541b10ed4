"""Matthews correlation loss (Abhishek and Hamarneh, 2021, https://arxiv.org/abs/2010.13454).

Differs from the paper: a mean over foreground classes, and an explicit policy for images of one class, where the
correlation is 0/0.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.labels import Labels
from kerazoo.losses._base import Loss
from kerazoo.losses._overlap import (
    Empty,
    Regions,
    check_empty,
    check_foreground_weights,
    foreground_weights,
    over_classes,
    regions,
)
from kerazoo.losses.cross_entropy import as_list
from kerazoo.types import Tensor

_LEAST_VARIANCE = 1e-12
"""Least variance of the prediction in the denominator: the correlation of a constant is 0 with a finite gradient."""


@keras.saving.register_keras_serializable("kerazoo", name="losses.MCC")
class MCC(Loss):
    r"""Mean over images of the mean over foreground classes of 1 - Matthews correlation of truth and probability.

    The coefficient with soft counts, `(TP TN - FP FN) / √((TP + FP)(TP + FN)(TN + FP)(TN + FN))`, is
    `(I/N - P/N · T/N) / √(P/N (1 - P/N) · T/N (1 - T/N))` with `I = Σ t p`, `T = Σ t`, `P = Σ p` over the N valid
    pixels of one image, and is computed so, because the product of four counts overflows float32.

    It is 0/0 for every prediction where the truth has one value only: in an image without the class, and in one that
    the class fills. `empty` says what such a pair of image and class is worth:

    - "skip": nothing, it takes no part; also where the class fills the image.
    - "one": 0/0 := 1, so the loss is 0 whatever is predicted, without a gradient. False positives are free.
    - "penalize": `log(1 + A) / log(1 + N)`, A the area that is wrong: predicted where there is none of the class, not
      predicted where there is nothing else.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 2], 1 for a prediction that knows nothing; per image `(B,)` with `reduction=None`.

    Args:
        empty: "skip", "one" or "penalize", see above.
        class_weights: Weights of the mean over classes, one per mask id, background first. That
            of the background has no effect, nor has any where there is one foreground class. None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, `class_weights` or shapes do not fit.
    """

    per_pixel = False

    def __init__(
        self,
        *,
        empty: Empty = "skip",
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        name: str | None = "mcc",
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        self.empty: Empty = check_empty(empty, "MCC")
        self.class_weights = check_foreground_weights(class_weights, "MCC")

    @staticmethod
    def _costs(sizes: Regions) -> Tensor:
        """`(B, F)` 1 - correlation; 0 where the truth has one value only."""
        pixels = ops.maximum(sizes.pixels, 1.0)
        true, predicted = sizes.truth / pixels, sizes.predicted / pixels
        varies = true * (1.0 - true) > 0
        spread = ops.where(varies, true * (1.0 - true), ops.ones_like(true))
        spread = spread * ops.maximum(predicted * (1.0 - predicted), _LEAST_VARIANCE)
        correlation = (sizes.overlap / pixels - predicted * true) / ops.sqrt(spread)
        return ops.where(varies, 1.0 - correlation, ops.zeros_like(correlation))

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images take part."""
        sizes = regions(labels, logits)
        full = sizes.truth >= sizes.pixels
        present = ops.logical_and(sizes.truth > 0, ops.logical_not(full))
        wrong = ops.where(full, sizes.pixels - sizes.predicted, sizes.predicted)
        weights = foreground_weights(self.class_weights, sizes, "MCC")
        return over_classes(self._costs(sizes), sizes, self.empty, class_weights=weights, present=present, wrong=wrong)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "empty": self.empty, "class_weights": as_list(self.class_weights)}
