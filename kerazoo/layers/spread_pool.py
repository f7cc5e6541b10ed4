"""Dilated pooling of stride 1: what a strided pooling becomes in a dilated encoder."""

import functools

import keras
from keras import ops

POOLS = ("max", "average")


@keras.saving.register_keras_serializable("kerazoo")
class SpreadPool(keras.layers.Layer):
    """Dilated max or average pooling over `x[i], x[i + dilation], …, x[i + (size - 1) * dilation]`, along both axes.

    At every `2 * dilation`-th position this is what a pooling of stride 2 gives on every `dilation`-th row. Keras's own
    poolings have no dilation. Positions of the window beyond the lower and right border do not count.

    Args:
        pool: "max" or "average".
        size: Rows and columns of the window.
        dilation: Dilation rate.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `pool` is unknown, or `size` or `dilation` is less than 1.
    """

    def __init__(self, pool: str, *, size: int, dilation: int = 1, **kwargs):
        super().__init__(**kwargs)
        if pool not in POOLS:
            raise ValueError(f"`pool` must be one of {POOLS}, received {pool!r}.")
        if size < 1 or dilation < 1:
            raise ValueError(f"`size` and `dilation` must be at least 1, received {size} and {dilation}.")
        self.pool = pool
        self.size = int(size)
        self.dilation = int(dilation)

    def call(self, inputs):
        if self.pool == "max":
            return self._reduce_windows(inputs, ops.maximum, float("-inf"))
        total = self._reduce_windows(inputs, ops.add, 0.0)
        return total / self._reduce_windows(ops.ones_like(inputs[:1, :, :, :1]), ops.add, 0.0)

    def _reduce_windows(self, x, combine, padding):
        """Reduce along the width, then along the height."""
        height, width = ops.shape(x)[1:3]
        reach = (self.size - 1) * self.dilation
        padded = ops.pad(x, [(0, 0), (0, reach), (0, reach), (0, 0)], constant_values=padding)
        starts = [step * self.dilation for step in range(self.size)]
        rows = functools.reduce(combine, [padded[:, :, start : start + width] for start in starts])
        return functools.reduce(combine, [rows[:, start : start + height] for start in starts])

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "pool": self.pool, "size": self.size, "dilation": self.dilation}
