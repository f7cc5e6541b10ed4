"""DeepLab v3+: the ASPP of DeepLab v3, refined by low-level features at stride 4.

Chen et al., 2018, https://arxiv.org/abs/1802.02611. Differs from the paper: separable convolutions, where they are
asked for, have no batch norm between their two parts.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_fraction, check_whole, check_wholes
from kerazoo.decoders._context import aspp_rates
from kerazoo.layers import ASPP, Resize
from kerazoo.layers.blocks import conv_norm_act
from kerazoo.types import Decoder, Features, Level


@dataclass(frozen=True, kw_only=True)
class DeepLabV3Plus(Decoder):
    """Upsample the ASPP output, concatenate projected low-level features, and convolve.

    smp's DeepLabV3Plus is `rates=(12, 24, 36), separable_aspp=True, separable=True, context_convolutions=1,
    convolutions=1, dropout=0.5, align_corners=True`.

    Args:
        width: Channels of the decoded levels.
        rates: Dilations of the ASPP; None takes 6, 12 and 18 at stride 16, twice these at stride 8, and so on.
        low_level_width: Channels that the low-level features are projected to.
        low_level_stride: The low-level features are the finest level of at least this stride.
        convolutions: Number of 3x3 convolutions after the concatenation.
        context_convolutions: Number of 3x3 convolutions between the ASPP and the upsampling.
        separable_aspp: Whether the dilated convolutions of the ASPP are separable.
        separable: Whether the other 3x3 convolutions are.
        dropout: Dropout rate after the ASPP; 0.1 in the authors' code.
        align_corners: Whether corner pixels coincide when the ASPP output is upsampled.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the refined level, at the stride of the low-level features, and the ASPP output, at the coarsest stride.
    Raises: ValueError if an argument is not one of those, or the coarsest level is the only one of at least
        `low_level_stride`.
    """

    width: int = 256
    rates: tuple[int, ...] | None = None
    low_level_width: int = 48
    low_level_stride: int = 4
    convolutions: int = 2
    context_convolutions: int = 0
    separable_aspp: bool = False
    separable: bool = False
    dropout: float = 0.1
    align_corners: bool = False

    output_stride = 16

    def __post_init__(self):
        for name in ("width", "low_level_width", "low_level_stride"):
            check_whole("DeepLabV3Plus", name, getattr(self, name))
        for name in ("convolutions", "context_convolutions"):
            check_whole("DeepLabV3Plus", name, getattr(self, name), least=0)
        check_fraction("DeepLabV3Plus", "dropout", self.dropout)
        if self.rates is not None:
            object.__setattr__(self, "rates", check_wholes("DeepLabV3Plus", "rates", self.rates))

    def __call__(self, features: Features) -> Features:
        *finer, (stride, x) = features
        low = next((level for level in finer if level.stride >= self.low_level_stride), None)
        if low is None:
            raise ValueError(
                f"DeepLabV3Plus needs a level of stride {self.low_level_stride} or more beside the coarsest one, "
                f"received the strides {[level.stride for level in features]}. Give a smaller `low_level_stride`, or "
                "the encoder a larger `depth`."
            )
        rates = aspp_rates(stride) if self.rates is None else self.rates
        x = ASPP(filters=self.width, rates=rates, separable=self.separable_aspp, dropout=self.dropout, name="d_aspp")(x)
        for i in range(self.context_convolutions):
            x = conv_norm_act(x, self.width, separable=self.separable, name=f"d_context{i + 1}")
        context = Level(stride, x)
        projected = conv_norm_act(low.tensor, self.low_level_width, 1, name="d_low")
        x = Resize(align_corners=self.align_corners, name="d_up")(x, like=projected)
        x = layers.Concatenate(name="d_merge")([x, projected])
        for i in range(self.convolutions):
            x = conv_norm_act(x, self.width, separable=self.separable, name=f"d_fuse{i + 1}")
        return Level(low.stride, x), context
