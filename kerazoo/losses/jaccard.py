"""Soft Jaccard loss (Rahman and Wang, 2016, https://doi.org/10.1007/978-3-319-50835-1_22).

Differs from the paper: a mean over foreground classes, and an explicit policy for classes that an image does not have.
"""

import keras

from kerazoo.losses._overlap import OverlapLoss, Regions, ratio_or_one
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.Jaccard")
class Jaccard(OverlapLoss):
    r"""Mean over images of the mean over foreground classes of `1 - (I + smooth) / (T + P - I + smooth)`.

    `I = Σ t p`, `T = Σ t`, `P = Σ p` are sums over the valid pixels of one image, `t` the truth and `p` the sigmoid or
    softmax probability. For an image without a pixel of the class the formula is 1 whatever is predicted, without a
    gradient; `empty` says what it is worth instead.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)` with `reduction=None`.

    Args:
        empty: What a class that the image does not have is worth. "skip": nothing, it takes no part. "one": the formula
            as it stands, 0/0 := 1. "penalize": `log(1 + A) / log(1 + N)`, A the predicted area, N the valid pixels.
        smooth: Pixels added to numerator and denominator, at least 0.
        class_weights: Weights of the mean over classes, one per mask id, background first. That
            of the background has no effect, nor has any where there is one foreground class. None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss, None for its own.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, `smooth` is negative, `class_weights` or shapes do not fit.
    """

    default_name = "jaccard"

    def costs(self, sizes: Regions) -> Tensor:
        """`(B, F)` 1 - soft intersection over union."""
        union = sizes.truth + sizes.predicted - sizes.overlap
        return 1.0 - ratio_or_one(sizes.overlap + self.smooth, union + self.smooth)
