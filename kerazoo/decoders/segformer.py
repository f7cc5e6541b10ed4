"""SegFormer's all-MLP decoder: a linear layer per level, all levels at one resolution, a linear layer that fuses them.

Xie et al., 2021, https://arxiv.org/abs/2105.15203, section 3.2: F_i = Linear(E_i), resized to a quarter of the image,
concatenated coarse to fine, fused by a 1x1 convolution with batch norm and ReLU. The width is 256 with the encoders B0
and B1 and 768 with larger ones. The dropout is that of the authors' code.

smp's Segformer is `SegFormer(finest_stride=2, dropout=0)` under `Linear(upsampling=4, align_corners=True)`: it reads
the level at stride 2, too, where the encoder has one.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_fraction, check_whole
from kerazoo.decoders._levels import level_names, levels_from
from kerazoo.layers import Resize, ResizedConcatConv
from kerazoo.layers.blocks import norm
from kerazoo.types import Decoder, Features, Level


@dataclass(frozen=True, kw_only=True)
class SegFormer(Decoder):
    """Fuse all levels at one resolution, pixel by pixel: all context comes from the encoder.

    Args:
        width: Channels that each level is projected to, and of the result.
        stride: Resolution of the result: that of the finest level whose stride is at least this.
        finest_stride: Levels finer than this are left out; those between it and `stride` are downsampled.
        dropout: Rate of the spatial dropout at the end.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level of `width` channels.
    Raises: ValueError if an argument is not one of those, or no level has a stride of at least `stride`.
    """

    width: int = 256
    stride: int = 4
    finest_stride: int = 4
    dropout: float = 0.1

    def __post_init__(self):
        check_whole("SegFormer", "width", self.width)
        check_whole("SegFormer", "stride", self.stride)
        check_whole("SegFormer", "finest_stride", self.finest_stride)
        check_fraction("SegFormer", "dropout", self.dropout)

    def __call__(self, features: Features) -> Features:
        used = levels_from("SegFormer", features, self.finest_stride)
        target = next((level for level in used if level.stride >= self.stride), None)
        if target is None:
            raise ValueError(
                f"SegFormer's `stride` must be that of a level or less: there are {[level.stride for level in used]}, "
                f"received stride={self.stride}."
            )
        projected = []
        for (stride, x), name in zip(used, level_names(used), strict=True):
            if stride < target.stride:  # before the projection: the same result, at a fraction of the cost
                x = Resize(name=f"{name}_down")(x, like=target.tensor)
            x = layers.Dense(self.width, kernel_initializer="he_normal", name=f"{name}_project")(x)
            projected.append(x)
        x = ResizedConcatConv(self.width, name="d_fuse_conv")(projected[::-1])
        x = norm(x, name="d_fuse_bn")
        x = layers.ReLU(name="d_fuse_relu")(x)
        if self.dropout:
            x = layers.SpatialDropout2D(self.dropout, name="d_dropout")(x)
        return (Level(target.stride, x),)
