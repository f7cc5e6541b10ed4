"""Backbones of other libraries as encoders: any model that says what its levels are."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

from kerazoo.encoders.measure import strides
from kerazoo.outputs import as_list
from kerazoo.types import Encoder, Features, Level, Tensor


def has_levels(model: Any) -> bool:
    """Whether a model has `pyramid_outputs` (KerasHub) or `pyramid_level_inputs` (KerasCV)."""
    return hasattr(model, "pyramid_outputs") or hasattr(model, "pyramid_level_inputs")


@dataclass(frozen=True)
class Backbone(Encoder):
    """A model with levels, which comes with its own weights and gets images as they are.

    Strides are measured from shapes: families number their levels differently.

    Args:
        model: With `pyramid_outputs`, a dict from any names to maps; or `pyramid_level_inputs`, to names of layers.

    Call: `image`; `output_stride` is left to the model; `depth`, the number of levels to return, None for all.
    Returns: the levels, fine to coarse.
    Raises: ValueError if the model has no levels, or outputs that are no maps or have no exact stride, takes another
        number of channels than the image has, or was built for another size or for one that its strides do not divide.
    """

    model: Any

    prebuilt = True

    def __str__(self) -> str:
        return repr(self.model.name)

    @property
    def pad_multiple(self) -> int:
        """Stride of the coarsest level."""
        return self._levels[-1].stride

    def preprocess(self, image: Tensor) -> Tensor:
        """The image as it is: normalize it before, or put a layer in front of the backbone."""
        return image

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        levels = self._levels
        if depth is not None and not 1 <= depth <= len(levels):
            raise ValueError(f"{self.model.name!r} has 1 to {len(levels)} levels, received depth={depth}.")
        self._check(image.shape, [level.stride for level in levels])
        levels = levels[:depth]
        pyramid = keras.Model(self.model.inputs, [level.tensor for level in levels], name="pyramid")
        return tuple(Level(level.stride, x) for level, x in zip(levels, as_list(pyramid(image)), strict=True))

    @cached_property
    def _levels(self) -> list[Level]:
        """The model's own levels, fine to coarse."""
        outputs = self._outputs
        if not outputs:
            raise ValueError(f"The backbone {self.model.name!r} has no levels: its `pyramid_outputs` are empty.")
        for name, output in outputs.items():
            if len(output.shape) != 4:
                raise ValueError(
                    f"The backbone {self.model.name!r} has no maps: {name!r} is {tuple(output.shape)}, and levels are "
                    "(batch, height, width, channels). Reshape the tokens of a vision transformer first."
                )
        measured = strides(keras.Model(self.model.inputs, list(outputs.values())))
        return sorted(map(Level, measured, outputs.values()), key=lambda level: level.stride)

    @property
    def _outputs(self) -> dict[str, Tensor]:
        if hasattr(self.model, "pyramid_outputs"):
            return self.model.pyramid_outputs
        return {name: self.model.get_layer(layer).output for name, layer in self.model.pyramid_level_inputs.items()}

    def _check(self, image_shape: tuple[int | None, ...], measured: list[int]) -> None:
        """Raise ValueError unless the model takes such images."""
        name, built = self.model.name, self.model.input_shape
        if built[-1] != image_shape[-1]:
            raise ValueError(
                f"The backbone {name!r} takes {built[-1]} channels, image_shape={image_shape[1:]} has "
                f"{image_shape[-1]}."
            )
        if any(n is not None and n % stride for n in built[1:3] for stride in measured):
            raise ValueError(
                f"The backbone {name!r} was built for images of {built[1:3]}, which its strides do not divide. Build "
                "it for a multiple of 32, or for any size."
            )
        if any(own not in (None, given) for own, given in zip(built[1:3], image_shape[1:3], strict=True)):
            raise ValueError(
                f"The backbone {name!r} was built for images of {built[1:3]}, and would get {image_shape[1:3]}. Pass "
                f"image_shape={built[1:]}, or build it for any size."
            )
