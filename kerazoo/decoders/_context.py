"""Shared by decoders that add context to the coarsest level and leave the finer ones as they are."""

from keras import layers

from kerazoo.layers.blocks import conv
from kerazoo.types import Features, Level, Tensor

ASPP_RATES = (6, 12, 18)
"""Dilations at stride 16 (Chen et al., 2017, https://arxiv.org/abs/1706.05587, section 4.2)."""


def aspp_rates(stride: int) -> tuple[int, ...]:
    """Dilations at this stride that cover as many pixels of the image as `ASPP_RATES` do at stride 16."""
    return tuple(max(1, round(rate * 16 / stride)) for rate in ASPP_RATES)


def pass_through(features: Features) -> Features:
    """The encoder's levels as outputs of the decoder, in the compute dtype of the policy."""
    return tuple(
        Level(level.stride, layers.Activation("linear", name=f"d{position}_encoder")(level.tensor))
        for position, level in enumerate(features)
    )


def fully_connected(x: Tensor, width: int, *, kernel_size: int, rate: int, dropout: float, name: str) -> Tensor:
    """The two dense layers of VGG-16 as convolutions: fc6 of `kernel_size`, dilated, and fc7 of 1x1.

    Args:
        x: `(B, H, W, C)`.
        width: Channels of both.
        kernel_size: Odd size of fc6.
        rate: Dilation of fc6.
        dropout: Dropout rate after each of the two.
        name: Prefix of the names of the layers.

    Returns: `(B, H, W, width)`.
    """
    for layer, size, dilation in (("fc6", kernel_size, rate), ("fc7", 1, 1)):
        x = conv(x, width, size, dilation=dilation, use_bias=True, name=f"{name}_{layer}")
        x = layers.ReLU(name=f"{name}_{layer}_relu")(x)
        x = layers.Dropout(dropout, name=f"{name}_{layer}_drop")(x)
    return x
