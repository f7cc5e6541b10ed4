"""AngularGrad (Roy et al., 2021, https://arxiv.org/abs/2105.10190).

Follows the paper's equations, element by element. The code published with the paper compares with an angle that starts
at 0 and is replaced for a whole tensor at once, so that its coefficient hardly ever leaves ½.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.optimizers._moments import Moments
from kerazoo.types import Tensor

ANGLES = ("cos", "tan")


@keras.saving.register_keras_serializable("kerazoo", name="optimizers.AngularGrad")
class AngularGrad(Moments):
    r"""Adam whose step is scaled by the angle between successive gradients, to reduce zig-zag.

    With the gradient g at step t (from 1), and A_0 = π / 2:

        m ← β₁ m + (1 - β₁) g                    v ← β₂ v + (1 - β₂) g²
        A_t = arctan |(g_t - g_{t-1}) / (1 + g_t g_{t-1})|
        φ = ½ tanh |∠ min(A_t, A_{t-1})| + ½     ∠ the cosine or the tangent
        w ← w - lr · φ · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)

    φ is in [½, 1]: with the cosine 0.88 for constant gradients, and ½ where they reverse; with the tangent it is the
    other way round, ½ for constant ones.

    Args:
        learning_rate: lr: a number, or a schedule as `keras.optimizers.schedules.CosineDecay`.
        angle: "cos" or "tan".
        beta_1: β₁ in [0, 1).
        beta_2: β₂ in (0, 1).
        epsilon: ε.
        weight_decay: λ of at least 0. Added to the gradient, g ← g + λ w.
        decoupled: Decay the weights instead, w ← (1 - lr λ) w, as AdamW does.
        exclude: Names of variables without decay, such as `("bias", "gamma", "beta")`: any variable whose name contains
            one.
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
        angle: str = "cos",
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        exclude: Sequence[str] = (),
        name: str = "angular_grad",
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
        if angle not in ANGLES:
            raise ValueError(f"AngularGrad takes `angle` one of {ANGLES}, received {angle!r}.")
        self.angle = angle

    def build(self, variables: list) -> None:
        """Create the moments, the previous gradient and π / 2 - the previous angle of each variable, as zeros."""
        if self.built:
            return
        super().build(variables)
        self.last, self.steady = self.add_optimizer_variables(variables, ["last", "steady"])

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Update one variable, its moments, its previous gradient and angle."""
        gradient, m, v = self.update_moments(gradient, variable)
        index, dtype = self._get_variable_index(variable), variable.dtype
        last, steady = self.last[index], self.steady[index]
        turned, stayed = ops.abs(gradient - last), ops.abs(1.0 + gradient * last)
        angle = ops.arctan2(turned, stayed)
        least = ops.minimum(angle, math.pi / 2 - steady)
        coefficient = 0.5 * ops.tanh(ops.abs(ops.cos(least) if self.angle == "cos" else ops.tan(least))) + 0.5
        self.assign(steady, math.pi / 2 - angle)
        self.assign(last, gradient)
        step = ops.cast(self.iterations, "float32") + 1.0
        # -expm1(t log β) is 1 - βᵗ without the cancellation; a β of 0 has no logarithm
        first = -ops.expm1(step * math.log(self.beta_1)) if self.beta_1 else 1.0
        second = -ops.expm1(step * math.log(self.beta_2))
        rate = ops.cast(ops.cast(learning_rate, "float32") / first, dtype)
        root = ops.sqrt(v / ops.cast(second, dtype))
        self.assign_sub(variable, rate * coefficient * m / (root + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "angle": self.angle}
