"""Building blocks that several parts share, as functions of Keras layers."""

import math
from typing import Any

from keras import initializers, layers

from kerazoo.layers.cbam import CBAM
from kerazoo.layers.eca import ECA
from kerazoo.layers.scse import SCSE
from kerazoo.layers.squeeze_excite import SqueezeExcite
from kerazoo.types import Tensor

BATCHNORM_MOMENTUM = 0.9
"""Keras's convention for PyTorch's default, which is momentum 0.1 there."""

BATCHNORM_EPSILON = 1e-5
"""PyTorch's default, which every converted checkpoint was trained with."""

ATTENTIONS = ("se", "eca", "cbam", "scse")
"""Names of the attention modules of `attend`."""

NORMS = ("batch", "group", "instance", None)
"""Kinds of normalization; None is none at all."""

GROUPS = 32
"""Groups of group normalization (Wu and He, 2018, https://arxiv.org/abs/1803.08494)."""


def norm(x: Tensor, *, kind: str = "batch", name: str) -> Tensor:
    """Normalize `(B, H, W, C)` by batch, group or instance norm."""
    return norm_layer(kind, channels=x.shape[-1], name=name)(x)


def norm_layer(kind: str = "batch", *, channels: int, name: str, dtype: Any = None) -> layers.Layer:
    """A normalization layer with PyTorch's constants.

    Args:
        kind: "batch", "group" or "instance". The number of groups is `GROUPS`, or its greatest common divisor with
            `channels`.
        channels: Of the input.
        name: Name of the layer.
        dtype: Precision policy of the layer, None for the global one.
    """
    if kind == "batch":
        return layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, epsilon=BATCHNORM_EPSILON, name=name, dtype=dtype)
    if kind == "group":
        groups = math.gcd(GROUPS, channels)
        return layers.GroupNormalization(groups, epsilon=BATCHNORM_EPSILON, name=name, dtype=dtype)
    return layers.GroupNormalization(-1, epsilon=BATCHNORM_EPSILON, name=name, dtype=dtype)


def conv(
    x: Tensor,
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    dilation: int = 1,
    padding: str = "same",
    use_bias: bool = False,
    name: str,
) -> Tensor:
    """2D convolution with symmetric zero padding, as in PyTorch.

    Keras's "same" pads unevenly when `strides > 1`, which shifts weights trained in PyTorch by a pixel.

    Args:
        x: `(B, H, W, C)`.
        filters: Channels of the output.
        kernel_size: Odd.
        strides: Stride.
        dilation: Dilation rate.
        padding: "same" for zeros, or "valid" for none: then `dilation * (kernel_size - 1)` rows are lost.
        use_bias: Whether to add a bias.
        name: Name of the convolution; the padding layer is called `<name>_pad`.

    Returns: `(B, ceil(H / strides), ceil(W / strides), filters)`.
    """
    if padding == "same" and strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(dilation * (kernel_size // 2), name=f"{name}_pad")(x)
        padding = "valid"
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        use_bias=use_bias,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def depthwise_initializer(channels: int) -> initializers.Initializer:
    """He initializer with the fan-in of a depthwise kernel, of one channel; Keras counts all channels."""
    return initializers.VarianceScaling(2.0 * channels, mode="fan_in")


def separable_conv(
    x: Tensor, filters: int, kernel_size: int = 3, *, dilation: int = 1, use_bias: bool = False, name: str
) -> Tensor:
    """Depthwise separable convolution, `(B, H, W, C)` to `(B, H, W, filters)`; only the 1x1 one has a bias."""
    x = layers.DepthwiseConv2D(
        kernel_size,
        padding="same",
        dilation_rate=dilation,
        use_bias=False,
        depthwise_initializer=depthwise_initializer(x.shape[-1]),
        name=f"{name}_depthwise",
    )(x)
    return conv(x, filters, 1, use_bias=use_bias, name=f"{name}_pointwise")


def conv_norm_act(
    x: Tensor,
    filters: int,
    kernel_size: int = 3,
    *,
    dilation: int = 1,
    padding: str = "same",
    separable: bool = False,
    norm_kind: str | None = "batch",
    name: str,
) -> Tensor:
    """Convolution, normalization, ReLU; `(B, H, W, C)` to `(B, H, W, filters)`. A bias only without normalization."""
    use_bias = norm_kind is None
    if separable:
        x = separable_conv(x, filters, kernel_size, dilation=dilation, use_bias=use_bias, name=name)
    else:
        x = conv(x, filters, kernel_size, dilation=dilation, padding=padding, use_bias=use_bias, name=f"{name}_conv")
    if norm_kind is not None:
        x = norm(x, kind=norm_kind, name=f"{name}_bn" if norm_kind == "batch" else f"{name}_norm")
    return layers.ReLU(name=f"{name}_relu")(x)


def attend(x: Tensor, attention: str | None, *, reduction: int = 16, min_channels: int = 4, name: str) -> Tensor:
    """Apply an attention module by name, or nothing when it is None.

    Args:
        x: `(B, H, W, C)`.
        attention: "se", "eca", "cbam", "scse" or None.
        reduction: Ratio of the channels to those of the bottleneck; "eca" has none.
        min_channels: Least width of the bottleneck.
        name: Name of the layer.

    Raises:
        ValueError: the name is unknown.
    """
    if attention is None:
        return x
    if attention not in ATTENTIONS:
        raise ValueError(f"`attention` must be None or one of {ATTENTIONS}, received {attention!r}.")
    if attention == "eca":
        return ECA(name=name)(x)
    layer = {"se": SqueezeExcite, "cbam": CBAM, "scse": SCSE}[attention]
    return layer(reduction=reduction, min_channels=min_channels, name=name)(x)
