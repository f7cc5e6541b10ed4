"""What SegNet and DeconvNet share: the way back through the poolings of the encoder."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kerazoo.layers import CropLike, MaxUnpool
from kerazoo.types import Features, Tensor


class Unpooling(NamedTuple):
    """One pooling of the encoder, to be undone.

    Attributes:
        stride: Of the map before the pooling.
        level: The encoder's level at this stride.
        switches: Of the pooling, int32; as many channels as the map has that is unpooled.
        convolutions: How many convolutions follow.
        width: Channels after the last of them: those of the next switches.
    """

    stride: int
    level: Tensor
    switches: Tensor
    convolutions: int
    width: int


def unpoolings(
    owner: str, features: Features, switches: Mapping[int, Tensor], convolutions: Sequence[int] | None
) -> list[Unpooling]:
    """The poolings from the coarsest level back to the finest one that switches lead to.

    Args:
        owner: Who unpools, for errors.
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
        Unpooling(level.stride, level.tensor, switch, number, width)
        for (level, switch), number, width in zip(pairs, convolutions, widths[1:] + widths[-1:], strict=True)
    ]


def unpool(x: Tensor, step: Unpooling, *, name: str) -> Tensor:
    """Put every value of `x` to where the maximum was that it stands for; `(B, H / stride, W / stride, C)`."""
    x = MaxUnpool(name=name)(x, step.switches)
    return CropLike(name=f"{name}_crop")(x, step.level)
