"""Rectified Adam (Liu et al., 2020, https://arxiv.org/abs/1908.03265).

Agrees with `torch.optim.RAdam`, which differs from the paper in that ε is added to the root of v, and in the threshold
ρ_t > 5 (the paper: 4).
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.optimizers._moments import Moments
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="optimizers.RAdam")
class RAdam(Moments):
    r"""Adam whose variance is rectified in the first steps, so that it needs no warm-up.

    With the gradient g at step t (from 1), and ρ_∞ = 2 / (1 - β₂) - 1:

        m ← β₁ m + (1 - β₁) g                    v ← β₂ v + (1 - β₂) g²
        ρ = ρ_∞ - 2 t β₂ᵗ / (1 - β₂ᵗ)            r² = (ρ - 4)(ρ - 2) ρ_∞ / ((ρ_∞ - 4)(ρ_∞ - 2) ρ)
        w ← w - lr · m / (1 - β₁ᵗ) · r √(1 - β₂ᵗ) / (√v + ε)    where ρ > 5
        w ← w - lr · m / (1 - β₁ᵗ)                              else

    Args:
        learning_rate: lr: a number, or a schedule as `keras.optimizers.schedules.CosineDecay`.
        beta_1: β₁ in [0, 1).
        beta_2: β₂ in (0, 1).
        epsilon: ε.
        weight_decay: λ of at least 0. Added to the gradient, g ← g + λ w, as PyTorch does by default.
        decoupled: Decay the weights instead, w ← (1 - lr λ) w, as AdamW does.
        exclude: Names of variables without decay, such as `("bias", "gamma", "beta")`: any variable whose name contains
            one. Kept in the config, so also after loading, unlike what `exclude_from_weight_decay` sets.
        name: Name of the optimizer.
        **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency`,
            `loss_scale_factor`, `gradient_accumulation_steps` of `keras.optimizers.Optimizer`. Clipping comes before
            decay.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        exclude: Sequence[str] = (),
        name: str = "radam",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            decoupled=decoupled,
            exclude=exclude,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Update one variable, its m and v."""
        _, m, v = self.update_moments(gradient, variable)
        dtype = variable.dtype
        plain, rectified, rectify = self._factors(ops.cast(self.iterations, "float32") + 1.0)
        learning_rate = ops.cast(learning_rate, "float32")
        slow = ops.cast(learning_rate * plain, dtype)
        fast = ops.cast(learning_rate * rectified, dtype) / (ops.sqrt(v) + self.epsilon)
        self.assign_sub(variable, m * ops.where(rectify, fast, slow))

    def _factors(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`1 / (1 - β₁ᵗ)`, `r √(1 - β₂ᵗ) / (1 - β₁ᵗ)`, and whether ρ > 5, at step t in float32.

        ρ as written above is a difference of two numbers near 2 / (1 - β₂): at t = 5 and β₂ = 0.999 float32 would be
        wrong by 0.1. With a = -log β₂ and x = a t it is also (2 / (1 - β₂) - 1 - 2 / a) + t k(x), where
        k(x) = 2 / x - 2 / (eˣ - 1) = 1 - x / 6 + x³ / 360 - x⁵ / 15120 + …, with nothing large to cancel.
        """
        decay = -math.log(self.beta_2)
        limit = 2.0 / (1.0 - self.beta_2) - 1.0
        x = decay * step
        square = ops.square(x)
        series = 1.0 - x * (1 / 6 - square * (1 / 360 - square / 15120))
        closed = 2.0 / x - 2.0 / ops.expm1(x)
        rho = (limit - 2.0 / decay) + step * ops.where(x < 1.0, series, closed)
        rectify = rho > 5.0
        safe = ops.where(rectify, rho, 6.0)
        scale = limit / ((limit - 4.0) * (limit - 2.0)) if limit > 5.0 else 0.0
        rectification = ops.sqrt((safe - 4.0) * (safe - 2.0) / safe * scale * -ops.expm1(-x))
        plain = 1.0 / (1.0 - self.beta_1**step) if self.beta_1 else ops.ones_like(step)
        return plain, rectification * plain, rectify
