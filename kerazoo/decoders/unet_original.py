"""Expanding path of the original U-Net: up-convolution, cropped and concatenated skip, two valid convolutions.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597; with the encoder `unet_contracting` and the linear head this
is its network. Valid convolutions consume rows at every border: the paper's logits are smaller than its tiles, and
beyond the borders of an image it mirrors the image (the overlap-tile strategy). Here every image is mirrored by
`margin` before the encoder, and the logits have the size of the image.
"""

import itertools
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole, check_wholes
from kerazoo.decoders._levels import level_names
from kerazoo.layers import CropLike
from kerazoo.layers.blocks import conv_norm_act
from kerazoo.types import Decoder, Features, Level, Tensor

PADDINGS = ("valid", "same")


@dataclass(frozen=True, kw_only=True)
class UNetOriginal(Decoder):
    """Stages that upsample, merge with the skip and convolve, without padding and batch norm.

    Args:
        widths: Channels of each stage, coarse to fine, one per skip. None takes those of the skip.
        padding: "valid", or "same" for convolutions that pad with zeros and need no margin.
        margin: Pixels on each side of the image that the features cover beyond it, a multiple of the coarsest stride.
            64 is enough for levels at strides 2 to 32; 32, which costs less, for the paper's strides 1 to 16. Taken for
            0 if `padding` is "same".

    Call: `features` of an image of H + 2 `margin` rows and W + 2 `margin` columns: levels fine to coarse, each
        `(stride, (B, ceil((H + 2 margin) / stride), ceil((W + 2 margin) / stride), C))`.
    Returns: the decoded levels of the image without its margin, fine to coarse, at the strides of the skips.
    Raises: ValueError if an argument is not one of those, there are fewer than two levels, a stride does not divide the
        next, `widths` does not fit the number of skips, or the valid convolutions use up more than `margin`.
    """

    widths: tuple[int, ...] | None = None
    padding: str = "valid"
    margin: int = 64

    def __post_init__(self):
        check_choice("UNetOriginal", "padding", self.padding, PADDINGS)
        check_whole("UNetOriginal", "margin", self.margin, least=0)
        if self.padding == "same":
            object.__setattr__(self, "margin", 0)
        if self.widths is not None:
            object.__setattr__(self, "widths", check_wholes("UNetOriginal", "widths", self.widths))

    def __call__(self, features: Features) -> Features:
        *skips, coarsest = features
        widths = self._widths(features)
        context = self._context_rows(features)  # of `x` beyond the image, on each side
        x = _crop(coarsest.tensor, self.margin // coarsest.stride - context, name="d_crop")
        previous = coarsest.stride
        decoded = []
        for level, width, name in zip(reversed(skips), widths, reversed(level_names(features)[:-1]), strict=True):
            factor = previous // level.stride
            context *= factor
            skip = _crop(level.tensor, self.margin // level.stride - context, name=f"{name}_crop")
            x = layers.Conv2DTranspose(
                width, factor, strides=factor, kernel_initializer="he_normal", name=f"{name}_up"
            )(x)
            x = CropLike(name=f"{name}_up_crop")(x, skip)
            x = layers.Concatenate(name=f"{name}_merge")([x, skip])
            for i in (1, 2):
                x = conv_norm_act(x, width, padding=self.padding, norm_kind=None, name=f"{name}_conv{i}")
            context -= 2 if self.padding == "valid" else 0
            decoded.append(Level(level.stride, _crop(x, context, name=f"{name}_inner")))
            previous = level.stride
        return tuple(reversed(decoded))

    def _widths(self, features: Features) -> tuple[int, ...]:
        *skips, _ = features
        strides = [level.stride for level in features]
        if not skips:
            raise ValueError(f"UNetOriginal needs at least two levels, received strides {strides}.")
        if any(coarse % fine for fine, coarse in itertools.pairwise(strides)):
            raise ValueError(f"UNetOriginal's up-convolutions have whole factors, received strides {strides}.")
        widths = self.widths or tuple(level.tensor.shape[-1] for level in reversed(skips))
        if len(widths) != len(skips):
            raise ValueError(
                f"UNetOriginal needs one width per skip: strides {strides} have {len(skips)} skips, received "
                f"widths={widths}."
            )
        return widths

    def _context_rows(self, features: Features) -> int:
        """Rows of the coarsest level beyond the image, on each side, that the valid convolutions consume."""
        if self.padding == "same":
            return 0
        strides = [level.stride for level in features]
        rows = 0
        for fine, coarse in itertools.pairwise(strides):
            rows = -(-(rows + 2) // (coarse // fine))
        if self.margin < rows * strides[-1] or self.margin % strides[-1]:
            raise ValueError(
                f"UNetOriginal over strides {strides} needs a `margin` of at least {rows * strides[-1]} pixels, a "
                f"multiple of {strides[-1]}, received {self.margin}."
            )
        return rows


def _crop(x: Tensor, rows: int, *, name: str) -> Tensor:
    return layers.Cropping2D(rows, name=name)(x) if rows else x
