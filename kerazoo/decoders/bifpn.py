"""Bidirectional feature pyramid network: the decoder of EfficientDet.

Tan et al., 2020, https://arxiv.org/abs/1911.09070. A block is a top-down and a bottom-up path without the nodes that
have a single input, and with a skip from each level's input to its output; blocks are repeated. A node fuses its inputs
by a weighted mean, swish, a depthwise separable 3x3 convolution and batch norm, as in the authors' code and in effdet,
whose outputs it reproduces: https://github.com/rwightman/efficientdet-pytorch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.decoders._levels import level_names, levels_from, stride_ratios
from kerazoo.layers import FastNormalizedFusion, Resize
from kerazoo.layers.blocks import conv, separable_conv
from kerazoo.types import Decoder, Features, Level, Tensor

FUSIONS = ("fast", "sum")
EXTRAS = ("project", "pool")
BATCHNORM = {"momentum": 0.99, "epsilon": 1e-3}
"""The constants of the authors' batch norm."""

COMPOUND = ((64, 3), (88, 4), (112, 5), (160, 6), (224, 7), (288, 7), (384, 8), (384, 8))
"""Width and repeats for the compound coefficients 0 to 7 (table 1 of the paper)."""


@dataclass(frozen=True, kw_only=True)
class BiFPN(Decoder):
    """Repeated top-down and bottom-up paths with learned weights of their inputs.

    Coarser levels are added to the encoder's: the default arguments decode five levels, P3 to P7 of the paper.
    `kerazoo.pairs` has the decoder with the encoder that it was scaled for.

    Args:
        width: Channels of every decoded level.
        repeats: Blocks.
        finest_stride: Levels finer than this are left out; an encoder that starts coarser keeps all.
        extra_levels: Levels beyond the encoder's coarsest, each of half the resolution of the one before.
        extra: "project" pools them from the coarsest level after a 1x1 convolution to `width`, as the authors' code
            does; "pool" pools the encoder's features, and each node projects them.
        fusion: "fast" learns the weight of each input of a node; "sum" adds them, which the authors do from the
            coefficient 6 on, for stability.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse, all of `width` channels.
    Raises: ValueError if an argument is not one of those, fewer than two levels are decoded, or a stride is no multiple
        of the one before.
    """

    width: int = 64
    repeats: int = 3
    finest_stride: int = 8
    extra_levels: int = 2
    extra: str = "project"
    fusion: str = "fast"

    def __post_init__(self):
        for name in ("width", "repeats", "finest_stride"):
            check_whole("BiFPN", name, getattr(self, name))
        check_whole("BiFPN", "extra_levels", self.extra_levels, least=0)
        check_choice("BiFPN", "extra", self.extra, EXTRAS)
        check_choice("BiFPN", "fusion", self.fusion, FUSIONS)

    def __call__(self, features: Features) -> Features:
        levels = self._with_extra_levels(levels_from("BiFPN", features, self.finest_stride))
        ratios = stride_ratios("BiFPN", levels)
        for repeat in range(self.repeats):
            levels = self._block(levels, ratios, name=f"block{repeat + 1}")
        return levels

    def _with_extra_levels(self, features: Features) -> Features:
        levels = list(features)
        stride, x = levels[-1]
        for position in range(self.extra_levels):
            stride *= 2
            if position == 0 and self.extra == "project":
                x = self._project(x, name=f"d{stride}_extra")
            x = _max_pool(x, 2, name=f"d{stride}_extra")
            levels.append(Level(stride, x))
        return tuple(levels)

    def _block(self, levels: Features, ratios: Sequence[int], *, name: str) -> Features:
        names = [f"{level}_{name}" for level in level_names(levels)]
        last = len(levels) - 1
        top_down = {last: levels[last].tensor}  # the coarsest level has no node here: it has a single input
        for i in reversed(range(last)):
            inputs = [levels[i].tensor, top_down[i + 1]]
            top_down[i] = self._node(inputs, ratio=1, name=f"{names[i]}_topdown")
        bottom_up = [top_down[0]]  # nor the finest one here
        for i in range(1, len(levels)):
            inputs = [levels[i].tensor, *([top_down[i]] if i < last else []), bottom_up[-1]]
            bottom_up.append(self._node(inputs, ratio=ratios[i - 1], name=f"{names[i]}_bottomup"))
        return tuple(Level(level.stride, x) for level, x in zip(levels, bottom_up, strict=True))

    def _node(self, inputs: Sequence[Tensor], *, ratio: int, name: str) -> Tensor:
        """Fuse inputs at the resolution of the first; the last is downsampled by a `ratio` above 1, else upsampled."""
        *same, other = [self._project(x, name=f"{name}_{position}") for position, x in enumerate(inputs)]
        if ratio > 1:
            other = _max_pool(other, ratio, name=f"{name}_other")
        else:
            other = Resize(interpolation="nearest", name=f"{name}_other_up")(other, like=same[0])
        fuse = FastNormalizedFusion if self.fusion == "fast" else layers.Add
        x = fuse(name=f"{name}_fuse")([*same, other])
        x = layers.Activation("silu", name=f"{name}_silu")(x)
        x = separable_conv(x, self.width, name=name)
        return layers.BatchNormalization(**BATCHNORM, name=f"{name}_bn")(x)

    def _project(self, x: Tensor, *, name: str) -> Tensor:
        if x.shape[-1] == self.width:
            return x
        x = conv(x, self.width, 1, name=f"{name}_project_conv")
        return layers.BatchNormalization(**BATCHNORM, name=f"{name}_project_bn")(x)


def _max_pool(x: Tensor, factor: int, *, name: str) -> Tensor:
    """Max pooling of stride `factor` with windows centered on the pixels; 3x3 for a factor of 2.

    Keras's "same" padding would shift the windows of even maps by a pixel, so pooling and striding are two layers.
    """
    x = layers.MaxPooling2D(2 * (factor // 2) + 1, strides=1, padding="same", name=f"{name}_pool")(x)
    return layers.MaxPooling2D(1, strides=factor, padding="same", name=f"{name}_stride")(x)
