"""Stages of U-Net-like decoders: upsample, merge the skip, convolve."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import layers

from kerazoo.arguments import check_choice
from kerazoo.layers import CropLike, Resize
from kerazoo.layers.blocks import NORMS, conv_norm_act
from kerazoo.types import Features, Tensor

UPSAMPLINGS = ("bilinear", "nearest", "transpose")


class Stage(NamedTuple):
    """One stage of the top-down path.

    Attributes:
        stride: Of its output.
        name: Prefix of the names of its layers.
        skip: Encoder features to merge, or None beyond the finest level.
        width: Channels of its output.
        factor: Upsampling from the output of the stage before.
    """

    stride: int
    name: str
    skip: Tensor | None
    width: int
    factor: int


def check_stages(owner: str, *, upsampling: str, norm: str | None) -> None:
    """Raise ValueError if `upsampling` or `norm` is unknown."""
    check_choice(owner, "upsampling", upsampling, UPSAMPLINGS)
    check_choice(owner, "norm", norm, NORMS)


def plan_stages(owner: str, features: Features, widths: Sequence[int] | None) -> list[Stage]:
    """Stages from the coarsest level to the finest, and one more to the full resolution if there is a width for it.

    Args:
        owner: Name of the decoder, for errors.
        features: Levels, fine to coarse.
        widths: One per skip, coarse to fine, and a last one, if given, for a stage at full resolution. None takes
            (256, 128, 64, 32, 16, …), one per skip and, if the finest level is at stride 2, one more.

    Raises:
        ValueError: there are fewer than two levels, or `widths` does not fit the number of skips.
    """
    strides = [level.stride for level in features]
    *skips, coarsest = features
    if not skips:
        raise ValueError(
            f"{owner} needs at least two levels, received strides {strides}. Take an encoder with more of them, a "
            "greater `depth`, or a decoder that does without, such as kerazoo.decoders.SegFormer."
        )
    if widths is None:
        widths = [max(16, 256 >> stage) for stage in range(len(skips) + (strides[0] == 2))]
    if len(widths) not in (len(skips), len(skips) + 1):
        raise ValueError(
            f"{owner} needs one width per skip, and may have one more to reach the full resolution: strides {strides} "
            f"have {len(skips)} skips, received widths={tuple(widths)}."
        )
    if len(widths) > len(skips) and strides[0] == 1:
        raise ValueError(
            f"{owner}'s finest level is at full resolution already: give {len(skips)} widths, not {len(widths)}."
        )
    stages = []
    previous = coarsest.stride
    for position, (level, width) in enumerate(zip(reversed(skips), widths, strict=False)):
        # A dilated encoder repeats strides, so the stride alone does not name a stage.
        name = f"d{level.stride}" if level.stride != previous else f"d{level.stride}_{position}"
        stages.append(Stage(level.stride, name, level.tensor, width, previous // level.stride))
        previous = level.stride
    if len(widths) > len(skips):
        stages.append(Stage(1, "d1", None, widths[-1], previous))
    return stages


def upsample(x: Tensor, stage: Stage, *, upsampling: str, name: str) -> Tensor:
    """Upsample the output of the stage before to the resolution of this one.

    Args:
        x: `(B, h, w, C)`.
        stage: The result has the size of its skip; without a skip it is `stage.factor` times as large as `x`.
        upsampling: One of `UPSAMPLINGS`; "transpose" is a transposed convolution to the width of the stage.
        name: Name of the layer.
    """
    if upsampling == "transpose":
        x = layers.Conv2DTranspose(stage.width, stage.factor, strides=stage.factor, name=name)(x)
        return x if stage.skip is None else CropLike(name=f"{name}_crop")(x, stage.skip)
    if stage.skip is None:
        return Resize(factor=stage.factor, interpolation=upsampling, name=name)(x)
    return Resize(interpolation=upsampling, name=name)(x, like=stage.skip)


def double_conv(x: Tensor, width: int, *, norm: str | None, name: str) -> Tensor:
    """Two 3x3 convolutions with normalization and ReLU; `(B, H, W, C)` to `(B, H, W, width)`."""
    x = conv_norm_act(x, width, norm_kind=norm, name=f"{name}_fuse1")
    return conv_norm_act(x, width, norm_kind=norm, name=f"{name}_fuse2")
