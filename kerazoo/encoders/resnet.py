"""ResNet encoders, v1.5: the stride of a bottleneck sits in its 3x3 convolution.

He et al., 2016, https://arxiv.org/abs/1512.03385. Layer by layer the networks of torchvision and timm, whose tensor
names the layer names follow (`layer1.0.conv1` is `layer1_0_conv1` here). SE-ResNets are timm's `seresnet…`: a gate at
the end of every block, before the sum (Hu et al., 2018, https://arxiv.org/abs/1709.01507).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_wholes
from kerazoo.encoders.tops import pooled_dense
from kerazoo.encoders.weights import StateDictEncoder
from kerazoo.layers import SqueezeExcite
from kerazoo.layers.blocks import conv, norm
from kerazoo.types import Features, Level, Tensor


def basic_block(
    x: Tensor, width: int, *, strides: int, dilations: tuple[int, int], project: bool, squeeze_excite: bool, name: str
) -> Tensor:
    """Two 3x3 convolutions around a residual; `(B, H, W, C)` to `(B, ceil(H / strides), …, width)`."""
    shortcut = _shortcut(x, width, strides=strides, name=name) if project else x
    x = conv(x, width, 3, strides=strides, dilation=dilations[0], name=f"{name}_conv1")
    x = norm(x, name=f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = conv(x, width, 3, dilation=dilations[1], name=f"{name}_conv2")
    x = norm(x, name=f"{name}_bn2")
    x = _sum(x, shortcut, squeeze_excite=squeeze_excite, name=name)
    return layers.ReLU(name=f"{name}_relu2")(x)


def bottleneck(
    x: Tensor,
    width: int,
    *,
    strides: int,
    dilations: tuple[int, int],
    project: bool,
    squeeze_excite: bool,
    stride_first: bool = False,
    name: str,
) -> Tensor:
    """1x1, 3x3, 1x1 convolutions around a residual, `strides` in the second, or, as in v1, the first of them.

    The output has `4 * width` channels.
    """
    shortcut = _shortcut(x, 4 * width, strides=strides, name=name) if project else x
    x = conv(x, width, 1, strides=strides if stride_first else 1, name=f"{name}_conv1")
    x = norm(x, name=f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = conv(x, width, 3, strides=1 if stride_first else strides, dilation=dilations[0], name=f"{name}_conv2")
    x = norm(x, name=f"{name}_bn2")
    x = layers.ReLU(name=f"{name}_relu2")(x)
    x = conv(x, 4 * width, 1, name=f"{name}_conv3")
    x = norm(x, name=f"{name}_bn3")
    x = _sum(x, shortcut, squeeze_excite=squeeze_excite, name=name)
    return layers.ReLU(name=f"{name}_relu3")(x)


def _shortcut(x: Tensor, filters: int, *, strides: int, name: str) -> Tensor:
    x = conv(x, filters, 1, strides=strides, name=f"{name}_downsample_conv")
    return norm(x, name=f"{name}_downsample_bn")


def _sum(x: Tensor, shortcut: Tensor, *, squeeze_excite: bool, name: str) -> Tensor:
    if squeeze_excite:
        x = SqueezeExcite(reduction=16, divisor=8, name=f"{name}_se")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])


@dataclass(frozen=True, kw_only=True)
class ResNet(StateDictEncoder):
    """Stem (7x7 convolution and max pooling, stride 2 each) and four stages of residual blocks.

    Args:
        arch: Name in the catalog of pretrained weights, None for an encoder of your own making.
        block: `basic_block` or `bottleneck`.
        depths: Blocks of each stage.
        widths: Width of the 3x3 convolutions of each stage.
        expansion: Channels of a stage's output per channel of its width; follows from `block`.
        stem_width: Channels of the stem.
        squeeze_excite: Whether blocks end in a squeeze-and-excitation with a 16th of their channels, rounded to a
            multiple of 8.
        dilate_first: Where the first convolution of a stage is dilated that would have a stride: False dilates it as
            the stage before, so that features are those of the strided network computed more densely (torchvision,
            timm); True as the rest of its stage (segmentation_models_pytorch).

    Call: `image` `(B, H, W, C)`, normalized as `preprocess` does; `output_stride` 32, 16 or 8, where strided
        convolutions beyond it are replaced by dilated ones; `depth`, the number of levels to return, 1 to 5, None for
        all.
    Returns: levels at strides 2, 4, 8, 16, 32; each with ceil(H / stride) rows for every H.
    Raises: ValueError if `output_stride` or `depth` is not one of those.
    """

    arch: str | None = None
    block: Callable[..., Tensor]
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    expansion: int
    stem_width: int = 64
    squeeze_excite: bool = False
    dilate_first: bool = False

    pad_multiple = 32
    output_strides = (32, 16, 8)

    def __post_init__(self):
        for name in ("depths", "widths"):
            object.__setattr__(self, name, check_wholes("ResNet", name, getattr(self, name)))
        if len(self.depths) != len(self.widths):
            raise ValueError(f"ResNet needs one depth per width, received {self.depths} and {self.widths}.")

    def state_dict_name(self, path: str) -> str:
        path = path.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
        path = path.replace("se/squeeze", "se.fc1").replace("se/excite", "se.fc2")
        return re.sub(r"^(layer\d)_(\d+)_", r"\1.\2.", path)

    def state_dict_beyond(self, depth: int) -> tuple[str, ...]:
        return tuple(f"layer{stage}" for stage in range(depth, 1 + len(self.depths)))

    def top(self, features: Tensor, *, num_classes: int) -> Tensor:
        return pooled_dense(features, num_classes=num_classes, name="fc")

    def pool(self, x: Tensor) -> Tensor:
        """The max pooling of the stem; values are not negative, so the zeros around never win."""
        x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)
        return layers.MaxPooling2D(3, strides=2, name="maxpool")(x)

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        if output_stride not in self.output_strides:
            raise ValueError(f"A ResNet's `output_stride` is one of {self.output_strides}, received {output_stride}.")
        x = conv(image, self.stem_width, 7, strides=2, name="conv1")
        x = norm(x, name="bn1")
        x = layers.ReLU(name="relu1")(x)
        levels = [Level(2, x)]
        x = self.pool(x)
        stride, dilation, channels = 4, 1, self.stem_width
        for stage, (blocks, width) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            if depth is not None and len(levels) == depth:
                break
            first_strides, first_dilation = (1 if stage == 1 else 2), dilation
            if stride * first_strides > output_stride:
                dilation *= first_strides
                first_dilation = dilation if self.dilate_first else first_dilation
                first_strides = 1
            for index in range(blocks):
                first = index == 0
                out_channels = width * self.expansion
                x = self.block(
                    x,
                    width,
                    strides=first_strides if first else 1,
                    dilations=(first_dilation if first else dilation, dilation),
                    project=first and (first_strides > 1 or stage > 1 or channels != out_channels),
                    squeeze_excite=self.squeeze_excite,
                    name=f"layer{stage}_{index}",
                )
                channels = out_channels
            stride *= first_strides
            levels.append(Level(stride, x))
        if depth is not None and depth != len(levels):
            raise ValueError(f"A ResNet has 1 to {1 + len(self.depths)} levels, received depth={depth}.")
        return tuple(levels)


VARIANTS = {
    str(part.arch): part
    for part in (
        ResNet(arch="resnet18", block=basic_block, depths=(2, 2, 2, 2), expansion=1),
        ResNet(arch="resnet26", block=bottleneck, depths=(2, 2, 2, 2), expansion=4),
        ResNet(arch="resnet34", block=basic_block, depths=(3, 4, 6, 3), expansion=1),
        ResNet(arch="resnet50", block=bottleneck, depths=(3, 4, 6, 3), expansion=4),
        ResNet(arch="resnet101", block=bottleneck, depths=(3, 4, 23, 3), expansion=4),
        ResNet(arch="resnet152", block=bottleneck, depths=(3, 8, 36, 3), expansion=4),
        ResNet(arch="seresnet18", block=basic_block, depths=(2, 2, 2, 2), expansion=1, squeeze_excite=True),
        ResNet(arch="seresnet34", block=basic_block, depths=(3, 4, 6, 3), expansion=1, squeeze_excite=True),
        ResNet(arch="seresnet50", block=bottleneck, depths=(3, 4, 6, 3), expansion=4, squeeze_excite=True),
        ResNet(arch="seresnet101", block=bottleneck, depths=(3, 4, 23, 3), expansion=4, squeeze_excite=True),
        ResNet(arch="seresnet152", block=bottleneck, depths=(3, 8, 36, 3), expansion=4, squeeze_excite=True),
    )
}
