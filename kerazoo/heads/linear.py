"""Linear head: one convolution from the finest decoded level to the classes."""

from dataclasses import dataclass

from kerazoo.arguments import check_odd
from kerazoo.heads._logits import PRIOR, check_prior, classify
from kerazoo.types import Features, Level


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Score every pixel of the finest level on its own.

    Args:
        kernel_size: Odd size of the convolution; 3 looks at the neighbours too, as smp's head does.
        prior: Share of foreground pixels that the untrained head predicts.

    Call: `features`, decoded levels, fine to coarse; `num_classes`, channels of the logits.
    Returns: the logits as a level: stride and `(B, ceil(H / stride), ceil(W / stride), num_classes)`.
    Raises: ValueError if `kernel_size` is not odd or `prior` is not between 0 and 1.
    """

    kernel_size: int = 1
    prior: float = PRIOR

    def __post_init__(self):
        check_odd("Linear", "kernel_size", self.kernel_size)
        check_prior(self.prior, owner="Linear")

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        finest = features[0]
        logits = classify(finest.tensor, num_classes=num_classes, kernel_size=self.kernel_size, prior=self.prior)
        return Level(finest.stride, logits)
