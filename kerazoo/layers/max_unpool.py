"""Max unpooling: every value goes back to where the maximum was, all else is zero.

Noh et al., 2015, https://arxiv.org/abs/1505.04366; Badrinarayanan et al., 2017, https://arxiv.org/abs/1511.00561.
"""

from collections.abc import Sequence

import keras
from keras import ops

from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo")
class MaxUnpool(keras.layers.Layer):
    """Partial inverse of `MaxPoolWithIndices`: maxima return to their positions, other values are zero.

    Args:
        pool_size: Rows and columns of a window, as the pooling had.

    Call: `inputs` `(B, H, W, C)`, floating point; `switches` `(B, H, W, C)`, int32, positions inside the windows as
        `MaxPoolWithIndices` gives them.
    Returns: `(B, H * pool_size, W * pool_size, C)`, dtype of the layer. Where the pooled map had rows that do not fill
        a window, crop to its size.

    Raises:
        ValueError: `pool_size` is less than 1, or `inputs` and `switches` differ in channels.
    """

    def __init__(self, *, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        if pool_size < 1:
            raise ValueError(f"`pool_size` must be at least 1, received {pool_size}.")
        self.pool_size = int(pool_size)

    def build(self, inputs_shape, switches_shape):
        if inputs_shape[-1] != switches_shape[-1]:
            raise ValueError(
                f"Layer {self.name!r}: every channel has its own switches, and {inputs_shape[-1]} channels came with "
                f"switches for {switches_shape[-1]}. Convolve to {switches_shape[-1]} channels before unpooling."
            )

    def call(self, inputs, switches):
        zeros = ops.zeros_like(inputs)
        positions = range(self.pool_size * self.pool_size)
        return interleave([ops.where(ops.equal(switches, position), inputs, zeros) for position in positions])

    def compute_output_shape(self, inputs_shape, switches_shape=None):
        return upsampled_shape(inputs_shape, self.pool_size)

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size}


def interleave(parts: Sequence[Tensor]) -> Tensor:
    """Depth to space: the i-th pixel of each window, in reading order, comes from the i-th map.

    Args:
        parts: `size * size` maps `(B, H, W, C)`.

    Returns: `(B, H * size, W * size, C)`.
    """
    size = int(len(parts) ** 0.5)
    _, height, width, channels = ops.shape(parts[0])
    rows = []
    for start in range(0, size * size, size):
        row = ops.stack(parts[start : start + size], axis=3)
        rows.append(ops.reshape(row, (-1, height, width * size, channels)))
    return ops.reshape(ops.stack(rows, axis=2), (-1, height * size, width * size, channels))


def upsampled_shape(shape: tuple[int | None, ...], factor: int) -> tuple[int | None, ...]:
    """Shape of a map after upsampling by `factor`; None stays None."""
    height, width = (None if n is None else n * factor for n in shape[1:3])
    return shape[0], height, width, shape[3]
