"""Squeeze-and-excitation. Hu et al., 2018, https://arxiv.org/abs/1709.01507."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class SqueezeExcite(keras.layers.Layer):
    """Scale each channel by a gate computed from the means of all channels: `x * sigmoid(W2 relu(W1 mean(x)))`.

    The mean over the pixels is taken in float32 whatever the precision policy.

    Args:
        reduction: Channels per channel of the bottleneck.
        min_channels: Least width of the bottleneck, for narrow maps.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `reduction` or `min_channels` is less than 1.
    """

    def __init__(self, *, reduction: int = 16, min_channels: int = 4, **kwargs):
        super().__init__(**kwargs)
        if reduction < 1 or min_channels < 1:
            raise ValueError(
                f"`reduction` and `min_channels` must be at least 1, received {reduction} and {min_channels}."
            )
        self.reduction = int(reduction)
        self.min_channels = int(min_channels)

    def build(self, inputs_shape):
        channels = inputs_shape[-1]
        squeezed = max(self.min_channels, channels // self.reduction)
        policy = self.dtype_policy
        self.squeeze = keras.layers.Dense(squeezed, activation="relu", dtype=policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, activation="sigmoid", dtype=policy, name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, squeezed))

    def call(self, inputs):
        means = ops.mean(ops.cast(inputs, "float32"), axis=(1, 2))
        gate = self.excite(self.squeeze(ops.cast(means, inputs.dtype)))
        return inputs * ops.expand_dims(ops.expand_dims(gate, 1), 1)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction, "min_channels": self.min_channels}
