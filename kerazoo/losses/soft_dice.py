"""Soft Dice loss (Milletari et al., 2016, https://arxiv.org/abs/1606.04797).

With several classes as Sudre et al., 2017, https://arxiv.org/abs/1707.03237. Differs from both: sums instead of
squares, and an explicit policy for classes that an image does not have.
"""

import keras

from kerazoo.losses._overlap import OverlapLoss, Regions, ratio_or_one
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.SoftDice")
class SoftDice(OverlapLoss):
    r"""Mean over images of the mean over foreground classes of `1 - (2 Σ t p + smooth) / (Σ t + Σ p + smooth)`.

    Sums are over the valid pixels of one image, `t` is the truth and `p` the sigmoid or softmax probability.

    An image without a pixel of the class leaves `1 - smooth / (Σ p + smooth)`: with `smooth = 0` the loss of a
    *correct* prediction is 1 and its gradient 0, and with any `smooth` the gradient dies as `smooth / (Σ p)²`. `empty`
    says what such a pair of image and class is worth instead:

    - "skip": it does not take part. An image is the mean over the classes it has, a batch the mean over the images that
      have one; 0 if none has. False positives on empty images are left to another term, as `CrossEntropy`.
    - "one": the formula as it stands, 0/0 := 1. It rewards predicting nothing: an empty image can reach 0, an image
      with an object hardly ever does.
    - "penalize": `log(1 + A) / log(1 + N)` with A = Σ p the predicted area and N the valid pixels, both in pixels.

    Derivation of "penalize": for a true region of T pixels Dice depends on ratios of areas only; it is as bad to
    predict twice T pixels for T = 10 as for T = 10 000. A penalty for T = 0 with this invariance makes halving the
    false area worth the same at every size: `dL / d log A` is constant, so `L = a + b log A`. The smallest area of a
    mask is one pixel, hence `log(1 + A)`; and L = 1, Dice's own worst value, where all is foreground, which gives b. So
    L is 0 for a correct prediction, strictly increasing in A, at most 1, and each pixel's probability has the gradient
    `1 / ((1 + A) log(1 + N)) > 0`: largest where the prediction is nearly right, unlike the gradient of "one". On
    256 × 256 pixels a constant p = 0.01 costs 0.58, p = 0.0001 costs 0.18, one wrong pixel 0.06.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)` with `reduction=None`.

    Args:
        empty: "skip", "one" or "penalize", see above.
        smooth: Pixels added to numerator and denominator, at least 0.
        class_weights: Weights of the mean over classes, one per mask id, background first. That
            of the background has no effect, nor has any where there is one foreground class. None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss, None for its own.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, `smooth` is negative, `class_weights` or shapes do not fit.
    """

    default_name = "soft_dice"

    def costs(self, sizes: Regions) -> Tensor:
        """`(B, F)` 1 - Dice."""
        return 1.0 - dice(sizes, self.smooth)


def dice(sizes: Regions, smooth: float) -> Tensor:
    """`(B, F)` soft Dice, 0/0 := 1."""
    return ratio_or_one(2.0 * sizes.overlap + smooth, sizes.truth + sizes.predicted + smooth)
