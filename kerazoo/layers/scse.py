"""Concurrent spatial and channel squeeze and excitation. Roy et al., 2018, https://arxiv.org/abs/1803.02579."""

import keras
from keras import ops

from kerazoo.layers.squeeze_excite import SqueezeExcite


@keras.saving.register_keras_serializable("kerazoo")
class SCSE(keras.layers.Layer):
    """Sum of channel attention and spatial attention: `x * channel(x) + x * sigmoid(w · x + b)`.

    Args:
        reduction: Ratio of the channels to those of the channel gate's bottleneck.
        min_channels: Least width of that bottleneck, for narrow maps; smp's has 1.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `reduction` or `min_channels` is less than 1.
    """

    def __init__(self, *, reduction: int = 16, min_channels: int = 4, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.channel = SqueezeExcite(reduction=reduction, min_channels=min_channels, dtype=policy, name="channel")
        self.spatial = keras.layers.Conv2D(1, 1, activation="sigmoid", dtype=policy, name="spatial")

    def build(self, inputs_shape):
        self.channel.build(inputs_shape)
        self.spatial.build(inputs_shape)

    def call(self, inputs):
        return ops.add(self.channel(inputs), inputs * self.spatial(inputs))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        own = {"reduction": self.channel.reduction, "min_channels": self.channel.min_channels}
        return {**super().get_config(), **own}
