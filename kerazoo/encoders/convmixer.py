"""ConvMixer encoders: patches, then depthwise and pointwise convolutions at one resolution.

Trockman and Kolter, 2022, https://arxiv.org/abs/2201.09792. Activation first, then batch norm, as timm, whose networks
these are: `convmixer_768_32` has 7x7 kernels and ReLU, the others 9x9 kernels and GELU. `convmixer_256_20`, for
segmentation, adds a residual around the pointwise convolutions too.
"""

import re
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_odd, check_whole
from kerazoo.encoders.tops import pooled_dense
from kerazoo.encoders.weights import StateDictEncoder
from kerazoo.layers import PadToMultiple
from kerazoo.layers.blocks import norm
from kerazoo.types import Features, Level, Tensor

ACTIVATIONS = ("gelu", "relu")

TORCH_NAMES = {
    "stem_conv": "stem.0",
    "stem_bn": "stem.2",
    "head": "head",
    "spatial_conv": "0.fn.0",
    "spatial_bn": "0.fn.2",
    "channel_conv": "1",
    "channel_bn": "3",
}
"""timm's modules of the stem and the top, and of a block's layers below the block."""


@dataclass(frozen=True, kw_only=True)
class ConvMixer(StateDictEncoder):
    """Patch embedding and `blocks` of the same shape; one level, at the stride of the patches.

    Args:
        arch: Name in the catalog of pretrained weights, None for an encoder of your own making.
        width: Channels of every map.
        blocks: Number of blocks.
        kernel_size: Rows of the depthwise kernels, odd.
        patch_size: Pixels per row of the maps.
        activation: "gelu" (the exact one) or "relu".
        pointwise_residual: Whether the pointwise half of a block, too, is added to its input. Weights of the one kind
            fit the other, and mean something else there.

    Call: `image` `(B, H, W, C)`, normalized as `preprocess` does; `output_stride`, the coarsest stride that is of use:
        any that is not finer than the patches; `depth` 1 or None.
    Returns: one level at stride `patch_size`, `(B, ceil(H / patch_size), ceil(W / patch_size), width)`: what the last
        patches lack is zeros. (timm leaves out the rows that fill no patch.)
    Raises: ValueError if an argument is not one of those.
    """

    arch: str | None = None
    width: int
    blocks: int
    kernel_size: int = 9
    patch_size: int = 7
    activation: str = "gelu"
    pointwise_residual: bool = False

    def __post_init__(self):
        for name in ("width", "blocks", "patch_size"):
            check_whole("ConvMixer", name, getattr(self, name))
        check_odd("ConvMixer", "kernel_size", self.kernel_size)
        check_choice("ConvMixer", "activation", self.activation, ACTIVATIONS)

    @property
    def pad_multiple(self) -> int:
        """Images are padded to whole patches."""
        return self.patch_size

    @property
    def output_strides(self) -> tuple[int, ...]:
        """The one stride there is."""
        return (self.patch_size,)

    def state_dict_name(self, path: str) -> str:
        block = re.match(r"blocks_(\d+)_", path)
        return f"blocks.{block[1]}.{TORCH_NAMES[path[block.end() :]]}" if block else TORCH_NAMES[path]

    def top(self, features: Tensor, *, num_classes: int) -> Tensor:
        return pooled_dense(features, num_classes=num_classes, name="head")

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        if output_stride < self.patch_size:
            raise ValueError(
                f"This ConvMixer has patches of {self.patch_size} pixels and nothing that could be dilated, so its "
                f"`output_stride` is at least {self.patch_size}, received {output_stride}. Take smaller patches."
            )
        if depth not in (None, 1):
            raise ValueError(f"A ConvMixer has one level, received depth={depth}. Leave it out.")
        x = PadToMultiple(self.patch_size, dtype="float32", name="stem_pad")(image)
        x = layers.Conv2D(
            self.width, self.patch_size, strides=self.patch_size, kernel_initializer="he_normal", name="stem_conv"
        )(x)
        x = self._activate(x, name="stem")
        for index in range(self.blocks):
            x = self._block(x, name=f"blocks_{index}")
        return (Level(self.patch_size, x),)

    def _block(self, x: Tensor, *, name: str) -> Tensor:
        mixed = layers.DepthwiseConv2D(
            self.kernel_size, padding="same", depthwise_initializer="he_normal", name=f"{name}_spatial_conv"
        )(x)
        mixed = self._activate(mixed, name=f"{name}_spatial")
        x = layers.Add(name=f"{name}_spatial_add")([mixed, x])
        mixed = layers.Conv2D(self.width, 1, kernel_initializer="he_normal", name=f"{name}_channel_conv")(x)
        mixed = self._activate(mixed, name=f"{name}_channel")
        return layers.Add(name=f"{name}_channel_add")([mixed, x]) if self.pointwise_residual else mixed

    def _activate(self, x: Tensor, *, name: str) -> Tensor:
        x = layers.Activation(self.activation, name=f"{name}_{self.activation}")(x)
        return norm(x, name=f"{name}_bn")


VARIANTS = {
    str(part.arch): part
    for part in (
        ConvMixer(arch="convmixer_256_20", width=256, blocks=20, pointwise_residual=True),
        ConvMixer(arch="convmixer_768_32", width=768, blocks=32, kernel_size=7, activation="relu"),
        ConvMixer(arch="convmixer_1024_20_ks9_p14", width=1024, blocks=20, patch_size=14),
        ConvMixer(arch="convmixer_1536_20", width=1536, blocks=20),
    )
}
