"""RGB to BGR, the channel order of networks converted from Caffe."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class ReverseColors(keras.layers.Layer):
    """RGB to BGR: every three channels in reverse order; channels left over stay as they are.

    Call: `inputs` `(B, H, W, C)`.
    Returns: the same shape, dtype of the layer.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        channels = inputs.shape[-1]
        complete = channels - channels % 3
        order = [i + 2 - 2 * (i % 3) for i in range(complete)] + [*range(complete, channels)]
        return ops.take(inputs, order, axis=-1)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape
