"""Path aggregation network: a feature pyramid followed by a bottom-up path.

Liu et al., 2018, https://arxiv.org/abs/1803.01534: N_{i+1} = ReLU(Conv3x3(P_{i+1} + ReLU(Conv3x3(N_i, stride 2)))).
Without what the paper adds for boxes (adaptive feature pooling, fully-connected fusion). smp's PAN is another network,
`kerazoo.decoders.PyramidAttention`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.decoders._levels import level_names, levels_from, stride_ratios
from kerazoo.decoders.fpn import FPN
from kerazoo.layers.blocks import conv
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class PAN(Decoder):
    """An FPN, then a bottom-up path that propagates fine features to the coarse levels.

    The finest level is the FPN's own: the bottom-up path serves heads that read several levels, such as "hypercolumn"
    and "mlf". With "linear" it is left out, and what remains is a plain `FPN`.

    Args:
        width: Channels of every decoded level.
        finest_stride: Levels finer than this are left out; an encoder that starts coarser keeps all.
        interpolation: How coarse levels are upsampled, "bilinear" or "nearest" (the paper's).

    Call: `features`, two levels or more, fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse, all of `width` channels.
    Raises: ValueError if an argument is not one of those, fewer than two levels are left, or a stride is no multiple of
        the one before.
    """

    width: int = 256
    finest_stride: int = 4
    interpolation: str = "bilinear"

    def __post_init__(self):
        check_whole("PAN", "width", self.width)
        check_whole("PAN", "finest_stride", self.finest_stride)
        check_choice("PAN", "interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, features: Features) -> Features:
        used = levels_from("PAN", features, self.finest_stride)
        pyramid = FPN(width=self.width, finest_stride=self.finest_stride, interpolation=self.interpolation)
        finest, *coarser = pyramid(used)
        ratios = stride_ratios("PAN", (finest, *coarser))
        _, *names = level_names((finest, *coarser))
        decoded = [finest]
        for (stride, lateral), factor, name in zip(coarser, ratios, names, strict=True):
            x = self._convolve(decoded[-1].tensor, strides=factor, name=f"{name}_down")
            x = layers.Add(name=f"{name}_aggregate")([lateral, x])
            decoded.append(Level(stride, self._convolve(x, strides=1, name=f"{name}_aggregated")))
        return tuple(decoded)

    def _convolve(self, x: Tensor, *, strides: int, name: str) -> Tensor:
        x = conv(x, self.width, 3, strides=strides, use_bias=True, name=f"{name}_conv")
        return layers.ReLU(name=f"{name}_relu")(x)
