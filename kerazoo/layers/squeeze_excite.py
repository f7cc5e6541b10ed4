"""Squeeze-and-excitation. Hu et al., 2018, https://arxiv.org/abs/1709.01507."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class SqueezeExcite(keras.layers.Layer):
    """Channel attention by a bottleneck of two dense layers: `x * sigmoid(W2 relu(W1 mean(x)))`.

    The mean over the pixels is taken in float32 at least, whatever the precision policy.

    Args:
        reduction: Ratio of the channels to those of the bottleneck.
        min_channels: Least width of the bottleneck, for narrow maps.
        divisor: The width of the bottleneck is the multiple of this that is nearest to the channels divided by
            `reduction`, as timm's `SEModule` has it with 8; 1 rounds down.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `reduction`, `min_channels` or `divisor` is less than 1.
    """

    def __init__(self, *, reduction: int = 16, min_channels: int = 4, divisor: int = 1, **kwargs):
        super().__init__(**kwargs)
        if min(reduction, min_channels, divisor) < 1:
            raise ValueError(
                "`reduction`, `min_channels` and `divisor` must be at least 1, received "
                f"{reduction}, {min_channels} and {divisor}."
            )
        self.reduction = int(reduction)
        self.min_channels = int(min_channels)
        self.divisor = int(divisor)

    def build(self, inputs_shape):
        channels = inputs_shape[-1]
        multiples = int(channels / self.reduction + self.divisor // 2) // self.divisor
        squeezed = max(self.min_channels, self.divisor * max(1, multiples))
        policy = self.dtype_policy
        self.squeeze = keras.layers.Dense(squeezed, activation="relu", dtype=policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, activation="sigmoid", dtype=policy, name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, squeezed))

    def call(self, inputs):
        precise = keras.backend.result_type(inputs.dtype, "float32")
        means = ops.mean(ops.cast(inputs, precise), axis=(1, 2))
        gate = self.excite(self.squeeze(ops.cast(means, inputs.dtype)))
        return inputs * ops.expand_dims(ops.expand_dims(gate, 1), 1)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        own = {"reduction": self.reduction, "min_channels": self.min_channels, "divisor": self.divisor}
        return {**super().get_config(), **own}
