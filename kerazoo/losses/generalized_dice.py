"""Generalized Dice loss (Sudre et al., 2017, https://arxiv.org/abs/1707.03237).

Differs from the paper: the classes that an image does not have, whose weight 1/T² is infinite, follow an explicit
policy.
"""

import keras
from keras import ops

from kerazoo.labels import Labels
from kerazoo.losses._overlap import OverlapLoss, Regions, foreground_weights, over_classes, ratio_or_one, regions
from kerazoo.losses.cross_entropy import fit_class_weights
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.GeneralizedDice")
class GeneralizedDice(OverlapLoss):
    r"""Mean over images of `1 - (2 Σ_c w_c I_c + smooth) / (Σ_c w_c (T_c + P_c) + smooth)`, `w_c = 1 / T_c²`.

    `I_c = Σ t p`, `T_c = Σ t`, `P_c = Σ p` are sums over the valid pixels of one image; the sums over classes c include
    the background, as in the paper. The weights make a class of few pixels count as much as a large one.

    T_c is 0 for a class that the image does not have. `empty` says what such a pair of image and class is worth:

    - "skip": the sums are over the classes that the image has, and an image without foreground takes no part.
    - "one": the sums are over all classes, with T_c of at least one pixel in w_c, the usual reading of the formula. A
      few falsely predicted pixels of an absent class outweigh everything else, and beyond them there is hardly a
      gradient.
    - "penalize": a mean over the foreground classes, weighted by `class_weights`: those the image has are worth the
      value of "skip", the others `log(1 + A) / log(1 + N)`, A the predicted area, N the valid pixels.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)` with `reduction=None`.

    Args:
        empty: "skip", "one" or "penalize", see above.
        smooth: Added to numerator and denominator, at least 0, in units of 1 / pixels.
        class_weights: One weight per mask id, background first, by which w_c is multiplied; None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss, None for its own.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, `smooth` is negative, `class_weights` or shapes do not fit.
    """

    default_name = "generalized_dice"

    def costs(self, sizes: Regions) -> Tensor:
        """`(B, 1)` cost over all the classes of `sizes`, the background among them."""
        weights = 1.0 / ops.square(ops.maximum(sizes.truth, 1.0))
        if self.empty != "one":
            weights = ops.where(sizes.truth > 0, weights, ops.zeros_like(weights))
        if self.class_weights is not None:
            fitting = fit_class_weights(self.class_weights, sizes.truth.shape[-1], "GeneralizedDice", "class_weights")
            weights = weights * ops.convert_to_tensor(fitting, dtype=weights.dtype)
        above = 2.0 * ops.sum(weights * sizes.overlap, axis=-1, keepdims=True)
        below = ops.sum(weights * (sizes.truth + sizes.predicted), axis=-1, keepdims=True)
        return 1.0 - ratio_or_one(above + self.smooth, below + self.smooth)

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images take part."""
        sizes = regions(labels, logits)
        costs = self.costs(regions(labels, logits, background=True))
        costs = ops.broadcast_to(costs, ops.shape(sizes.truth))
        weights = foreground_weights(self.class_weights, sizes, "GeneralizedDice")
        return over_classes(costs, sizes, self.empty, class_weights=weights)
