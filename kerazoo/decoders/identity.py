"""No decoder: heads read the levels of the encoder, as the first hypercolumns did.

Hariharan et al., 2015, https://arxiv.org/abs/1411.5752
"""

from dataclasses import dataclass

from kerazoo.decoders._context import hand_on
from kerazoo.types import Features


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Hand the encoder's levels on to the head.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the same levels.
    """

    output_stride = 32
    depth = None

    def __call__(self, features: Features) -> Features:
        return hand_on(features)
