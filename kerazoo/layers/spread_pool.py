"""Pooling with stride 1 whose window has gaps: what a strided pooling becomes in a dilated encoder."""

import keras
from keras import ops

POOLS = ("max", "average")


@keras.saving.register_keras_serializable("kerazoo")
class SpreadPool(keras.layers.Layer):
    """Pool over `x[i], x[i + dilation], …, x[i + (size - 1) * dilation]` along height and width.

    At every `2 * dilation`-th position this is what a pooling of stride 2 gives on every `dilation`-th row. Keras's own
    poolings have no dilation. Positions of the window beyond the lower and right border do not count.

    Args:
        pool: "max" or "average".
        size: Rows and columns of the window.
        dilation: Rows from one position of the window to the next.

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
            return self._over_windows(inputs, ops.maximum, float("-inf"))
        total = self._over_windows(inputs, ops.add, 0.0)
        return total / self._over_windows(ops.ones_like(inputs[:1, :, :, :1]), ops.add, 0.0)

    def _over_windows(self, x, combine, beyond):
        """Combine along the width, then along the height."""
        height, width = ops.shape(x)[1:3]
        reach = (self.size - 1) * self.dilation
        padded = ops.pad(x, [(0, 0), (0, reach), (0, reach), (0, 0)], constant_values=beyond)
        starts = [step * self.dilation for step in range(self.size)]
        rows = _combined([padded[:, :, start : start + width] for start in starts], combine)
        return _combined([rows[:, start : start + height] for start in starts], combine)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "pool": self.pool, "size": self.size, "dilation": self.dilation}


def _combined(parts, combine):
    result = parts[0]
    for part in parts[1:]:
        result = combine(result, part)
    return result
