"""Linear head: one convolution from the finest decoded level to the classes."""

from dataclasses import dataclass

from kerazoo.layers.blocks import conv
from kerazoo.types import Features, Level


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Score every pixel of the finest level on its own.

    Args:
        kernel_size: Odd size of the convolution; 3 looks at the neighbours too, as smp's head does.

    Call: `features`, decoded levels, fine to coarse; `num_classes`, channels of the logits.
    Returns: the logits as a level: stride and `(B, ceil(H / stride), ceil(W / stride), num_classes)`.
    """

    kernel_size: int = 1

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        finest = features[0]
        return Level(finest.stride, conv(finest.tensor, num_classes, self.kernel_size, use_bias=True, name="h_logits"))
