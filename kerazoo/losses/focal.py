"""Focal loss (Lin et al., 2017, https://arxiv.org/abs/1708.02002).

Differs from the paper: also for softmax logits. Keras's `CategoricalFocalCrossentropy` clips probabilities at 1e-7,
which stops the gradient of confident mistakes; this is computed from the logits.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.arguments import is_number
from kerazoo.labels import Labels
from kerazoo.losses._base import Loss
from kerazoo.losses.cross_entropy import check_class_weights, fit_class_weights, log_probs
from kerazoo.types import Tensor

_FAR_BELOW = 1e9  # subtracted from a logit so that its exponential is 0


@keras.saving.register_keras_serializable("kerazoo", name="losses.Focal")
class Focal(Loss):
    r"""Mean over valid pixels of `-α_t (1 - p_t)^γ log p_t`.

    `p_t` is the probability of the true class. `(1 - p_t)^γ` is computed as `exp(γ log(1 - p_t))` from the logits:
    value and gradient are finite for every γ and for logits of ±1e4.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)` or
        `(B, H, W)`.
    Returns: scalar; per pixel `(B, H, W)` with `reduction=None`.

    Args:
        alpha: α_t. A number α in [0, 1]: α for foreground classes, 1 - α for the background. One weight per mask id,
            background first. None: 1 each.
        gamma: γ of at least 0; with 0 this is the cross-entropy.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `alpha` or `gamma` is outside its range, there is not one `alpha` per mask id, or shapes do not fit.
    """

    per_pixel = True

    def __init__(
        self,
        *,
        alpha: float | Sequence[float] | None = None,
        gamma: float = 2.0,
        ignore_class: int | None = None,
        name: str | None = "focal",
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        if not (is_number(gamma) and gamma >= 0):
            raise ValueError(f"Focal takes `gamma` of at least 0, received {gamma!r}.")
        if isinstance(alpha, numbers.Real):
            alpha = float(alpha)
            if not 0 <= alpha <= 1:
                raise ValueError(f"Focal takes a number `alpha` in [0, 1], received {alpha}.")
            self.alpha: float | tuple[float, ...] | None = alpha
        else:
            self.alpha = check_class_weights(alpha, "Focal", "alpha")
        self.gamma = float(gamma)

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Focal loss of each pixel, and which pixels are valid."""
        target = ops.one_hot(labels.ids, labels.num_ids, dtype=logits.dtype)
        log_p = log_probs(logits)
        if labels.num_ids == 2:
            log_rest = ops.sum((1.0 - target) * log_p, axis=-1)  # of the one other class
        else:
            log_rest = ops.logsumexp(log_p - _FAR_BELOW * target, axis=-1)
        values = -ops.exp(self.gamma * log_rest) * ops.sum(target * log_p, axis=-1)
        if self.alpha is not None:
            weights = ops.convert_to_tensor(self._weights(self.alpha, labels.num_ids), dtype=logits.dtype)
            values = values * ops.sum(target * weights, axis=-1)
        return ops.where(labels.valid, values, ops.zeros_like(values)), labels.valid

    @staticmethod
    def _weights(alpha: float | tuple[float, ...], num_ids: int) -> tuple[float, ...]:
        if isinstance(alpha, tuple):
            return fit_class_weights(alpha, num_ids, "Focal", "alpha")
        return (1.0 - alpha,) + (alpha,) * (num_ids - 1)

    def get_config(self) -> dict[str, Any]:
        alpha = list(self.alpha) if isinstance(self.alpha, tuple) else self.alpha  # Keras wraps tuples in a dict
        return {**super().get_config(), "alpha": alpha, "gamma": self.gamma}
