"""Feature pyramid network: a top-down path that adds coarse features to fine ones.

Lin et al., 2017, https://arxiv.org/abs/1612.03144: P_i = Conv3x3(Conv1x1(E_i) + Resize(P_{i+1} before its Conv3x3)).
Differs from the paper: bilinear upsampling, to the size of the finer level whatever the strides. smp's FPN, which fuses
the levels of this pyramid, is `kerazoo.decoders.SemanticFPN`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.decoders._levels import level_names, levels_from
from kerazoo.layers import Resize
from kerazoo.layers.blocks import conv
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class FPN(Decoder):
    """Lateral 1x1 convolutions, a top-down path, and a 3x3 output convolution per level.

    Args:
        width: Channels of every decoded level.
        finest_stride: Levels finer than this are left out, as in the paper; an encoder that starts coarser keeps all.
        interpolation: How coarse levels are upsampled, "bilinear" or "nearest" (the paper's).

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse, all of `width` channels.
    Raises: ValueError if an argument is not one of those, or no level is left.
    """

    width: int = 256
    finest_stride: int = 4
    interpolation: str = "bilinear"

    def __post_init__(self):
        check_whole("FPN", "width", self.width)
        check_whole("FPN", "finest_stride", self.finest_stride)
        check_choice("FPN", "interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, features: Features) -> Features:
        used = levels_from("FPN", features, self.finest_stride)
        merged = top_down(used, width=self.width, interpolation=self.interpolation)
        return tuple(
            Level(level.stride, output_conv(x, name=name))
            for level, x, name in zip(used, merged, level_names(used), strict=True)
        )


def top_down(features: Features, *, width: int, interpolation: str) -> list[Tensor]:
    """Lateral 1x1 convolutions to `width` channels, each added to the upsampled coarser level; fine to coarse."""
    merged: list[Tensor] = []
    for (_, tensor), name in zip(reversed(features), reversed(level_names(features)), strict=True):
        x = conv(tensor, width, 1, use_bias=True, name=f"{name}_lateral")
        if merged:
            upsampled = Resize(interpolation=interpolation, name=f"{name}_up")(merged[-1], like=x)
            x = layers.Add(name=f"{name}_merge")([x, upsampled])
        merged.append(x)
    return merged[::-1]


def output_conv(x: Tensor, *, name: str) -> Tensor:
    """The 3x3 convolution after a merge, which reduces the aliasing of upsampling."""
    return conv(x, x.shape[-1], 3, use_bias=True, name=f"{name}_out")
