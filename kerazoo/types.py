"""Types that pass between the parts of a segmenter."""

from typing import Any, NamedTuple

Tensor = Any  # a tensor or KerasTensor of whichever backend Keras runs on


class Level(NamedTuple):
    """One level of a feature pyramid.

    Attributes:
        stride: Input pixels per row of `tensor`.
        tensor: `(B, ceil(H / stride), ceil(W / stride), C)`, floating point.
    """

    stride: int
    tensor: Tensor


Features = tuple[Level, ...]
"""Levels of a pyramid, ordered fine to coarse. Strides need not double and may repeat."""

AUX_PREFIX = "aux_"
"""How the names of the outputs for deep supervision begin: their targets are masks, and only training needs them."""
