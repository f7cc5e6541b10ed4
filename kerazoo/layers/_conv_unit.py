"""Convolution, normalization and ReLU, for use inside other layers."""

import keras

from kerazoo.layers.blocks import depthwise_initializer, norm_layer


class ConvUnit(keras.layers.Layer):
    """Convolution, normalization and ReLU as one layer; functional parts use `blocks.conv_norm_act` instead.

    Args:
        filters: Channels of the output.
        kernel_size: Odd.
        dilation: Dilation rate.
        separable: Whether the convolution is depthwise separable.
        norm_kind: One of `blocks.NORMS`; the convolution has a bias only without normalization.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, H, W, filters)`, dtype of the layer.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 1,
        *,
        dilation: int = 1,
        separable: bool = False,
        norm_kind: str | None = "batch",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.separable = separable
        self.norm_kind = norm_kind

    def build(self, inputs_shape):
        # Padded here and not by "same": TensorFlow's graph optimizer (2.21) gets the sizes of such dilated convolutions
        # wrong where they are concatenated with other maps and only one of height and width is known in advance.
        self.pad = keras.layers.ZeroPadding2D(
            self.dilation * (self.kernel_size // 2), dtype=self.dtype_policy, name="pad"
        )
        window = {"kernel_size": self.kernel_size, "dilation_rate": self.dilation}
        if self.separable:
            spread = keras.layers.DepthwiseConv2D(
                **window,
                padding="valid",
                use_bias=False,
                depthwise_initializer=depthwise_initializer(inputs_shape[-1]),
                dtype=self.dtype_policy,
                name="depthwise",
            )
            self.convolutions = [spread, self._conv("pointwise", kernel_size=1)]
        else:
            self.convolutions = [self._conv("conv", **window)]
        inputs_shape = self.pad.compute_output_shape(inputs_shape)
        for layer in self.convolutions:
            layer.build(inputs_shape)
            inputs_shape = layer.compute_output_shape(inputs_shape)
        self.norm = None
        if self.norm_kind is not None:
            name = "bn" if self.norm_kind == "batch" else "norm"
            self.norm = norm_layer(self.norm_kind, channels=self.filters, name=name, dtype=self.dtype_policy)
            self.norm.build(inputs_shape)

    def _conv(self, name, **window):
        return keras.layers.Conv2D(
            self.filters,
            **window,
            padding="valid",
            use_bias=self.norm_kind is None,
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs):
        x = self.pad(inputs) if self.kernel_size > 1 else inputs
        for layer in self.convolutions:
            x = layer(x)
        return keras.ops.relu(x if self.norm is None else self.norm(x))

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:3], self.filters)
