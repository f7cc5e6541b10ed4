"""Feature pyramid network: a top-down path that adds coarse features to fine ones.

Lin et al., 2017, https://arxiv.org/abs/1612.03144: P_i = Conv3x3(Conv1x1(E_i) + Resize(P_{i+1} before its Conv3x3)).
Differs from the paper: bilinear resizing, to the size of the finer level whatever the strides.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.layers import Resize
from kerazoo.layers.blocks import conv
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Features, Level


@dataclass(frozen=True, kw_only=True)
class FPN:
    """Give every level the width of the pyramid and the context of the levels above it.

    Args:
        width: Channels of every decoded level.
        finest_stride: Levels finer than this are left out, as in the paper; an encoder that starts coarser keeps all.
        interpolation: How coarse levels grow, "bilinear" or "nearest" (the paper's).

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse, all of `width` channels.
    Raises: ValueError if an argument is not one of those, or no level is left.
    """

    width: int = 256
    finest_stride: int = 4
    interpolation: str = "bilinear"

    output_stride = 32
    depth = None

    def __post_init__(self):
        check_whole("FPN", "width", self.width)
        check_whole("FPN", "finest_stride", self.finest_stride)
        check_choice("FPN", "interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, features: Features) -> Features:
        used = [level for level in features if level.stride >= self.finest_stride]
        if not used:
            raise ValueError(
                f"FPN with finest_stride={self.finest_stride} leaves none of the strides "
                f"{[level.stride for level in features]}. Lower `finest_stride`."
            )
        decoded = []
        x = None
        for position, (stride, tensor) in reversed(list(enumerate(used))):
            repeated = position + 1 < len(used) and used[position + 1].stride == stride
            name = f"d{stride}_{position}" if repeated else f"d{stride}"
            lateral = conv(tensor, self.width, 1, use_bias=True, name=f"{name}_lateral")
            if x is None:
                x = lateral
            else:
                x = Resize(interpolation=self.interpolation, name=f"{name}_up")(x, like=lateral)
                x = layers.Add(name=f"{name}_merge")([lateral, x])
            decoded.append(Level(stride, conv(x, self.width, 3, use_bias=True, name=f"{name}_out")))
        return tuple(reversed(decoded))
