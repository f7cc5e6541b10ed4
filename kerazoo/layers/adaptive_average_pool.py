"""Adaptive average pooling for sizes that are known at run time only.

Keras's `AdaptiveAveragePooling2D` needs sizes that are known when the model is built. Here each axis is multiplied by
an averaging matrix, which every backend and export format can do.
"""

import keras
from keras import ops

from kerazoo.arguments import as_pair, is_whole
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo")
class AdaptiveAveragePool(keras.layers.Layer):
    """Divide a map into `size` bins along height and width, and take the mean of each.

    Bin i of s covers the rows from floor(i n / s) up to, without it, ceil((i + 1) n / s), as in PyTorch: bins share a
    row where s does not divide n, and repeat rows where n is smaller than s. Means are taken in float32 whatever the
    precision policy.

    Args:
        size: Rows and columns of the result: a whole number for both, or a pair.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, *size, C)`, dtype of the layer.

    Raises:
        ValueError: `size` is not at least 1.
    """

    def __init__(self, size: int | tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        pair = as_pair(size)
        if len(pair) != 2 or not all(is_whole(n) and n >= 1 for n in pair):
            raise ValueError(f"`size` must be a whole number of at least 1, or a pair of them, received {size!r}.")
        self.size = tuple(int(n) for n in pair)

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        rows, columns = self.size
        channels = inputs.shape[-1]
        x = ops.matmul(_means(columns, width), ops.cast(inputs, "float32"))
        x = ops.matmul(_means(rows, height), ops.reshape(x, (-1, height, columns * channels)))
        return ops.cast(ops.reshape(x, (-1, rows, columns, channels)), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], *self.size, inputs_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _means(bins: int, n: int | Tensor) -> Tensor:
    """`(bins, n)` matrix that takes the mean of each bin of a column of `n` numbers."""
    bin_ = ops.expand_dims(ops.arange(bins, dtype="int32"), 1)
    row = ops.expand_dims(ops.arange(n, dtype="int32"), 0)
    inside = ops.logical_and(row >= bin_ * n // bins, row < ((bin_ + 1) * n + bins - 1) // bins)
    inside = ops.cast(inside, "float32")
    return inside / ops.sum(inside, axis=1, keepdims=True)
