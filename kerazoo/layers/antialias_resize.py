"""Antialiased bilinear resizing, as images are resized before training."""

import keras
from keras import ops

from kerazoo.arguments import is_whole
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo")
class AntialiasResize(keras.layers.Layer):
    """Bilinear resizing to a fixed size, with antialiasing.

    The triangle filter of PIL's BILINEAR and of `tf.image.resize(antialias=True)`: as wide as two pixels of the output,
    or of the input where that is larger. Each axis is multiplied by a matrix of weights, which every backend and export
    format can do with run-time sizes. Computed in float32 whatever the precision policy.

    Args:
        size: `(height, width)` of the output in pixels.

    Call: `inputs` `(B, H, W, C)`, numbers.
    Returns: `(B, *size, C)`, dtype of the layer.

    Raises:
        ValueError: `size` is not a pair of positive numbers.
    """

    def __init__(self, size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        pair = tuple(size)
        if len(pair) != 2 or not all(is_whole(n) and n >= 1 for n in pair):
            raise ValueError(f"`size` must be (height, width) in pixels, received {size!r}.")
        self.size = tuple(int(n) for n in pair)

    def call(self, inputs):
        if tuple(inputs.shape[1:3]) == self.size:
            return inputs
        height, width = ops.shape(inputs)[1:3]
        rows, columns = self.size
        channels = inputs.shape[-1]
        x = ops.matmul(_triangles(columns, width), ops.cast(inputs, "float32"))
        x = ops.matmul(_triangles(rows, height), ops.reshape(x, (-1, height, columns * channels)))
        return ops.cast(ops.reshape(x, (-1, rows, columns, channels)), self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], *self.size, inputs_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _triangles(size: int, n: int | Tensor) -> Tensor:
    """`(size, n)` matrix of the triangle filter: the weight of each of `n` input pixels in each output pixel."""
    scale = ops.cast(n, "float32") / size
    center = (ops.expand_dims(ops.arange(size, dtype="float32"), 1) + 0.5) * scale - 0.5
    distance = ops.abs(ops.expand_dims(ops.cast(ops.arange(n), "float32"), 0) - center)
    weights = ops.maximum(0.0, 1.0 - distance / ops.maximum(scale, 1.0))
    return weights / ops.sum(weights, axis=1, keepdims=True)
