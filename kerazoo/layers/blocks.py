"""Blocks of layers that several parts share. They own no weights of their own: plain functions."""

from keras import layers

from kerazoo.layers.squeeze_excite import SqueezeExcite
from kerazoo.types import Tensor

BATCHNORM_MOMENTUM = 0.9
"""Share of the moving statistics that a step keeps; PyTorch's default (momentum 0.1 there)."""

BATCHNORM_EPSILON = 1e-5
"""PyTorch's default, which every converted checkpoint was trained with."""

ATTENTIONS = ("se",)
"""Names that `attend` knows."""


def norm(x: Tensor, *, name: str) -> Tensor:
    """Normalise `(B, H, W, C)` over the batch, with the constants of PyTorch."""
    return layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, epsilon=BATCHNORM_EPSILON, name=name)(x)


def conv(
    x: Tensor, filters: int, kernel_size: int, *, strides: int = 1, dilation: int = 1, use_bias: bool = False, name: str
) -> Tensor:
    """Convolve with symmetric zero padding, so that row i of the output sees rows around `i * strides`.

    Keras's "same" pads unevenly when `strides > 1`, and then weights trained in PyTorch are shifted by a pixel.

    Args:
        x: `(B, H, W, C)`.
        filters: Channels of the output.
        kernel_size: Odd.
        strides: Rows of the input per row of the output.
        dilation: Rows of the input between two rows of the kernel.
        use_bias: Whether to add a bias.
        name: Name of the convolution; the padding layer is called `<name>_pad`.

    Returns: `(B, ceil(H / strides), ceil(W / strides), filters)`.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
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


def conv_norm_act(x: Tensor, filters: int, kernel_size: int = 3, *, name: str) -> Tensor:
    """Convolution without bias, batch norm, ReLU; `(B, H, W, C)` to `(B, H, W, filters)`."""
    x = conv(x, filters, kernel_size, name=f"{name}_conv")
    x = norm(x, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


def attend(x: Tensor, attention: str | None, *, reduction: int, name: str) -> Tensor:
    """Apply a channel attention by name, or nothing when it is None.

    Raises:
        ValueError: the name is unknown.
    """
    if attention is None:
        return x
    if attention not in ATTENTIONS:
        raise ValueError(f"`attention` must be None or one of {ATTENTIONS}, received {attention!r}.")
    return SqueezeExcite(reduction=reduction, name=name)(x)
