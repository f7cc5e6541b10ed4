"""Encoders as models."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerazoo.arguments import check_whole, is_whole
from kerazoo.encoders.weights import load_weights
from kerazoo.outputs import as_list
from kerazoo.types import Encoder, Features, Level, Switches, Tensor


@dataclass(frozen=True)
class BuiltEncoder:
    """An encoder as a model, and what its outputs are.

    Attributes:
        model: Named "encoder"; from an image to a list: the levels, fine to coarse, then the switches, fine to coarse.
        strides: Of the levels.
        switch_strides: Strides after the poolings whose switches it gives; None without switches.
    """

    model: keras.Model
    strides: tuple[int, ...]
    switch_strides: tuple[int, ...] | None = None

    def __call__(self, image: Tensor) -> tuple[Features, Switches | None]:
        """The levels of an image, and the switches if there are any."""
        outputs = as_list(self.model(image))
        levels, switches = outputs[: len(self.strides)], outputs[len(self.strides) :]
        features = tuple(map(Level, self.strides, levels))
        if self.switch_strides is None:
            return features, None
        return features, dict(zip(self.switch_strides, switches, strict=True))


def check_image_shape(image_shape: Any) -> tuple[int | None, int | None, int]:
    """Return `image_shape` as `(height or None, width or None, channels)`.

    Raises:
        ValueError: it has another length, sizes that are not positive, or no channel count.
    """
    shape = tuple(image_shape) if isinstance(image_shape, Iterable) else ()
    sizes = [n for n in shape[:2] if n is not None] + list(shape[2:])
    if len(shape) != 3 or not all(is_whole(n) and n > 0 for n in sizes):
        raise ValueError(
            "`image_shape` must be (height, width, channels) without the batch, height and width positive or None for "
            f"any size, channels a positive number; received {image_shape}."
        )
    height, width = (None if n is None else int(n) for n in shape[:2])
    return height, width, int(shape[2])


def build_encoder(
    part: Encoder,
    *,
    image_shape: tuple[int | None, int | None, int],
    weights: str | Path | None = None,
    output_stride: int | None = None,
    default_output_stride: int = 32,
    depth: int | None = None,
    preprocessing: bool = False,
    switches: bool = False,
) -> BuiltEncoder:
    """Build the model of an encoder part.

    Args:
        part: Of `ENCODERS`, or what `as_encoder` made of something else.
        image_shape: `(height, width, channels)`, sizes None for any.
        weights: None for random ones; a name of the catalog, or the path of a file, as `load_weights` takes them.
        output_stride: Stride of the coarsest level; smaller ones than the family's dilate its convolutions. None leaves
            it to `default_output_stride`, which a prebuilt encoder does not heed.
        default_output_stride: Stride of the coarsest level if no one asked for one.
        depth: Number of levels, None for all.
        preprocessing: Whether the model takes raw images in [0, 255] and normalizes them itself.
        switches: Whether the switches of its poolings are further outputs.

    Returns: the model and what its outputs are.

    Raises:
        ValueError: an argument is not what the part can do.
        FileNotFoundError: there is no file at `weights`.
        OSError: the weights could not be downloaded.
    """
    if part.prebuilt and weights is not None:
        raise ValueError(f"`weights` belongs to encoders given by name; {part} comes with its own. Leave it out.")
    if part.prebuilt and output_stride is not None:
        raise ValueError(
            f"`output_stride` belongs to encoders given by name; {part} has the strides it was built with. Leave it "
            "out."
        )
    image = keras.Input(check_image_shape(image_shape), name="image")
    x = part.preprocess(image) if preprocessing else image
    stride = default_output_stride if output_stride is None else output_stride
    check_whole("An encoder", "output_stride", stride)
    if depth is not None:
        check_whole("An encoder", "depth", depth)
    options: dict[str, Any] = {"output_stride": stride, "depth": depth}
    features, maxima = part.with_switches(x, **options) if switches else (part(x, **options), {})
    levels = [level.tensor for level in features]
    if weights is not None:
        load_weights(keras.Model(image, levels, name="encoder"), part, weights)
    model = keras.Model(image, [*levels, *maxima.values()], name="encoder")
    return BuiltEncoder(model, tuple(level.stride for level in features), tuple(maxima) if switches else None)
