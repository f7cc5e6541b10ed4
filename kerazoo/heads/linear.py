"""Linear head: one convolution from the finest decoded level to logits."""

from dataclasses import dataclass

from kerazoo.arguments import check_odd, check_whole
from kerazoo.heads._logits import PRIOR, check_prior, classify
from kerazoo.layers import Resize
from kerazoo.types import Features, Head, Level


@dataclass(frozen=True, kw_only=True)
class Linear(Head):
    """Classify the finest level by one convolution.

    Args:
        kernel_size: Odd size of the convolution; smp's head has 3.
        upsampling: Factor of bilinear upsampling of the logits, in float32. What then is missing to the size of the
            image is resized with half-pixel centers; smp's heads upsample to the image, with `align_corners=True`.
        align_corners: Whether corner pixels coincide in `upsampling`.
        prior: Probability of foreground that the untrained head predicts.

    Call: `features`, decoded levels, fine to coarse; `num_classes`, channels of the logits.
    Returns: the logits as a level: stride and `(B, ceil(H / stride), ceil(W / stride), num_classes)`.
    Raises: ValueError if `kernel_size` is not odd, `prior` is not between 0 and 1, or the stride of the finest level is
        no multiple of `upsampling`.
    """

    kernel_size: int = 1
    upsampling: int = 1
    align_corners: bool = False
    prior: float = PRIOR

    def __post_init__(self):
        check_odd("Linear", "kernel_size", self.kernel_size)
        check_whole("Linear", "upsampling", self.upsampling)
        check_prior(self.prior, owner="Linear")

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        stride, x = features[0]
        if stride % self.upsampling:
            raise ValueError(
                f"Linear's `upsampling` must divide the stride of the finest decoded level: {self.upsampling} does not "
                f"divide {stride}. Leave it out, and the logits are resized to the image whatever the stride."
            )
        logits = classify(x, num_classes=num_classes, kernel_size=self.kernel_size, prior=self.prior)
        if self.upsampling > 1:
            resize = Resize(factor=self.upsampling, align_corners=self.align_corners, dtype="float32", name="h_up")
            logits = resize(logits)
        return Level(stride // self.upsampling, logits)
