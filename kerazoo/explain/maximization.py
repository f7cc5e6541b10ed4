"""Inputs that excite a unit, by gradient ascent.

Yosinski et al., 2015, https://arxiv.org/abs/1506.06579 (regularized activation maximization).
"""

import keras
import numpy as np
from keras import ops

from kerazoo.explain.gradients import Gradient, clear_gradients, coarsest, recorded
from kerazoo.explain.layer_paths import find_layer
from kerazoo.layers import GaussianSmooth
from kerazoo.types import Tensor


def activation_maximization(
    model: keras.Model,
    *,
    layer: str,
    channel: int,
    position: tuple[int, int] | None = None,
    image_size: tuple[int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 255.0),
    steps: int = 64,
    rate: float = 0.03,
    decay: float = 0.01,
    blur: float = 0.5,
    seed: int = 0,
) -> np.ndarray:
    """Gradient ascent from noise to an input that excites a unit.

    Each step goes along the gradient of the activation, scaled to a root mean square of 1, then shrinks towards the
    middle of the range and blurs, which keeps high frequencies from taking over, and clips.

    Args:
        model: Any Keras model with one input of images; it is neither trained nor changed.
        layer: Name of a layer, or the path to it, as in `grad_cam`; here it may give `(B, K)` too.
        channel: Index of the unit among the K.
        position: Row and column of one pixel of the map; None is the mean of all.
        image_size: Height and width; None is the model's, or 128×128 if it takes every size.
        value_range: Least and greatest value of an input: (0, 255) for models with preprocessing inside.
        steps: Steps of ascent.
        rate: Length of a step as share of the range.
        decay: Share by which an input shrinks towards the middle of the range in each step, in [0, 1).
        blur: Standard deviation of the Gaussian in pixels, 0 for none.
        seed: Of the noise.

    Returns: `(H, W, C)` float32 in `value_range`.

    Raises:
        ValueError: there is no such layer, channel or position, an argument is outside its range, or the unit does not
            respond to the noise it starts from.
    """
    low, high = value_range
    if not low < high or steps < 1 or not 0 <= decay < 1 or blur < 0 or not rate > 0:
        raise ValueError(
            "activation_maximization needs a `value_range` (low, high), `steps` of at least 1, `rate` above 0, `decay` "
            f"in [0, 1) and `blur` of at least 0; received {value_range}, {steps}, {rate}, {decay} and {blur}."
        )
    maximized = find_layer(model, layer)
    *fixed, channels = model.inputs[0].shape[1:]
    if image_size is None:
        image_size = (128, 128) if None in fixed else tuple(fixed)
    smooth = GaussianSmooth(sigma=blur, dtype="float32") if blur else lambda x: x

    def activation(x: Tensor) -> Tensor:
        with recorded(maximized) as outputs:
            model(x, training=False)
        return ops.sum(_unit(coarsest(outputs[-1]), channel, position))

    middle, span = (low + high) / 2, high - low
    noise = np.random.default_rng(seed).normal(0, 0.05 * span, (1, *image_size, channels))
    x = np.clip(middle + noise, low, high).astype("float32")
    gradient = Gradient(activation, x.shape)
    for step in range(steps):
        slope = gradient(x)
        length = np.sqrt(np.mean(slope**2, dtype="float64"))
        if length == 0 and step == 0:
            raise ValueError(
                f"Channel {channel} of {layer!r} does not respond to the noise of seed={seed}: its gradient is 0. Take "
                "another seed, or a layer before the activation function."
            )
        x = middle + (1 - decay) * (x + rate * span * slope / max(length, 1e-30) - middle)
        x = np.clip(ops.convert_to_numpy(smooth(x.astype("float32"))), low, high)
    clear_gradients(model)
    return x[0].astype("float32")


def _unit(output: Tensor, channel: int, position: tuple[int, int] | None) -> Tensor:
    """The activation of a unit, `(1,)`."""
    shape = tuple(output.shape)
    if len(shape) not in (2, 4) or not 0 <= channel < shape[-1]:
        raise ValueError(
            f"`channel` must be 0 to {shape[-1] - 1} of a layer that gives (B, h, w, K) or (B, K); received {channel} "
            f"for a layer that gives {shape}."
        )
    if position is None:
        return output[:, channel] if len(shape) == 2 else ops.mean(output[..., channel], axis=(1, 2))
    if len(shape) == 2 or not (0 <= position[0] < shape[1] and 0 <= position[1] < shape[2]):
        raise ValueError(f"`position` is (row, column) of a map; received {position} for a layer that gives {shape}.")
    return output[:, position[0], position[1], channel]
