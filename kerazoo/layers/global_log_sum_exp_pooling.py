"""Global log-sum-exp pooling, a smooth maximum.

Pinheiro and Collobert, 2015, https://arxiv.org/abs/1411.6228, section 3.2.
"""

import keras
from keras import ops

from kerazoo.layers.global_weighted_rank_pooling import pixels_last


@keras.saving.register_keras_serializable("kerazoo")
class GlobalLogSumExpPooling2D(keras.layers.Layer):
    """`log(mean(exp(sharpness * x))) / sharpness` of each channel: between the mean and the maximum.

    Args:
        sharpness: Above 0; a small one gives the mean, a large one the maximum.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, C)`, dtype of the layer.

    Raises:
        ValueError: `sharpness` is not above 0.
    """

    def __init__(self, *, sharpness: float = 5.0, **kwargs):
        super().__init__(**kwargs)
        if not sharpness > 0:
            raise ValueError(f"GlobalLogSumExpPooling2D's `sharpness` must be above 0, received {sharpness}.")
        self.sharpness = float(sharpness)

    def call(self, inputs):
        values = pixels_last(inputs) * self.sharpness
        pixels = ops.cast(ops.shape(values)[-1], values.dtype)
        return (ops.logsumexp(values, axis=-1) - ops.log(pixels)) / self.sharpness

    def compute_output_shape(self, inputs_shape):
        return inputs_shape[0], inputs_shape[-1]

    def get_config(self):
        return {**super().get_config(), "sharpness": self.sharpness}
