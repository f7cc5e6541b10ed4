"""Shared by SegNet and DeconvNet: stages that undo the encoder's max poolings."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kerazoo.layers import CropLike, MaxUnpool
from kerazoo.types import Features, Tensor


class UnpoolStage(NamedTuple):
    """One stage: max unpooling, then convolutions.

    Attributes:
        stride: Of its output.
        level: The encoder's level at this stride, whose size the unpooled map is cropped to.
        switches: Of the pooling that is undone, int32, with as many channels as the map to unpool.
        convolutions: Number of convolutions after the unpooling.
        width: Channels after the last of them: those of the next switches.
    """

    stride: int
    level: Tensor
    switches: Tensor
    convolutions: int
    width: int


def plan_unpooling(
    owner: str, features: Features, switches: Mapping[int, Tensor], convolutions: Sequence[int] | None
) -> list[UnpoolStage]:
    """Stages from the coarsest level to the finest one that can be reached by unpooling.

    Args:
        owner: Name of the decoder, for errors.
        features: Levels, fine to coarse.
        switches: Of the encoder's poolings, by the stride after the pooling.
        convolutions: After each unpooling, coarse to fine. None takes VGG-16's: 2 at strides 1 and 2, 3 at others.

    Raises:
        ValueError: there are no switches at the coarsest level, or `convolutions` has another number of entries.
    """
    pairs = []
    coarser = features[-1].stride
    for level in reversed(features[:-1]):
        if level.stride * 2 == coarser and coarser in switches:
            pairs.append((level, switches[coarser]))
            coarser = level.stride
    if not pairs:
        raise ValueError(
            f"{owner} starts by unpooling the coarsest level, to half its stride: strides "
            f"{[level.stride for level in features]} with switches at {sorted(switches)} do not allow it. "
            "Take more levels."
        )
    if convolutions is None:
        convolutions = [2 if level.stride <= 2 else 3 for level, _ in pairs]
    if len(convolutions) != len(pairs):
        raise ValueError(
            f"{owner} needs one number of convolutions per unpooling: the encoder has poolings to strides "
            f"{sorted(switches)}, received convolutions={tuple(convolutions)}."
        )
    widths = [switch.shape[-1] for _, switch in pairs]
    return [
        UnpoolStage(level.stride, level.tensor, switch, number, width)
        for (level, switch), number, width in zip(pairs, convolutions, widths[1:] + widths[-1:], strict=True)
    ]


def unpool(x: Tensor, stage: UnpoolStage, *, name: str) -> Tensor:
    """Max unpooling to the size of the stage's level; `(B, H / stride, W / stride, C)`."""
    x = MaxUnpool(name=name)(x, stage.switches)
    return CropLike(name=f"{name}_crop")(x, stage.level)
