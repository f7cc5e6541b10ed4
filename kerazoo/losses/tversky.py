"""Tversky loss (Salehi et al., 2017, https://arxiv.org/abs/1706.05721).

Differs from the paper: a mean over foreground classes, and an explicit policy for classes that an image does not have.
"""

from collections.abc import Sequence
from typing import Any

import keras

from kerazoo.arguments import is_number
from kerazoo.losses._overlap import Empty, OverlapLoss, Regions, ratio_or_one
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.Tversky")
class Tversky(OverlapLoss):
    r"""Mean over images of the mean over foreground classes of 1 - TI.

    `TI = (I + smooth) / (I + alpha FP + beta FN + smooth)` with `I = Σ t p`, `FP = Σ (1 - t) p` and `FN = Σ t (1 - p)`
    over the valid pixels of one image, `t` the truth and `p` the sigmoid or softmax probability. `alpha = beta = 0.5`
    is `SoftDice`, `alpha = beta = 1` is `Jaccard`; `beta > alpha` asks for recall.

    For an image without a pixel of the class TI is 0 as soon as anything is predicted, without a gradient; `empty` says
    what it is worth instead.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)` with `reduction=None`.

    Args:
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
        ValueError: `alpha` or `beta` is not positive, `empty` is not a policy, `smooth` is negative,
            `class_weights` or shapes do not fit.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        empty: Empty = "skip",
        smooth: float = 0.0,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        name: str | None = "tversky",
        **kwargs: Any,
    ):
        super().__init__(
            empty=empty, smooth=smooth, class_weights=class_weights, ignore_class=ignore_class, name=name, **kwargs
        )
        if not all(is_number(weight) and weight > 0 for weight in (alpha, beta)):
            raise ValueError(
                f"{type(self).__name__} takes `alpha` and `beta` above 0, received {alpha!r} and {beta!r}."
            )
        self.alpha = float(alpha)
        self.beta = float(beta)

    def costs(self, sizes: Regions) -> Tensor:
        """`(B, F)` 1 - TI."""
        missed, false = sizes.truth - sizes.overlap, sizes.predicted - sizes.overlap
        below = sizes.overlap + self.alpha * false + self.beta * missed
        return 1.0 - ratio_or_one(sizes.overlap + self.smooth, below + self.smooth)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}
