"""Bed-of-nails upsampling: max unpooling without switches."""

import keras
from keras import ops

from kerazoo.layers.max_unpool import interleave, upsampled_shape


@keras.saving.register_keras_serializable("kerazoo")
class BedOfNails(keras.layers.Layer):
    """Put every value into the upper left corner of a window of zeros.

    Followed by a convolution, it is a transposed convolution.

    Args:
        factor: Rows and columns of the output per row and column of the input.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, H * factor, W * factor, C)`, dtype of the layer.

    Raises:
        ValueError: `factor` is less than 1.
    """

    def __init__(self, *, factor: int = 2, **kwargs):
        super().__init__(**kwargs)
        if factor < 1:
            raise ValueError(f"`factor` must be at least 1, received {factor}.")
        self.factor = int(factor)

    def call(self, inputs):
        zeros = ops.zeros_like(inputs)
        return interleave([inputs] + [zeros] * (self.factor**2 - 1))

    def compute_output_shape(self, inputs_shape):
        return upsampled_shape(inputs_shape, self.factor)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
