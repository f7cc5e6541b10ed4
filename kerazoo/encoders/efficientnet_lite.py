"""EfficientNet-Lite encoders: inverted residuals with ReLU6, scaled in width and depth, without squeeze-and-excitation.

Tan and Le, 2019, https://arxiv.org/abs/1905.11946; the Lite variants are those of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Layer by layer timm's
`tf_efficientnet_lite…`, whose tensor names the layer names follow (`blocks.1.0.conv_dw` is `blocks_1_0_conv_dw` here):
zero padding is TensorFlow's, uneven where a convolution has a stride. Images become `(x - 127) / 128`, as in the
official training; timm's configuration has the nearby `(x - 127.5) / 127.5`.
"""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from keras import layers

from kerazoo.arguments import is_number
from kerazoo.encoders.preprocessing import normalize
from kerazoo.encoders.tops import pooled_dense
from kerazoo.encoders.weights import StateDictEncoder
from kerazoo.layers.blocks import BATCHNORM_MOMENTUM, depthwise_initializer
from kerazoo.types import BY_127_128, Features, Level, Tensor

BATCHNORM_EPSILON = 1e-3
"""TensorFlow's, which the weights were trained with."""

STEM_WIDTH = 32
HEAD_WIDTH = 1280


class Stage(NamedTuple):
    """Blocks of one width, before scaling.

    Attributes:
        blocks: How many.
        kernel_size: Of the depthwise convolutions.
        strides: Of the first block's.
        expansion: Channels between the convolutions of a block per channel of its input; 1 leaves out the first 1x1.
        width: Channels of the output.
    """

    blocks: int
    kernel_size: int
    strides: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""The paper's table 1, stages 2 to 8."""

ENDS = (0, 1, 2, 4, 6)
"""Stages whose outputs are the levels: the last ones at their stride."""

LITE_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
LITE_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Our names of efficientnet_lite_pytorch's modules: of the network, of the first block, of the others."""


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite(StateDictEncoder):
    """Stem (3x3 convolution of stride 2) and seven stages of inverted residuals.

    Args:
        arch: Name in the catalog of pretrained weights, None for an encoder of your own making.
        width: Factor on the channels of the stages, each rounded to a multiple of 8; the stem keeps its 32.
        depth: Factor on the blocks of a stage, rounded up; the first and the last stage keep their one.

    Call: `image` `(B, H, W, C)`, normalized as `preprocess` does; `output_stride` 32, 16 or 8, where strided
        convolutions beyond it are replaced by dilated ones; `depth`, the number of levels to return, 1 to 5, None for
        all.
    Returns: levels at strides 2, 4, 8, 16, 32, the last convolution's before ReLU6 as everywhere in these networks;
        each with ceil(H / stride) rows for every H.
    Raises: ValueError if `output_stride` or `depth` is not one of those.
    """

    arch: str | None = None
    width: float = 1.0
    depth: float = 1.0

    pad_multiple = 32
    output_strides = (32, 16, 8)

    def __post_init__(self):
        for name in ("width", "depth"):
            factor = getattr(self, name)
            if not is_number(factor) or factor <= 0:
                raise ValueError(f"EfficientNetLite's `{name}` must be a number above 0, received {factor!r}.")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages with their scaled blocks and widths."""
        inner = range(1, len(STAGES) - 1)
        return tuple(
            stage._replace(
                blocks=math.ceil(stage.blocks * self.depth) if index in inner else stage.blocks,
                width=_rounded(stage.width * self.width),
            )
            for index, stage in enumerate(STAGES)
        )

    def preprocess(self, image: Tensor) -> Tensor:
        return normalize(image, BY_127_128)

    def state_dict_name(self, path: str) -> str:
        return re.sub(r"^blocks_(\d+)_(\d+)_", r"blocks.\1.\2.", path)

    def state_dict_beyond(self, depth: int) -> tuple[str, ...]:
        deeper = range(ENDS[:depth][-1] + 1, len(STAGES))
        return (*(f"blocks.{stage}" for stage in deeper), "conv_head", "bn2")

    def state_dict_alias(self, tensor: str) -> str:
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", tensor)
        if block is None:
            module, dot, name = tensor.partition(".")
            return f"{LITE_NAMES.get(module, module)}{dot}{name}"
        stage, index = 0, int(block[1])
        while stage < len(STAGES) - 1 and index >= self.stages[stage].blocks:
            index -= self.stages[stage].blocks
            stage += 1
        names = LITE_INVERTED if stage else LITE_SEPARABLE
        return f"blocks.{stage}.{index}.{names.get(block[2], block[2])}.{block[3]}"

    def top(self, features: Tensor, *, num_classes: int) -> Tensor:
        x = layers.Conv2D(HEAD_WIDTH, 1, use_bias=False, kernel_initializer="he_normal", name="conv_head")(features)
        return pooled_dense(_norm_act(x, name="bn2"), num_classes=num_classes, name="classifier")

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        if output_stride not in self.output_strides:
            raise ValueError(
                f"An EfficientNet-Lite's `output_stride` is one of {self.output_strides}, received {output_stride}."
            )
        if depth is not None and not 1 <= depth <= len(ENDS):
            raise ValueError(f"An EfficientNet-Lite has 1 to {len(ENDS)} levels, received depth={depth}.")
        ends = ENDS[:depth]
        x = layers.Conv2D(
            STEM_WIDTH,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv_stem",
        )(image)
        x = _norm_act(x, name="bn1")
        levels, stride, dilation = [], 2, 1
        for number, stage in enumerate(self.stages[: ends[-1] + 1]):
            strides, first_dilation = stage.strides, dilation
            if stride * strides > output_stride:  # the first block as the stage before, so features stay the same
                dilation *= strides
                strides = 1
            for index in range(stage.blocks):
                first = index == 0
                x = inverted_residual(
                    x,
                    stage.width,
                    kernel_size=stage.kernel_size,
                    strides=strides if first else 1,
                    dilation=first_dilation if first else dilation,
                    expansion=stage.expansion,
                    name=f"blocks_{number}_{index}",
                )
            stride *= strides
            if number in ends:
                levels.append(Level(stride, x))
        return tuple(levels)


def inverted_residual(
    x: Tensor, width: int, *, kernel_size: int, strides: int, dilation: int, expansion: int, name: str
) -> Tensor:
    """1x1 convolution to `expansion` times the channels, depthwise one, 1x1 to `width`, added to `x` where it fits.

    With an expansion of 1 the first is left out, and layers have timm's names for that kind of block.
    """
    channels, shortcut = x.shape[-1], x
    norms = iter(("bn1", "bn2", "bn3"))
    if expansion > 1:
        x = _pointwise(x, channels * expansion, name=f"{name}_conv_pw")
        x = _norm_act(x, name=f"{name}_{next(norms)}")
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="same",
        dilation_rate=dilation,
        use_bias=False,
        depthwise_initializer=depthwise_initializer(x.shape[-1]),
        name=f"{name}_conv_dw",
    )(x)
    x = _norm_act(x, name=f"{name}_{next(norms)}")
    x = _pointwise(x, width, name=f"{name}_{'conv_pwl' if expansion > 1 else 'conv_pw'}")
    x = _norm(x, name=f"{name}_{next(norms)}")
    return layers.Add(name=f"{name}_add")([x, shortcut]) if strides == 1 and channels == width else x


def _pointwise(x: Tensor, filters: int, *, name: str) -> Tensor:
    return layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal", name=name)(x)


def _norm(x: Tensor, *, name: str) -> Tensor:
    return layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, epsilon=BATCHNORM_EPSILON, name=name)(x)


def _norm_act(x: Tensor, *, name: str) -> Tensor:
    return layers.ReLU(max_value=6.0, name=f"{name}_relu6")(_norm(x, name=name))


def _rounded(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8 and never less than nine tenths of them."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


VARIANTS = {
    str(part.arch): part
    for part in (
        EfficientNetLite(arch="efficientnet_lite0", width=1.0, depth=1.0),
        EfficientNetLite(arch="efficientnet_lite1", width=1.0, depth=1.1),
        EfficientNetLite(arch="efficientnet_lite2", width=1.1, depth=1.2),
        EfficientNetLite(arch="efficientnet_lite3", width=1.2, depth=1.4),
        EfficientNetLite(arch="efficientnet_lite4", width=1.4, depth=1.8),
    )
}
