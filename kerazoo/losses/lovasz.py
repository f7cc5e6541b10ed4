"""Lovász-softmax loss (Berman et al., 2018, https://arxiv.org/abs/1705.08790).

Differs from the paper: one sigmoid logit is treated as softmax of (0, logit) instead of by hinge errors, and the
classes that an image does not have follow an explicit policy (the paper's "classes present" is "skip").
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.labels import Labels, one_hot
from kerazoo.losses._base import Loss
from kerazoo.losses._overlap import (
    Empty,
    check_empty,
    check_foreground_weights,
    foreground_weights,
    over_classes,
    probabilities,
    regions,
    sum_of_pixels,
)
from kerazoo.losses.cross_entropy import as_list
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.Lovasz")
class Lovasz(Loss):
    r"""Mean over images of the mean over foreground classes of the Lovász extension of the Jaccard loss.

    The errors `|t - p|` of an image's valid pixels are sorted, largest first; the k-th is multiplied by the increase of
    the Jaccard loss `1 - |intersection| / |union|` when the k-th pixel becomes wrong as well. Where all probabilities
    are 0 or 1 the sum is the Jaccard loss of the mask. Sorting the pixels of each image and class makes this the
    slowest of the losses.

    For an image without a pixel of the class the extension is the largest probability of the class; `empty` says what
    such a pair of image and class is worth:

    - "skip": nothing, it takes no part.
    - "one": the extension as it stands, with the Jaccard index 0/0 := 1: the largest probability, so that the gradient
      is that of one pixel.
    - "penalize": `log(1 + A) / log(1 + N)`, A = Σ p the predicted area, N the valid pixels.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)` with `reduction=None`.

    Args:
        empty: "skip", "one" or "penalize", see above.
        class_weights: Weights of the mean over classes, one per mask id, background first. That
            of the background has no effect, nor has any where there is one foreground class. None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, `class_weights` or shapes do not fit.
    """

    per_pixel = False

    def __init__(
        self,
        *,
        empty: Empty = "skip",
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        name: str | None = "lovasz",
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        self.empty: Empty = check_empty(empty, "Lovasz")
        self.class_weights = check_foreground_weights(class_weights, "Lovasz")

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images take part."""
        valid = ops.expand_dims(ops.cast(labels.valid, logits.dtype), -1)
        truth = _flat(one_hot(labels, logits.dtype)[..., 1:])
        errors = ops.abs(truth - _flat(probabilities(logits)[..., 1:] * valid))
        order = ops.argsort(-ops.stop_gradient(errors), axis=1)
        errors = ops.take_along_axis(errors, order, axis=1)
        increments = ops.stop_gradient(_jaccard_increments(ops.take_along_axis(truth, order, axis=1)))
        sizes = regions(labels, logits)
        costs = ops.where(sizes.truth > 0, sum_of_pixels(errors * increments), errors[:, 0])
        weights = foreground_weights(self.class_weights, sizes, "Lovasz")
        return over_classes(costs, sizes, self.empty, class_weights=weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "empty": self.empty, "class_weights": as_list(self.class_weights)}


def _flat(x: Tensor) -> Tensor:
    """`(B, ..., F)` to `(B, pixels, F)`."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))


def _jaccard_increments(truth: Tensor) -> Tensor:
    """Increase of the Jaccard loss as pixel after pixel becomes wrong.

    Written as one quotient for each pixel: the difference of two nearly equal losses would cancel.

    Args:
        truth: `(B, pixels, F)` 1 where the pixel is of the class, 0 elsewhere, sorted by error; 1 at least once.

    Returns: the same shape, at least 0.
    """
    missed, false = ops.cumsum(truth, axis=1), ops.cumsum(1.0 - truth, axis=1)
    total = missed[:, -1:]
    union = total + false
    increment = (total - missed) / ops.maximum(union * (union - 1.0), 1.0)
    return ops.where(truth > 0, 1.0 / ops.maximum(union, 1.0), increment)
