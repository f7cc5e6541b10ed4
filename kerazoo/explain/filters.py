"""The filters of a first convolution, as pictures."""

import keras
import numpy as np
from keras import ops

from kerazoo.explain.layer_paths import find_layer, walk


def first_filters(model: keras.Model, *, layer: str | None = None) -> np.ndarray:
    """The filters of the first convolution: what a network looks for in the pixels themselves.

    Args:
        model: Any Keras model.
        layer: Name of a convolution, or the path to it, as in `grad_cam`; None is the first one of the model.

    Returns: `(filters, height, width, channels)` float32 in [0, 1]: 0.5 is a weight of 0, and the largest weight of
        each filter, in absolute value, is at 0 or 1.

    Raises:
        ValueError: there is no convolution, or `layer` is none.
    """
    if layer is None:
        found = next((one for _, one in walk(model) if isinstance(one, keras.layers.Conv2D)), None)
    else:
        found = find_layer(model, layer)
    if found is None or not isinstance(found, keras.layers.Conv2D):
        raise ValueError(
            f"`layer` must name a Conv2D; received {layer!r}, and {model.name!r} has "
            f"{'none' if layer is None else f'{type(found).__name__} there'}."
        )
    kernel: np.ndarray = np.moveaxis(np.asarray(ops.convert_to_numpy(found.kernel), "float32"), -1, 0)
    largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + kernel / (2 * np.where(largest > 0, largest, 1))
