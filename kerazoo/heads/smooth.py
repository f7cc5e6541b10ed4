"""Smooth head: one convolution to logits, and a Gaussian blur of the logits.

ConvMixerSeg's neighborhood correlation enforcement: the logits are blurred in training and in prediction, so that the
gradient of a pixel reaches its neighborhood, and training with image labels finds more than the most discriminative
part of an object.
"""

from dataclasses import dataclass

from kerazoo.arguments import check_odd
from kerazoo.heads._logits import PRIOR, check_prior, classify
from kerazoo.layers import GaussianSmooth, Resize
from kerazoo.types import Features, Head, Level


@dataclass(frozen=True, kw_only=True)
class Smooth(Head):
    """Classify the finest level, and blur the logits at the resolution of the image.

    Args:
        sigma: Standard deviation of the Gaussian, in pixels of the image.
        size: Pixels per row and column of the kernel; None is the odd number next above 6 sigma. The original has 50,
            which is even and moves the maps by half a pixel to the upper left.
        train_only: Whether to blur in training only, so that predictions keep their detail.
        border: "renormalize" divides by the weight of the kernel inside the image; "zeros", as in the original, pads.
        kernel_size: Odd size of the convolution.
        prior: Probability of foreground that the untrained head predicts.

    Call: `features`, decoded levels, fine to coarse; `num_classes`, channels of the logits.
    Returns: the logits as a level: stride 1 and `(B, H, W, num_classes)`, float32.
    Raises: ValueError if an argument is not one of those.
    """

    sigma: float = 7.0
    size: int | None = None
    train_only: bool = False
    border: str = "renormalize"
    kernel_size: int = 1
    prior: float = PRIOR

    def __post_init__(self):
        check_odd("Smooth", "kernel_size", self.kernel_size)
        check_prior(self.prior, owner="Smooth")
        self._smoothing()

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        stride, x = features[0]
        logits = classify(x, num_classes=num_classes, kernel_size=self.kernel_size, prior=self.prior)
        if stride > 1:
            logits = Resize(factor=stride, dtype="float32", name="h_up")(logits)
        return Level(1, self._smoothing()(logits))

    def _smoothing(self) -> GaussianSmooth:
        return GaussianSmooth(
            sigma=self.sigma,
            size=self.size,
            border=self.border,
            train_only=self.train_only,
            dtype="float32",
            name="h_smooth",
        )
