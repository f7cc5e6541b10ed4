"""PSPNet: pyramid pooling of the coarsest level of a dilated encoder, then one convolution.

Zhao et al., 2017, https://arxiv.org/abs/1612.01105. Differs from the paper: pooled maps are upsampled with half-pixel
centers unless `align_corners=True`; the auxiliary loss is `segmenter(…, aux=True)`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_odd, check_whole, check_wholes
from kerazoo.decoders._context import pass_through
from kerazoo.layers import PyramidPooling
from kerazoo.layers.blocks import NORMS, conv_norm_act
from kerazoo.types import Decoder, Features, Level


@dataclass(frozen=True, kw_only=True)
class PSPNet(Decoder):
    """Pyramid pooling module on the coarsest level, and one convolution that fuses it.

    smp's PSPNet is `kernel_size=1, dropout=0.2, inputs_first=False, normalize_global=False, align_corners=True`, over
    an encoder of `depth=3`.

    Args:
        width: Channels of the decoded level.
        sizes: Rows and columns of the pooled maps, which together have as many channels as the coarsest level.
        kernel_size: Odd size of the convolution after the pooling.
        dropout: Rate of the spatial dropout at the end.
        inputs_first: Whether the level comes before its pooled maps in the concatenation, or after them.
        norm: Normalization after each convolution: "batch", "group", "instance", or None for a bias instead.
        normalize_global: Whether the projection of the global mean is normalized too.
        align_corners: Whether corner pixels coincide when pooled maps are upsampled.
        encoder_levels: Whether to return the encoder's finer levels too, for heads that read all levels.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level, at the stride of the coarsest; with `encoder_levels`, the encoder's finer ones before it.
    Raises: ValueError if an argument is not one of those.
    """

    width: int = 512
    sizes: tuple[int, ...] = (1, 2, 3, 6)
    kernel_size: int = 3
    dropout: float = 0.1
    inputs_first: bool = True
    norm: str | None = "batch"
    normalize_global: bool = True
    align_corners: bool = False
    encoder_levels: bool = False

    output_stride = 8

    def __post_init__(self):
        check_whole("PSPNet", "width", self.width)
        object.__setattr__(self, "sizes", check_wholes("PSPNet", "sizes", self.sizes))
        check_odd("PSPNet", "kernel_size", self.kernel_size)
        check_fraction("PSPNet", "dropout", self.dropout)
        check_choice("PSPNet", "norm", self.norm, NORMS)

    def __call__(self, features: Features) -> Features:
        *finer, (stride, x) = features
        x = PyramidPooling(
            sizes=self.sizes,
            inputs_first=self.inputs_first,
            norm=self.norm,
            normalize_global=self.normalize_global,
            align_corners=self.align_corners,
            name="d_pyramid",
        )(x)
        x = conv_norm_act(x, self.width, self.kernel_size, norm_kind=self.norm, name="d_fuse")
        x = layers.SpatialDropout2D(self.dropout, name="d_drop")(x)
        return (*pass_through(tuple(finer) if self.encoder_levels else ()), Level(stride, x))
