"""Gaussian blur of maps, without trainable weights.

Separable: two passes, along the rows and along the columns, of size + size multiplications per pixel and not size².
"""

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import check_choice, check_whole

BORDERS = ("renormalize", "zeros")


@keras.saving.register_keras_serializable("kerazoo")
class GaussianSmooth(keras.layers.Layer):
    """Convolve each channel with a fixed Gaussian kernel of sum 1.

    An even `size` has no center pixel: it shifts maps by half a pixel to the upper left.

    Args:
        sigma: Standard deviation in pixels, above 0.
        size: Pixels per row and column of the kernel; None takes the odd number next above 6 sigma, which leaves out
            0.3 % of the weight.
        border: "renormalize" divides by the weight of the kernel inside the map, so that a constant map stays constant;
            "zeros" pads with zeros, which pulls logits at the border towards 0.
        train_only: Whether the layer is the identity outside of training, so that predictions keep their detail.

    Call: `inputs` `(B, H, W, C)`, floating point; `training`.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `sigma` is not above 0, `size` is not a whole number of at least 1, or `border` is unknown.
    """

    def __init__(
        self,
        *,
        sigma: float = 7.0,
        size: int | None = None,
        border: str = "renormalize",
        train_only: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not sigma > 0:
            raise ValueError(f"GaussianSmooth's `sigma` is in pixels and must be above 0, received {sigma}.")
        self.sigma = float(sigma)
        size = 2 * int(np.ceil(3 * sigma)) + 1 if size is None else size
        check_whole("GaussianSmooth", "size", size)
        check_choice("GaussianSmooth", "border", border, BORDERS)
        self.size = int(size)
        self.border = border
        self.train_only = bool(train_only)

    def call(self, inputs, training=False):
        if self.train_only and not training:
            return inputs
        smooth = self._pass(self._pass(inputs, axis=1), axis=2)
        if self.border == "zeros":
            return smooth
        inside = ops.ones_like(inputs[:1, :, :, :1])
        return smooth / self._pass(self._pass(inside, axis=1), axis=2)

    def _pass(self, x, *, axis: int):
        """Depthwise convolution along one axis."""
        kernel = ops.convert_to_tensor(gaussian(self.sigma, self.size), dtype=x.dtype)
        shape, pads = [1, 1, 1, 1], [[0, 0] for _ in range(4)]
        shape[axis - 1], pads[axis] = self.size, [(self.size - 1) // 2, self.size // 2]
        kernel = ops.tile(ops.reshape(kernel, shape), (1, 1, x.shape[-1], 1))
        return ops.depthwise_conv(ops.pad(x, pads), kernel, padding="valid")

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def get_config(self):
        own = {"sigma": self.sigma, "size": self.size, "border": self.border, "train_only": self.train_only}
        return {**super().get_config(), **own}


def gaussian(sigma: float, size: int) -> np.ndarray:
    """`(size,)` float64 weights of a Gaussian at the positions of a kernel, with sum 1."""
    positions = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * (positions / sigma) ** 2)
    return weights / weights.sum()
