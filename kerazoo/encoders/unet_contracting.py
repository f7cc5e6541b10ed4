"""The contracting path of the first U-Net, as an encoder.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597. Its valid convolutions use up a margin, which is made by
mirroring the image, as the paper does at the borders of its tiles.
"""

import dataclasses
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_whole, check_wholes
from kerazoo.encoders.preprocessing import normalize
from kerazoo.layers import CropLike, MirrorPad, PadToMultiple
from kerazoo.layers.blocks import conv_norm_act
from kerazoo.types import TORCH, Encoder, Features, Level, Tensor

PADDINGS = ("valid", "same")


@dataclass(frozen=True, kw_only=True)
class UNetContracting(Encoder):
    """Two 3x3 convolutions with ReLU per level, 2x2 max pooling between levels, dropout on the two coarsest.

    Args:
        arch: Name in the catalog of pretrained weights, None for an encoder of your own making.
        widths: Channels of each level.
        padding: "valid" for convolutions that see the mirrored image and never zeros, or "same".
        dropout: Share of the two coarsest levels that training sets to zero.
        mirrored: Pixels on each side of the images that are mirrored already; the mirroring goes on from there.
            `segmenter` sets it when the decoder needs a margin, too.

    Call: `image` `(B, H, W, C)`, normalized as `preprocess` does; `output_stride`, the coarsest stride that is of use:
        any that is not finer than the coarsest level; `depth`, the number of levels to return, None for all.
    Returns: levels at strides 1, 2, 4, …, each with ceil(H / stride) rows for every H.
    Raises: ValueError if an argument is not one of those.
    """

    arch: str | None = None
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: str = "valid"
    dropout: float = 0.5
    mirrored: int = 0

    def __post_init__(self):
        check_choice("UNetContracting", "padding", self.padding, PADDINGS)
        check_fraction("UNetContracting", "dropout", self.dropout)
        check_whole("UNetContracting", "mirrored", self.mirrored, least=0)
        object.__setattr__(self, "widths", check_wholes("UNetContracting", "widths", self.widths))

    @property
    def pad_multiple(self) -> int:
        """Stride of the coarsest level."""
        return 2 ** (len(self.widths) - 1)

    def preprocess(self, image: Tensor) -> Tensor:
        return normalize(image, TORCH)

    def continuing_mirror(self, margin: int) -> Encoder:
        return dataclasses.replace(self, mirrored=margin) if margin else self

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        if depth is not None and not 1 <= depth <= len(self.widths):
            raise ValueError(f"UNetContracting has 1 to {len(self.widths)} levels, received depth={depth}.")
        if output_stride < self.pad_multiple:
            raise ValueError(
                f"UNetContracting's `output_stride` is at least {self.pad_multiple}, received {output_stride}: it has "
                "no dilated convolutions. Give it fewer `widths`."
            )
        widths = self.widths[:depth]
        multiple = 2 ** (len(widths) - 1)
        valid = self.padding == "valid"
        margin = 2 * (2 ** len(widths) - 1) if valid else 0  # two rows on each side at every stride
        if valid:
            x = MirrorPad(margin, multiple=multiple, mirrored=self.mirrored, dtype="float32", name="s1_mirror")(image)
        else:
            x = PadToMultiple(multiple, dtype="float32", name="s1_pad")(image)
        levels = []
        for position, width in enumerate(widths):
            stride = 2**position
            if position:
                x = layers.MaxPooling2D(2, name=f"s{stride}_pool")(x)
            for i in (1, 2):
                x = conv_norm_act(x, width, padding=self.padding, norm_kind=None, name=f"s{stride}_conv{i}")
            if position >= len(self.widths) - 2:
                x = layers.Dropout(self.dropout, name=f"s{stride}_drop")(x)
            margin -= 2 * stride if valid else 0
            levels.append(Level(stride, _inner(x, image, margin // stride, stride=stride)))
        return tuple(levels)


def _inner(x: Tensor, image: Tensor, margin: int, *, stride: int) -> Tensor:
    """The level without its margin, and without what the image was padded by."""
    if margin:
        x = layers.Cropping2D(((margin, 0), (margin, 0)), name=f"s{stride}_inner")(x)
    return CropLike(stride=stride, name=f"s{stride}_crop")(x, image)


VARIANTS = {str(part.arch): part for part in (UNetContracting(arch="unet_contracting"),)}
