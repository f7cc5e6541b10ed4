"""DeepLab v3: ASPP with image pooling, or a cascade of dilated blocks, on the coarsest level.

Chen et al., 2017, https://arxiv.org/abs/1706.05587. Dilations scale with the stride of the coarsest level: the paper
doubles them from stride 16 to stride 8. Differs from the paper: the multi-grid is that of the cascade; the encoder's
last stage keeps one dilation.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_whole, check_wholes
from kerazoo.decoders._context import aspp_rates, pass_through
from kerazoo.layers import ASPP
from kerazoo.layers.blocks import conv, conv_norm_act, norm
from kerazoo.types import Decoder, Features, Level, Tensor

CONTEXTS = ("aspp", "cascade")


@dataclass(frozen=True, kw_only=True)
class DeepLabV3(Decoder):
    """Enlarge the receptive field of the coarsest level by ASPP or by a cascade of dilated residual blocks.

    torchvision's and smp's DeepLabV3 are `convolutions=1, dropout=0.5` at an `output_stride` of 8.

    Args:
        context: "aspp", or "cascade" for `blocks` more stages of residual blocks like the last one of a ResNet-50.
        width: Channels of the decoded level; the cascade keeps those of the coarsest level.
        rates: Dilations of the ASPP; None takes 6, 12 and 18 at stride 16, twice these at stride 8, and so on.
        separable: Whether the dilated convolutions of the ASPP are separable.
        dropout: Dropout rate after the ASPP; 0.1 in the authors' code.
        blocks: Stages of the cascade: block5, block6, … of the paper, each dilated twice as much as the one before.
        multi_grid: Dilation of each of the residual blocks in a stage of the cascade, in units of that of the stage.
        convolutions: Number of 3x3 convolutions with batch norm and ReLU after the context.
        encoder_levels: Whether to return the encoder's finer levels too, for heads that read all levels.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level, at the stride of the coarsest; with `encoder_levels`, the encoder's finer ones before it.
    Raises: ValueError if an argument is not one of those.
    """

    context: str = "aspp"
    width: int = 256
    rates: tuple[int, ...] | None = None
    separable: bool = False
    dropout: float = 0.1
    blocks: int = 3
    multi_grid: tuple[int, ...] = (1, 2, 1)
    convolutions: int = 0
    encoder_levels: bool = False

    output_stride = 16

    def __post_init__(self):
        check_choice("DeepLabV3", "context", self.context, CONTEXTS)
        check_whole("DeepLabV3", "width", self.width)
        check_fraction("DeepLabV3", "dropout", self.dropout)
        check_whole("DeepLabV3", "blocks", self.blocks)
        check_whole("DeepLabV3", "convolutions", self.convolutions, least=0)
        object.__setattr__(self, "multi_grid", check_wholes("DeepLabV3", "multi_grid", self.multi_grid))
        if self.rates is not None:
            object.__setattr__(self, "rates", check_wholes("DeepLabV3", "rates", self.rates))

    def __call__(self, features: Features) -> Features:
        *finer, (stride, x) = features
        if self.context == "aspp":
            rates = aspp_rates(stride) if self.rates is None else self.rates
            x = ASPP(filters=self.width, rates=rates, separable=self.separable, dropout=self.dropout, name="d_aspp")(x)
        else:
            x = self._cascade(x, stride)
        for i in range(self.convolutions):
            x = conv_norm_act(x, self.width, name=f"d_conv{i + 1}")
        return (*pass_through(tuple(finer) if self.encoder_levels else ()), Level(stride, x))

    def _cascade(self, x: Tensor, stride: int) -> Tensor:
        """Stages that would have strides 64, 128, …, dilated to keep the stride of the coarsest level."""
        for block in range(self.blocks):
            rate = max(1, round(2 ** (6 + block) / stride))
            for unit, grid in enumerate(self.multi_grid):
                x = _bottleneck(x, dilation=rate * grid, name=f"d_block{5 + block}_{unit}")
        return x


def _bottleneck(x: Tensor, *, dilation: int, name: str) -> Tensor:
    """Residual bottleneck of 1x1, dilated 3x3 and 1x1 convolutions; keeps the number of channels."""
    shortcut, channels = x, x.shape[-1]
    narrow = max(1, channels // 4)
    x = conv_norm_act(x, narrow, 1, name=f"{name}_narrow")
    x = conv_norm_act(x, narrow, 3, dilation=dilation, name=f"{name}_dilated")
    x = norm(conv(x, channels, 1, name=f"{name}_widen_conv"), name=f"{name}_widen_bn")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)
