"""What the decoders share that go back from fine levels to coarse ones."""

import itertools

from kerazoo.types import Features


def descent(owner: str, features: Features) -> list[int]:
    """By how much each level is coarser than the one before; 1 where a dilated encoder repeats a stride.

    Args:
        owner: Who goes down, for errors.
        features: Two levels or more, fine to coarse.

    Returns: one factor for each level but the finest.

    Raises:
        ValueError: there are fewer than two levels, or a stride is no multiple of the one before.
    """
    strides = [level.stride for level in features]
    if len(strides) < 2:
        raise ValueError(
            f"{owner} exchanges features between levels and needs at least two, received strides {strides}."
        )
    factors = []
    for fine, coarse in itertools.pairwise(strides):
        if coarse % fine:
            raise ValueError(
                f"{owner} goes from stride {fine} to stride {coarse} by a whole factor, and there is none. Take an "
                "encoder whose strides are multiples of each other."
            )
        factors.append(coarse // fine)
    return factors
