"""Focal Tversky loss (Abraham and Khan, 2019, https://arxiv.org/abs/1810.07842).

Differs from the paper: a mean over foreground classes instead of their sum, an explicit policy for classes that an
image does not have, and alpha weighs false positives, beta false negatives (in this paper it is the reverse).
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.arguments import is_number
from kerazoo.losses._overlap import Empty, Regions
from kerazoo.losses.tversky import Tversky
from kerazoo.types import Tensor

_NEARLY_PERFECT = 1e-6
"""Costs below this are 0: the slope of a root is infinite at 0."""


@keras.saving.register_keras_serializable("kerazoo", name="losses.FocalTversky")
class FocalTversky(Tversky):
    r"""Mean over images of the mean over foreground classes of `(1 - TI)^(1 / gamma)`, TI the Tversky index.

    `TI = (I + smooth) / (I + alpha FP + beta FN + smooth)` of the soft counts of one image and class. A `gamma` above 1
    raises the cost of regions that are nearly right relative to those that are wrong, so that small regions keep a
    gradient; 1 is `Tversky`. The slope is infinite for a perfect region, so costs below 1e-6 are 0 with a gradient of
    0. The penalty of "penalize" is not raised to the power.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)` with `reduction=None`.

    Args:
        gamma: At least 1; the paper takes 4/3.
        alpha: Weight of false positives, more than 0.
        beta: Weight of false negatives, more than 0.
        empty: What a class that the image does not have is worth. "skip": nothing, it takes no part. "one": the formula
            as it stands, 0/0 := 1. "penalize": `log(1 + A) / log(1 + N)`, A the predicted area, N the valid pixels.
        smooth: Pixels added to numerator and denominator, at least 0.
        class_weights: Weights of the mean over classes, one per mask id, background first. That
            of the background has no effect, nor has any where there is one foreground class. None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `gamma` is less than 1, or what `Tversky` raises.
    """

    def __init__(
        self,
        *,
        gamma: float = 4 / 3,
        alpha: float = 0.3,
        beta: float = 0.7,
        empty: Empty = "skip",
        smooth: float = 0.0,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        name: str | None = "focal_tversky",
        **kwargs: Any,
    ):
        super().__init__(
            alpha=alpha,
            beta=beta,
            empty=empty,
            smooth=smooth,
            class_weights=class_weights,
            ignore_class=ignore_class,
            name=name,
            **kwargs,
        )
        if not (is_number(gamma) and gamma >= 1):
            raise ValueError(f"FocalTversky takes `gamma` of at least 1, received {gamma!r}.")
        self.gamma = float(gamma)

    def costs(self, sizes: Regions) -> Tensor:
        """`(B, F)` (1 - TI)^(1 / gamma)."""
        cost = super().costs(sizes)
        wrong = cost > _NEARLY_PERFECT
        focused = ops.power(ops.where(wrong, cost, ops.ones_like(cost)), 1.0 / self.gamma)
        return ops.where(wrong, focused, ops.zeros_like(cost))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma}
