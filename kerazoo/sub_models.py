"""Parts as models of their own, so that they can be found, frozen and exchanged by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerazoo.outputs import as_list
from kerazoo.types import Features, Level, Tensor


@dataclass(frozen=True)
class SubModel:
    """A part, wired but not yet called on the levels of another one.

    Attributes:
        model: Takes the levels that the part was wired for, and switches if it has any; gives a list of levels.
        strides: Of the levels that it gives.
    """

    model: keras.Model
    strides: tuple[int, ...]

    @classmethod
    def wire(cls, name: str, part: Any, features: Features, switches: Mapping[int, Tensor] | None = None) -> "SubModel":
        """Call `part` on inputs with the shapes and dtypes of `features`, and of `switches` unless None."""
        inputs = tuple(
            Level(stride, keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"{name}_in{position}"))
            for position, (stride, tensor) in enumerate(features)
        )
        maps = {
            stride: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"{name}_switches{stride}")
            for stride, tensor in (switches or {}).items()
        }
        outputs: Features = part(inputs) if switches is None else part(inputs, maps)
        tensors = [*(level.tensor for level in inputs), *maps.values()]
        model = keras.Model(tensors, [level.tensor for level in outputs], name=name)
        return cls(model, tuple(level.stride for level in outputs))

    @property
    def levels(self) -> Features:
        """The levels that it gives, symbolically."""
        return levels(self.strides, self.model.outputs)

    def __call__(self, features: Features, switches: Mapping[int, Tensor] | None = None) -> Features:
        """The levels that it gives for `features`."""
        return levels(self.strides, self.model([*(level.tensor for level in features), *(switches or {}).values()]))

    def reads(self) -> list[bool]:
        """Whether anything that it gives depends on an input, for each input."""
        inputs = self.model.inputs
        return [len(inputs) == 1 or not _connected([y for y in inputs if y is not x], self.model) for x in inputs]

    def reading(self, kept: list[bool]) -> "SubModel":
        """The same without those of its inputs that are not to be kept, which it must not read."""
        inputs = [x for x, keep in zip(self.model.inputs, kept, strict=True) if keep]
        return SubModel(keras.Model(inputs, self.model.outputs, name=self.model.name), self.strides)

    def giving(self, kept: list[bool]) -> "SubModel":
        """The same without those of its levels that are not to be kept, and the layers that only they need."""
        some = [level for level, keep in zip(self.levels, kept, strict=True) if keep]
        model = keras.Model(self.model.inputs, [level.tensor for level in some], name=self.model.name)
        return SubModel(model, tuple(level.stride for level in some))


def levels(strides: tuple[int, ...], tensors: Any) -> Features:
    """Levels of strides and as many tensors, which may be a single one without a list."""
    return tuple(Level(stride, tensor) for stride, tensor in zip(strides, as_list(tensors), strict=True))


def _connected(inputs: list[Tensor], model: keras.Model) -> bool:
    """Whether `inputs` are enough for the outputs of a model."""
    try:
        keras.Model(inputs, model.outputs)
    except ValueError:
        return False
    return True
