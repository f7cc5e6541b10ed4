"""UPerNet decoder: pyramid pooling on top of a feature pyramid, all of whose levels are fused at the finest one.

Xiao et al., 2018, https://arxiv.org/abs/1807.10221: the segmentation part, without the branches for parts, materials
and textures.

smp's UPerNet is `UPerNet(layer_norm=True)` under `Linear(upsampling=4, align_corners=True)`; its `decoder_use_norm` of
"batchnorm", "instancenorm" or False is `norm` of "batch", "instance" or None, but the convolution after the pooling
always has batch norm.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole, check_wholes
from kerazoo.decoders._levels import level_names, levels_from
from kerazoo.layers import PyramidPooling, Resize
from kerazoo.layers.blocks import NORMS, conv_norm_act
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class UPerNet(Decoder):
    """Pyramid pooling module on the coarsest level, a top-down path, and a fusion of all levels.

    Args:
        width: Channels of the pyramid's levels and of the result.
        pools: Rows and columns of the maps that the coarsest level is pooled to.
        finest_stride: Levels finer than this are left out; an encoder that starts coarser keeps all.
        layer_norm: Whether layer norm is applied to the encoder's levels.
        norm: Normalization of the convolutions: "batch", "group", "instance", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level of `width` channels, at the stride of the finest used one.
    Raises: ValueError if an argument is not one of those, or no level is left.
    """

    width: int = 256
    pools: tuple[int, ...] = (1, 2, 3, 6)
    finest_stride: int = 4
    layer_norm: bool = False
    norm: str | None = "batch"

    def __post_init__(self):
        object.__setattr__(self, "pools", check_wholes("UPerNet", "pools", self.pools))
        check_whole("UPerNet", "width", self.width)
        check_whole("UPerNet", "finest_stride", self.finest_stride)
        check_choice("UPerNet", "norm", self.norm, NORMS)

    def __call__(self, features: Features) -> Features:
        used = levels_from("UPerNet", features, self.finest_stride)
        names = level_names(used)
        maps = [level.tensor for level in used]
        if self.layer_norm:
            maps = [
                layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
                for x, name in zip(maps, names, strict=True)
            ]
        x = self._pyramid_pooling(maps[-1], name=f"{names[-1]}_pool")
        pyramid = [x]  # coarse to fine
        for tensor, name in zip(reversed(maps[:-1]), reversed(names[:-1]), strict=True):
            lateral = conv_norm_act(tensor, self.width, 1, norm_kind=self.norm, name=f"{name}_lateral")
            x = Resize(name=f"{name}_up")(x, like=lateral)
            x = layers.Add(name=f"{name}_merge")([lateral, x])
            pyramid.append(conv_norm_act(x, self.width, norm_kind=self.norm, name=f"{name}_out"))
        return (Level(used[0].stride, self._fuse(pyramid, names[::-1])),)

    def _pyramid_pooling(self, x: Tensor, *, name: str) -> Tensor:
        x = PyramidPooling(sizes=self.pools, filters=self.width, norm=self.norm, name=name)(x)
        return conv_norm_act(x, self.width, name=f"{name}_out")

    def _fuse(self, pyramid: list[Tensor], names: list[str]) -> Tensor:
        """Concatenate all levels, given coarse to fine, at the resolution of the finest, and convolve."""
        *coarse, x = pyramid
        upsampled = [Resize(name=f"{name}_grow")(tensor, like=x) for tensor, name in zip(coarse, names, strict=False)]
        if upsampled:
            x = layers.Concatenate(name="d_fuse_merge")([x, *reversed(upsampled)])
        return conv_norm_act(x, self.width, norm_kind=self.norm, name="d_fuse")
