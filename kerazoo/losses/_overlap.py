"""Soft overlap of predicted and true regions, and what an empty truth means for a loss built on it.

All functions see one image and one foreground class at a time: axes `(B, F)`, F = 1 for one sigmoid logit, else K - 1
(the background has no overlap of its own). "Empty" is an image without a valid pixel of that class.
"""

import abc
from typing import Any, Literal, NamedTuple, get_args

from keras import ops

from kerazoo.labels import Labels, one_hot
from kerazoo.losses._base import Loss
from kerazoo.types import Tensor

Empty = Literal["skip", "one", "penalize"]


class Regions(NamedTuple):
    """Soft sizes in pixels, ignored pixels apart.

    Attributes:
        overlap: `(B, F)` sum over pixels of probability where the truth is the class.
        truth: `(B, F)` true pixels.
        predicted: `(B, F)` sum over pixels of the probability.
        pixels: `(B, 1)` valid pixels of the image.
    """

    overlap: Tensor
    truth: Tensor
    predicted: Tensor
    pixels: Tensor


def regions(labels: Labels, logits: Tensor, *, background: bool = False) -> Regions:
    """Regions of the foreground classes, or of all classes; `logits` `(B, ..., C)`."""
    first = 0 if background else 1
    alone = logits.shape[-1] == 1 and not background
    probs = ops.sigmoid(logits) if alone else probabilities(logits)[..., first:]
    valid = ops.expand_dims(ops.cast(labels.valid, logits.dtype), -1)
    target, probs = one_hot(labels, logits.dtype)[..., first:], probs * valid
    return Regions(*(sum_of_pixels(x) for x in (probs * target, target, probs, valid)))


def sum_of_pixels(x: Tensor) -> Tensor:
    """`(B, F)` sums of `(B, ..., F)` over the pixels.

    Pixels are last when they are summed: only there does TensorFlow add in a tree. Elsewhere it adds one after another,
    which at a megapixel leaves a float32 with three digits.
    """
    return ops.sum(ops.moveaxis(x, -1, 1), axis=tuple(range(2, len(x.shape))))


def probabilities(logits: Tensor) -> Tensor:
    """`(B, ..., K)` probabilities of the mask ids for `(B, ..., C)` logits."""
    if logits.shape[-1] == 1:
        return ops.concatenate([ops.sigmoid(-logits), ops.sigmoid(logits)], axis=-1)
    return ops.softmax(logits, axis=-1)


def over_classes(
    values: Tensor, sizes: Regions, empty: Empty, *, present: Tensor | None = None, wrong: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean over the foreground classes of a loss per image and class, under a policy for empty ones.

    Args:
        values: `(B, F)` finite; for an empty class what the loss's own formula with 0/0 := 1 gives.
        sizes: Regions.
        empty: "skip": mean over the classes the image has; an image without any does not count. "one": `values` as
            they are. "penalize": `log(1 + A) / log(1 + N)` for an empty class, A its predicted and N all valid pixels.
        present: `(B, F)` bool, for which classes the formula is defined; None for those with a true pixel.
        wrong: `(B, F)` area A of the penalty; None for the predicted area.

    Returns:
        `(B,)` values, and `(B,)` bool: which images count. An image whose pixels are all ignored never does.
    """
    present = sizes.truth > 0 if present is None else present
    wrong = sizes.predicted if wrong is None else wrong
    if empty == "skip":
        number = ops.sum(ops.cast(present, values.dtype), axis=-1)
        total = ops.sum(ops.where(present, values, ops.zeros_like(values)), axis=-1)
        return total / ops.maximum(number, 1.0), number > 0
    if empty == "penalize":
        penalty = ops.log1p(wrong) / ops.log1p(ops.maximum(sizes.pixels, 1.0))
        values = ops.where(present, values, penalty)
    counts = ops.squeeze(sizes.pixels, axis=-1) > 0
    values = ops.mean(values, axis=-1)
    return ops.where(counts, values, ops.zeros_like(values)), counts


class OverlapLoss(Loss):
    """Loss per image: a mean over foreground classes of a cost that depends on the sizes of the regions.

    Args:
        empty: Policy for classes that an image does not have, see `over_classes`.
        smooth: Pixels added above and below the fraction bar, at least 0.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, or `smooth` is negative.
    """

    per_pixel = False

    def __init__(
        self,
        *,
        empty: Empty = "skip",
        smooth: float = 0.0,
        ignore_class: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        self.empty: Empty = check_empty(empty, type(self).__name__)
        self.smooth = check_smooth(smooth, type(self).__name__)

    @abc.abstractmethod
    def costs(self, sizes: Regions) -> Tensor:
        """`(B, F)` finite costs; for an empty class what the formula with 0/0 := 1 gives."""

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images take part."""
        sizes = regions(labels, logits)
        return over_classes(self.costs(sizes), sizes, self.empty)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "empty": self.empty, "smooth": self.smooth}


def ratio_or_one(above: Tensor, below: Tensor) -> Tensor:
    """`above / below` with 0/0 := 1 and a finite gradient there; `below` at least 0."""
    nothing = below <= 0
    ratio = above / ops.where(nothing, ops.ones_like(below), below)
    return ops.where(nothing, ops.ones_like(below), ratio)


def check_empty(empty: str, loss: str) -> Empty:
    """`empty` if it is a policy.

    Raises:
        ValueError: it is not.
    """
    for policy in get_args(Empty):
        if empty == policy:
            return policy
    raise ValueError(f"{loss} takes `empty` one of {get_args(Empty)}, received {empty!r}.")


def check_smooth(smooth: float, loss: str) -> float:
    """`smooth` if it is a number of pixels.

    Raises:
        ValueError: it is negative.
    """
    if not smooth >= 0:
        raise ValueError(f"{loss} takes `smooth` of at least 0 pixels, received {smooth}.")
    return float(smooth)
