"""Panoptic FPN's semantic branch: each level of a feature pyramid is upsampled to the finest one, and all are fused.

Kirillov et al., 2019, https://arxiv.org/abs/1901.02446, section 3: upsampling stages of a 3x3 convolution to 128
channels, group norm, ReLU and 2x bilinear upsampling; then the sum. Differs from the paper: a stage upsamples to the
size of the next finer level, whatever the strides.

smp's FPN is `SemanticFPN(smooth=False, interpolation="nearest", align_corners=True, dropout=0.2)` under
`Linear(upsampling=4, align_corners=True)`; its `decoder_merge_policy` of "add" or "cat" is `fuse` of "sum" or "concat".
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_whole
from kerazoo.decoders._levels import level_names, levels_from
from kerazoo.decoders.fpn import output_conv, top_down
from kerazoo.layers import Resize
from kerazoo.layers.blocks import GROUPS, conv_norm_act
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Decoder, Features, Level, Tensor

FUSES = ("sum", "concat")


@dataclass(frozen=True, kw_only=True)
class SemanticFPN(Decoder):
    """An FPN whose levels are upsampled to the stride of the finest and fused.

    Args:
        pyramid_width: Channels of the pyramid's levels.
        width: Channels that each level is convolved to; a multiple of 32, the number of groups of the norm.
        fuse: "sum", or "concat" for `width` channels per level, coarse to fine.
        finest_stride: Levels finer than this are left out; an encoder that starts coarser keeps all.
        interpolation: Upsampling within the pyramid, "bilinear" or "nearest".
        smooth: Whether a 3x3 convolution follows each merge of the pyramid, as in the paper.
        align_corners: Whether corner pixels coincide in the upsampling stages.
        dropout: Rate of the spatial dropout at the end.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level, at the stride of the finest used one.
    Raises: ValueError if an argument is not one of those, or no level is left.
    """

    pyramid_width: int = 256
    width: int = 128
    fuse: str = "sum"
    finest_stride: int = 4
    interpolation: str = "bilinear"
    smooth: bool = True
    align_corners: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        check_whole("SemanticFPN", "pyramid_width", self.pyramid_width)
        check_whole("SemanticFPN", "width", self.width)
        if self.width % GROUPS:
            raise ValueError(
                f"SemanticFPN's `width` must be a multiple of {GROUPS}, the groups of its norm; received {self.width}."
            )
        check_choice("SemanticFPN", "fuse", self.fuse, FUSES)
        check_whole("SemanticFPN", "finest_stride", self.finest_stride)
        check_choice("SemanticFPN", "interpolation", self.interpolation, INTERPOLATIONS)
        check_fraction("SemanticFPN", "dropout", self.dropout)

    def __call__(self, features: Features) -> Features:
        used = levels_from("SemanticFPN", features, self.finest_stride)
        names = level_names(used)
        maps = top_down(used, width=self.pyramid_width, interpolation=self.interpolation)
        if self.smooth:
            maps = [output_conv(x, name=name) for x, name in zip(maps, names, strict=True)]
        pyramid = [Level(level.stride, x) for level, x in zip(used, maps, strict=True)]
        upsampled = [self._upsample(pyramid, position, name=name) for position, name in enumerate(names)]
        if len(upsampled) > 1:
            merge = layers.Add if self.fuse == "sum" else layers.Concatenate
            upsampled = [merge(name="d_fuse")(upsampled[::-1])]
        (x,) = upsampled
        if self.dropout:
            x = layers.SpatialDropout2D(self.dropout, name="d_dropout")(x)
        return (Level(used[0].stride, x),)

    def _upsample(self, pyramid: list[Level], position: int, *, name: str) -> Tensor:
        """Stages of convolution and upsampling from one level to the finest; one convolution for the finest itself."""
        stride, x = pyramid[position]
        finer = [level for level in pyramid[:position] if level.stride < stride]
        sizes = {level.stride: level.tensor for level in reversed(finer)}  # repeated strides have one size
        if not sizes:
            return conv_norm_act(x, self.width, norm_kind="group", name=f"{name}_assemble1")
        for count, like in enumerate(sizes.values(), start=1):
            x = conv_norm_act(x, self.width, norm_kind="group", name=f"{name}_assemble{count}")
            x = Resize(align_corners=self.align_corners, name=f"{name}_grow{count}")(x, like=like)
        return x
