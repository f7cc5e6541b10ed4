"""DeepLab v1: the dense layers of VGG-16 as dilated convolutions at stride 8.

Chen et al., 2015, https://arxiv.org/abs/1412.7062. The defaults are DeepLab-LargeFOV: fc6 is 3x3 with dilation 12 and
1024 channels; the first DeepLab has kernel_size=7, rate=4 and 4096 channels. fc8 is the linear head, whose logits are
resized bilinearly. The dense CRF that refines them is not part of the network.
"""

from dataclasses import dataclass

from kerazoo.arguments import check_fraction, check_odd, check_whole
from kerazoo.decoders._context import fully_connected, pass_through
from kerazoo.types import Decoder, Features, Level


@dataclass(frozen=True, kw_only=True)
class DeepLabV1(Decoder):
    """fc6 and fc7 as convolutions of the coarsest level.

    Args:
        width: Channels of fc6 and fc7.
        kernel_size: Odd size of fc6.
        rate: Dilation of fc6.
        dropout: Dropout rate after fc6 and after fc7.
        encoder_levels: Whether to return the encoder's finer levels too, for heads that read all levels.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level, at the stride of the coarsest; with `encoder_levels`, the encoder's finer ones before it.
    Raises: ValueError if an argument is not one of those.
    """

    width: int = 1024
    kernel_size: int = 3
    rate: int = 12
    dropout: float = 0.5
    encoder_levels: bool = False

    output_stride = 8

    def __post_init__(self):
        check_whole("DeepLabV1", "width", self.width)
        check_odd("DeepLabV1", "kernel_size", self.kernel_size)
        check_whole("DeepLabV1", "rate", self.rate)
        check_fraction("DeepLabV1", "dropout", self.dropout)

    def __call__(self, features: Features) -> Features:
        *finer, (stride, x) = features
        x = fully_connected(x, self.width, kernel_size=self.kernel_size, rate=self.rate, dropout=self.dropout, name="d")
        return (*pass_through(tuple(finer) if self.encoder_levels else ()), Level(stride, x))
