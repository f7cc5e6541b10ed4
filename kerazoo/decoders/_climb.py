"""What the decoders share that climb an encoder's levels from coarse to fine: names, widths, growing, convolving."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import layers

from kerazoo.arguments import check_choice
from kerazoo.layers import CropLike, Resize
from kerazoo.layers.blocks import NORMS, conv_norm_act
from kerazoo.types import Features, Tensor

UPSAMPLINGS = ("bilinear", "nearest", "transpose")


class Step(NamedTuple):
    """One step of a climb.

    Attributes:
        stride: Of the map that the step makes.
        name: What the names of its layers start with.
        skip: Map of the encoder that is merged, or None beyond the finest one.
        width: Channels of the map that the step makes.
        factor: Rows of this map per row of the step before.
    """

    stride: int
    name: str
    skip: Tensor | None
    width: int
    factor: int


def level_names(features: Features) -> list[str]:
    """A name for each level, fine to coarse: "d8", or "d16_2" where a coarser level has the same stride."""
    strides = [level.stride for level in features]
    return [
        f"d{stride}_{position}" if stride in strides[position + 1 :] else f"d{stride}"
        for position, stride in enumerate(strides)
    ]


def levels_from(owner: str, features: Features, finest_stride: int) -> Features:
    """Levels of at least this stride.

    Raises:
        ValueError: none is left.
    """
    used = tuple(level for level in features if level.stride >= finest_stride)
    if not used:
        raise ValueError(
            f"{owner} with finest_stride={finest_stride} leaves none of the strides "
            f"{[level.stride for level in features]}. Lower `finest_stride`, or give the encoder a greater `depth`."
        )
    return used


def check_climb(owner: str, *, upsampling: str, norm: str | None) -> None:
    """Raise ValueError unless these are arguments of a climb."""
    check_choice(owner, "upsampling", upsampling, UPSAMPLINGS)
    check_choice(owner, "norm", norm, NORMS)


def climb(owner: str, features: Features, widths: Sequence[int] | None) -> list[Step]:
    """Plan the steps from the coarsest level to the finest, and beyond it if there is a width for that.

    Args:
        owner: Who climbs, for errors.
        features: Levels, fine to coarse.
        widths: One per skip, coarse to fine, and a last one, if given, for a step to the full resolution. None takes
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
        widths = [max(16, 256 >> step) for step in range(len(skips) + (strides[0] == 2))]
    if len(widths) not in (len(skips), len(skips) + 1):
        raise ValueError(
            f"{owner} needs one width per skip, and may have one more to reach the full resolution: strides {strides} "
            f"have {len(skips)} skips, received widths={tuple(widths)}."
        )
    if len(widths) > len(skips) and strides[0] == 1:
        raise ValueError(
            f"{owner}'s finest level is at full resolution already: give {len(skips)} widths, not {len(widths)}."
        )
    steps = []
    previous = coarsest.stride
    for position, (level, width) in enumerate(zip(reversed(skips), widths, strict=False)):
        # A dilated encoder repeats strides, so the stride alone does not name a step.
        name = f"d{level.stride}" if level.stride != previous else f"d{level.stride}_{position}"
        steps.append(Step(level.stride, name, level.tensor, width, previous // level.stride))
        previous = level.stride
    if len(widths) > len(skips):
        steps.append(Step(1, "d1", None, widths[-1], previous))
    return steps


def grow(x: Tensor, step: Step, *, upsampling: str, name: str) -> Tensor:
    """Bring the map of the step before to the resolution of this one.

    Args:
        x: `(B, h, w, C)`.
        step: Its skip has the size wanted; without one the map grows by its factor.
        upsampling: One of `UPSAMPLINGS`; "transpose" is a transposed convolution to the width of the step.
        name: Name of the layer.
    """
    if upsampling == "transpose":
        x = layers.Conv2DTranspose(step.width, step.factor, strides=step.factor, name=name)(x)
        return x if step.skip is None else CropLike(name=f"{name}_crop")(x, step.skip)
    if step.skip is None:
        return Resize(factor=step.factor, interpolation=upsampling, name=name)(x)
    return Resize(interpolation=upsampling, name=name)(x, like=step.skip)


def convolve_twice(x: Tensor, width: int, *, norm: str | None, name: str) -> Tensor:
    """Two 3x3 convolutions with normalization and ReLU; `(B, H, W, C)` to `(B, H, W, width)`."""
    x = conv_norm_act(x, width, norm_kind=norm, name=f"{name}_fuse1")
    return conv_norm_act(x, width, norm_kind=norm, name=f"{name}_fuse2")
