"""DeepLab v2: atrous spatial pyramid pooling, parallel dilated convolutions that are summed.

Chen et al., 2018, https://arxiv.org/abs/1606.00915. As in the paper nothing but the encoder is normalized. A 1x1
convolution over a sum of convolutions is a sum of convolutions, and one over a concatenation is a sum of 1x1
convolutions: so with the linear head both kinds of branches are the paper's, whose branches end in the classes
themselves. The dense CRF is not part of the network.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_whole, check_wholes
from kerazoo.decoders._context import fully_connected, pass_through
from kerazoo.layers.blocks import conv
from kerazoo.types import Decoder, Features, Level

BRANCHES = ("convolution", "fully_connected")


@dataclass(frozen=True, kw_only=True)
class DeepLabV2(Decoder):
    """Parallel dilated convolutions of the coarsest level, summed or concatenated.

    Args:
        width: Channels of each branch. As many as classes, or more, lose nothing to the paper's "convolution" branches;
            its "fully_connected" ones have 1024.
        rates: Dilation of the 3x3 convolution of each branch. (6, 12, 18, 24) is the paper's ASPP-L at stride 8, (2, 4,
            8, 12) its ASPP-S.
        branches: "convolution", one 3x3 convolution each, summed (the paper over ResNet-101), or "fully_connected",
            fc6 and fc7 each as in DeepLab v1, concatenated (over VGG-16).
        dropout: Dropout rate after every "fully_connected" layer.
        encoder_levels: Whether to return the encoder's finer levels too, for heads that read all levels.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level, at the stride of the coarsest; with `encoder_levels`, the encoder's finer ones before it.
    Raises: ValueError if an argument is not one of those.
    """

    width: int = 256
    rates: tuple[int, ...] = (6, 12, 18, 24)
    branches: str = "convolution"
    dropout: float = 0.5
    encoder_levels: bool = False

    output_stride = 8

    def __post_init__(self):
        check_whole("DeepLabV2", "width", self.width)
        object.__setattr__(self, "rates", check_wholes("DeepLabV2", "rates", self.rates))
        check_choice("DeepLabV2", "branches", self.branches, BRANCHES)
        check_fraction("DeepLabV2", "dropout", self.dropout)

    def __call__(self, features: Features) -> Features:
        *finer, (stride, x) = features
        merge = layers.Add if self.branches == "convolution" else layers.Concatenate
        maps = []
        for i, rate in enumerate(self.rates):
            if self.branches == "convolution":
                maps.append(conv(x, self.width, 3, dilation=rate, use_bias=True, name=f"d_branch{i}"))
            else:
                maps.append(
                    fully_connected(x, self.width, kernel_size=3, rate=rate, dropout=self.dropout, name=f"d_branch{i}")
                )
        x = maps[0] if len(maps) == 1 else merge(name="d_merge")(maps)
        return (*pass_through(tuple(finer) if self.encoder_levels else ()), Level(stride, x))
