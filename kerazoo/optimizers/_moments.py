"""Base class of the optimizers: moments of the gradient, coupled and decoupled weight decay with exclusions."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.types import Tensor


class Moments(keras.optimizers.Optimizer):
    """Optimizer with exponential moving averages m and v of the gradient and its square.

    Args:
        learning_rate: A number, or a schedule as `keras.optimizers.schedules.CosineDecay`.
        beta_1: β₁ in [0, 1).
        beta_2: β₂ in (0, 1).
        epsilon: ε of at least 0.
        weight_decay: λ of at least 0.
        decoupled: Decay the weights directly instead of adding λ w to the gradient.
        exclude: Names of variables without decay: any variable whose name contains one.
        name: Name of the optimizer.
        **kwargs: Of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        weight_decay: float | None,
        decoupled: bool,
        exclude: Sequence[str],
        name: str,
        **kwargs: Any,
    ):
        weight_decay = 0.0 if weight_decay is None else float(weight_decay)
        owner = type(self).__name__
        for argument, value, fits in (
            ("beta_1", beta_1, 0 <= beta_1 < 1),
            ("beta_2", beta_2, 0 < beta_2 < 1),
            ("epsilon", epsilon, epsilon >= 0),
            ("weight_decay", weight_decay, weight_decay >= 0),
        ):
            if not fits:
                rule = {"beta_1": "in [0, 1)", "beta_2": "in (0, 1)"}.get(argument, "of at least 0")
                raise ValueError(f"{owner} takes `{argument}` {rule}, received {value}.")
        if isinstance(exclude, str):
            raise ValueError(
                f"{owner} takes a sequence of names as `exclude`, received {exclude!r}. Use ({exclude!r},)."
            )
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)
        self.decoupled = bool(decoupled)
        self.exclude = tuple(exclude)
        if self.exclude:
            self.exclude_from_weight_decay(var_names=list(self.exclude))

    def build(self, variables: list) -> None:
        """Create m and v for each variable, as zeros."""
        if self.built:
            return
        super().build(variables)
        self.m, self.v = self.add_optimizer_variables(variables, ["m", "v"])

    def update_moments(self, gradient: Tensor, variable: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Update m and v of one variable.

        Returns: the gradient with coupled weight decay, m, and v, in the dtype of the variable.
        """
        index, dtype = self._get_variable_index(variable), variable.dtype
        m, v = self.m[index], self.v[index]
        gradient = ops.cast(gradient, dtype)
        if self.weight_decay and not self.decoupled and self._use_weight_decay(variable):
            gradient = gradient + ops.cast(self.weight_decay, dtype) * variable
        self.assign_add(m, (gradient - m) * (1.0 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1.0 - self.beta_2))
        return gradient, m, v

    def _apply_weight_decay(self, variables: list) -> None:
        """Keras's own decay is the decoupled one."""
        if self.decoupled and self.weight_decay:
            super()._apply_weight_decay(variables)

    def get_config(self) -> dict[str, Any]:
        own = {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "decoupled": self.decoupled,
            "exclude": list(self.exclude),  # Keras wraps tuples in a dict
        }
        return {**super().get_config(), **own}
