"""2x2 max pooling that leaves at least one row and column."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class HalveMax(keras.layers.Layer):
    """2x2 max pooling that drops a last odd row or column, as PyTorch does, but keeps a single one.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, max(1, H // 2), max(1, W // 2), C)`, dtype of the layer.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        height, width = (_half(n) for n in ops.shape(inputs)[1:3])
        return ops.max_pool(inputs, 2, strides=2, padding="same")[:, :height, :width]

    def compute_output_shape(self, inputs_shape):
        halves = [None if n is None else _half(n) for n in inputs_shape[1:3]]
        return (inputs_shape[0], *halves, inputs_shape[3])


def _half(n):
    """`max(1, n // 2)`, for whole numbers and for run-time sizes."""
    return n // 2 + 1 // n
