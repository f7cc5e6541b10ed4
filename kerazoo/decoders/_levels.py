"""Choosing and naming the levels of a feature pyramid."""

import itertools

from kerazoo.types import Features


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


def stride_ratios(owner: str, features: Features) -> list[int]:
    """Stride of each level divided by that of the next finer one: 1 where a dilated encoder repeats a stride.

    Args:
        owner: Name of the decoder, for errors.
        features: Two levels or more, fine to coarse.

    Returns: one ratio for each level but the finest.

    Raises:
        ValueError: there are fewer than two levels, or a stride is no multiple of the next finer one.
    """
    strides = [level.stride for level in features]
    if len(strides) < 2:
        raise ValueError(
            f"{owner} exchanges features between levels and needs at least two, received strides {strides}."
        )
    ratios = []
    for fine, coarse in itertools.pairwise(strides):
        if coarse % fine:
            raise ValueError(
                f"{owner} goes from stride {fine} to stride {coarse} by a whole factor, and there is none. Take an "
                "encoder whose strides are multiples of each other."
            )
        ratios.append(coarse // fine)
    return ratios
