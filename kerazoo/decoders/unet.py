"""U-Net decoder: double the resolution, merge the skip, convolve twice.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597. Differs from the paper: "same" convolutions, batch norm, and
bilinear upsampling by default. `skip="sum"` is the variant of segmentation with empty images: cheaper than
concatenation, because both inputs of a merge are projected to its width before they meet.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.layers import CropLike, Resize
from kerazoo.layers.blocks import conv, conv_norm_act
from kerazoo.types import Features, Level, Tensor

SKIPS = ("sum", "concat")
UPSAMPLINGS = ("bilinear", "nearest", "transpose")


@dataclass(frozen=True, kw_only=True)
class UNet:
    """Merge features from the coarsest to the finest level.

    Args:
        widths: Channels after each merge, coarse to fine: one per skip, and a last one, if given, for a step beyond the
            finest skip to the full resolution. None takes (256, 128, 64, 32, 16, …), one per skip and, if the finest
            skip is at stride 2, one more.
        skip: "sum" adds the skip, both sides projected to the width by a 1x1 convolution; "concat" concatenates it.
        upsampling: "bilinear", "nearest", or "transpose" for a transposed 2x2 convolution to the width.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse; the first is what a plain head reads.
    Raises: ValueError if an argument is not one of those, there are fewer than two levels, or `widths` does not fit the
        number of skips.
    """

    widths: tuple[int, ...] | None = None
    skip: str = "sum"
    upsampling: str = "bilinear"

    output_stride = 32
    depth = None

    def __post_init__(self):
        check_choice("UNet", "skip", self.skip, SKIPS)
        check_choice("UNet", "upsampling", self.upsampling, UPSAMPLINGS)
        if self.widths is not None:
            object.__setattr__(self, "widths", tuple(self.widths))
            for width in self.widths:
                check_whole("UNet", "widths", width)

    def __call__(self, features: Features) -> Features:
        *skips, coarsest = features
        widths = self._widths(features)
        x = coarsest.tensor
        decoded = []
        previous = coarsest.stride
        for position, (level, width) in enumerate(zip(reversed(skips), widths, strict=False)):
            # A dilated encoder repeats strides, so the stride alone does not name a merge.
            name = f"d{level.stride}" if level.stride != previous else f"d{level.stride}_{position}"
            x = self._merge(x, level.tensor, width, grow=previous // level.stride, name=name)
            decoded.append(Level(level.stride, x))
            previous = level.stride
        if len(widths) > len(skips):
            x = self._full_resolution(x, widths[-1], factor=previous)
            decoded.append(Level(1, x))
        return tuple(reversed(decoded))

    def _widths(self, features: Features) -> tuple[int, ...]:
        skips = len(features) - 1
        strides = [level.stride for level in features]
        if skips < 1:
            raise ValueError(f"UNet needs at least two levels, received strides {strides}.")
        if self.widths is None:
            steps = skips + (strides[0] == 2)
            return tuple(max(16, 256 >> step) for step in range(steps))
        if len(self.widths) not in (skips, skips + 1):
            raise ValueError(
                f"UNet needs one width per skip, and may have one more to reach the full resolution: strides {strides} "
                f"have {skips} skips, received widths={self.widths}."
            )
        if len(self.widths) > skips and strides[0] == 1:
            raise ValueError(
                f"UNet's finest level is at full resolution already: give {skips} widths, not {skips + 1}."
            )
        return self.widths

    def _merge(self, x: Tensor, skip: Tensor, width: int, *, grow: int, name: str) -> Tensor:
        if self.skip == "sum":
            if self.upsampling != "transpose":
                x = conv(
                    x, width, 1, name=f"{name}_reduce"
                )  # before upsampling: the same result, at a quarter of the cost
            x = self._upsample(x, skip, width, factor=grow, name=f"{name}_up")
            skip = conv(skip, width, 1, name=f"{name}_project")
            x = layers.Add(name=f"{name}_merge")([x, skip])
        else:
            x = self._upsample(x, skip, width, factor=grow, name=f"{name}_up")
            x = layers.Concatenate(name=f"{name}_merge")([x, skip])
        return self._convolve(x, width, name=name)

    def _full_resolution(self, x: Tensor, width: int, *, factor: int) -> Tensor:
        if self.upsampling == "transpose":
            x = layers.Conv2DTranspose(width, factor, strides=factor, name="d1_up")(x)
        else:
            x = Resize(factor=factor, interpolation=self.upsampling, name="d1_up")(x)
        return self._convolve(x, width, name="d1")

    def _upsample(self, x: Tensor, like: Tensor, width: int, *, factor: int, name: str) -> Tensor:
        if self.upsampling != "transpose":
            return Resize(interpolation=self.upsampling, name=name)(x, like=like)
        x = layers.Conv2DTranspose(width, factor, strides=factor, name=name)(x)
        return CropLike(name=f"{name}_crop")(x, like)

    @staticmethod
    def _convolve(x: Tensor, width: int, *, name: str) -> Tensor:
        x = conv_norm_act(x, width, name=f"{name}_fuse1")
        return conv_norm_act(x, width, name=f"{name}_fuse2")
