"""Shift-and-stitch: the output of a strided network at every pixel, and not only at every f-th.

Long et al., 2015, https://arxiv.org/abs/1411.4038, section 3.2.
"""

import math
from typing import Any

import keras
import numpy as np

from kerazoo.arguments import is_whole

_SIZE = math.lcm(256, 7 * 9 * 5)
"""Pixels that every stride divides."""


def shift_and_stitch(model: keras.Model, images: Any, *, stride: int | None = None) -> np.ndarray:
    """Run a strided model on every shift of the images by less than its stride, and interleave its outputs.

    Rows i, i + stride, … of the result are those of the images without their first i rows, and columns likewise. So a
    heat map by `kerazoo.convert.convolutionalise` classifies the window that starts at each pixel. Nothing is
    interpolated; the price is `stride ** 2` runs of the model.

    Args:
        model: From images `(B, H, W, C)` of any size to one map, `(B, h, w, K)`: a heat map, an encoder of one level,
            or a segmenter's decoded level. Not a segmenter, whose logits have the size of the image.
        images: `(B, H, W, C)` array.
        stride: Pixels between two rows of the map; None measures it.

    Returns: `(B, h', w', K)` float array with the rows and columns of all shifts: H and W where every level is padded,
        H - window + 1 where nothing is.

    Raises:
        TypeError: `model` is no Keras model, or has several outputs.
        ValueError: it was built for one size, its output is no map, `images` are no batch of images, or it has no
            exact stride and `stride` is not given.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"`images` must be (B, height, width, channels), received the shape {images.shape}.")
    _check(model)
    step = _measured_stride(model) if stride is None else stride
    if not is_whole(step) or step < 1:
        raise ValueError(f"`stride` must be a whole number of at least 1, or None to measure it; received {stride!r}.")
    shifted = {
        (down, right): np.asarray(model.predict_on_batch(images[:, down:, right:]))
        for down in range(min(step, images.shape[1]))
        for right in range(min(step, images.shape[2]))
    }
    first = shifted[0, 0]
    rows = sum(part.shape[1] for (_, right), part in shifted.items() if right == 0)
    columns = sum(part.shape[2] for (down, _), part in shifted.items() if down == 0)
    stitched = np.empty((first.shape[0], rows, columns, first.shape[3]), first.dtype)
    for (down, right), part in shifted.items():
        stitched[:, down::step, right::step] = part
    return stitched


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model) or len(getattr(model, "outputs", None) or ()) != 1:
        raise TypeError(
            f"`model` must be a Keras model with one output, received {model!r}. Of several outputs, make a model of "
            "one: keras.Model(model.input, model.outputs[0])."
        )
    if len(model.outputs[0].shape) != 4 or model.input_shape[1:3] != (None, None):
        raise ValueError(
            "`model` must go from images of any size to a map (B, h, w, K); it goes from "
            f"{model.input_shape} to {tuple(model.outputs[0].shape)}. Build it for images of (None, None, channels)."
        )


def _measured_stride(model: keras.Model) -> int:
    """Pixels per row, by how much larger the map of a larger image is."""
    channels = model.input_shape[-1]
    sizes = [keras.KerasTensor((1, size, size, channels), dtype=model.inputs[0].dtype) for size in (_SIZE, 2 * _SIZE)]
    small, large = (keras.tree.flatten(model.compute_output_spec(size))[0].shape[1] for size in sizes)
    if large <= small or _SIZE % (large - small):
        raise ValueError(
            f"{model.name!r} has no exact stride: {_SIZE} more rows of the image are {large - small} more of its map. "
            "Give `stride`."
        )
    return _SIZE // (large - small)
