"""No decoder: heads read the encoder's levels, as in the original hypercolumns.

Hariharan et al., 2015, https://arxiv.org/abs/1411.5752
"""

from dataclasses import dataclass

from kerazoo.decoders._context import pass_through
from kerazoo.types import Decoder, Features


@dataclass(frozen=True, kw_only=True)
class Identity(Decoder):
    """The encoder's levels, unchanged.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the same levels.
    """

    def __call__(self, features: Features) -> Features:
        return pass_through(features)
