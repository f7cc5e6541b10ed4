"""Convolutional block attention module. Woo et al., 2018, https://arxiv.org/abs/1807.06521.

Follows the paper's equations. The authors' code adds a batch norm before the spatial gate's sigmoid, and biases.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class CBAM(keras.layers.Layer):
    """Channel attention, then spatial attention, each from average and max pooling.

    `y = x * sigmoid(mlp(mean(x)) + mlp(max(x)))` over the pixels, with a shared MLP; then
    `y * sigmoid(conv([mean(y), max(y)]))` over the channels. Means are taken in float32 whatever the precision policy.

    Args:
        reduction: Ratio of the channels to those of the MLP's hidden layer.
        kernel_size: Odd size of the convolution over the pixels.
        min_channels: Least width of the hidden layer, for narrow maps.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `reduction` or `min_channels` is less than 1, or `kernel_size` is not odd and positive.
    """

    def __init__(self, *, reduction: int = 16, kernel_size: int = 7, min_channels: int = 4, **kwargs):
        super().__init__(**kwargs)
        if reduction < 1 or min_channels < 1:
            raise ValueError(
                f"`reduction` and `min_channels` must be at least 1, received {reduction} and {min_channels}."
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd and positive, received {kernel_size}.")
        self.reduction = int(reduction)
        self.kernel_size = int(kernel_size)
        self.min_channels = int(min_channels)

    def build(self, inputs_shape):
        channels = inputs_shape[-1]
        hidden = max(self.min_channels, channels // self.reduction)
        policy = self.dtype_policy
        self.squeeze = keras.layers.Dense(hidden, activation="relu", use_bias=False, dtype=policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, use_bias=False, dtype=policy, name="excite")
        self.spatial = keras.layers.Conv2D(
            1, self.kernel_size, padding="same", activation="sigmoid", use_bias=False, dtype=policy, name="spatial"
        )
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))
        self.spatial.build((*inputs_shape[:-1], 2))

    def call(self, inputs):
        means = ops.cast(ops.mean(ops.cast(inputs, "float32"), axis=(1, 2), keepdims=True), inputs.dtype)
        maxima = ops.max(inputs, axis=(1, 2), keepdims=True)
        x = inputs * ops.sigmoid(self.excite(self.squeeze(means)) + self.excite(self.squeeze(maxima)))
        means = ops.cast(ops.mean(ops.cast(x, "float32"), axis=-1, keepdims=True), x.dtype)
        return x * self.spatial(ops.concatenate([means, ops.max(x, axis=-1, keepdims=True)], axis=-1))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        own = {"reduction": self.reduction, "kernel_size": self.kernel_size, "min_channels": self.min_channels}
        return {**super().get_config(), **own}
