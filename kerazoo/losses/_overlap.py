"""Overlap losses: soft sizes of regions, and policies for classes that an image does not have.

Everything is per image and foreground class: axes `(B, F)`, F = 1 for one sigmoid logit, else K - 1, without the
background. "Empty" is an image without a valid pixel of that class.
"""

import abc
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from keras import ops

from kerazoo.arguments import is_number
from kerazoo.labels import Labels, one_hot
from kerazoo.losses._base import Loss
from kerazoo.losses.cross_entropy import as_list, check_class_weights, fit_class_weights
from kerazoo.types import Tensor

Empty = Literal["skip", "one", "penalize"]


class Regions(NamedTuple):
    """Soft sizes in pixels, without ignored pixels.

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

    Pixels are moved to the last axis: only there TensorFlow sums pairwise. Elsewhere it adds one after another, which
    at a megapixel leaves a float32 with three digits.
    """
    return ops.sum(ops.moveaxis(x, -1, 1), axis=tuple(range(2, len(x.shape))))


def probabilities(logits: Tensor) -> Tensor:
    """`(B, ..., K)` probabilities of the mask ids for `(B, ..., C)` logits."""
    if logits.shape[-1] == 1:
        return ops.concatenate([ops.sigmoid(-logits), ops.sigmoid(logits)], axis=-1)
    return ops.softmax(logits, axis=-1)


def over_classes(
    values: Tensor,
    sizes: Regions,
    empty: Empty,
    *,
    class_weights: Tensor | None = None,
    present: Tensor | None = None,
    wrong: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean over the foreground classes of a loss per image and class, with a policy for empty ones.

    Args:
        values: `(B, F)` finite; for an empty class what the loss's own formula with 0/0 := 1 gives.
        sizes: Regions.
        empty: "skip": mean over the classes the image has; an image without any does not count. "one": `values` as
            they are. "penalize": `log(1 + A) / log(1 + N)` for an empty class, A its predicted and N all valid pixels.
        class_weights: `(F,)` weights of the mean, from `foreground_weights`; None for 1 each.
        present: `(B, F)` bool, for which classes the formula is defined; None for those with a true pixel.
        wrong: `(B, F)` area A of the penalty; None for the predicted area.

    Returns:
        `(B,)` values, and `(B,)` bool: which images count. An image whose pixels are all ignored never does, nor one
        whose classes all weigh nothing.
    """
    present = sizes.truth > 0 if present is None else present
    wrong = sizes.predicted if wrong is None else wrong
    takes_part = present if empty == "skip" else ops.broadcast_to(sizes.pixels > 0, ops.shape(values))
    if empty == "penalize":
        penalty = ops.log1p(wrong) / ops.log1p(ops.maximum(sizes.pixels, 1.0))
        values = ops.where(present, values, penalty)
    weights = ops.cast(takes_part, values.dtype)
    if class_weights is not None:
        weights = weights * class_weights
    total = ops.sum(weights * ops.where(takes_part, values, ops.zeros_like(values)), axis=-1)
    weight = ops.sum(weights, axis=-1)
    return ops.divide_no_nan(total, weight), weight > 0


def foreground_weights(class_weights: tuple[float, ...] | None, sizes: Regions, loss: str) -> Tensor | None:
    """`(F,)` weights of the foreground classes, from one per mask id; None for None.

    Raises:
        ValueError: there is not one per mask id.
    """
    if class_weights is None:
        return None
    weights = fit_class_weights(class_weights, sizes.truth.shape[-1] + 1, loss, "class_weights")
    return ops.convert_to_tensor(weights[1:], dtype=sizes.truth.dtype)


class OverlapLoss(Loss):
    """Base of Dice-like losses: per image, the mean over foreground classes of a cost of the regions' sizes.

    Args:
        empty: What a class that the image does not have is worth. "skip": nothing, it takes no part. "one": the formula
            as it stands, 0/0 := 1. "penalize": `log(1 + A) / log(1 + N)`, A the predicted area, N the valid pixels.
        smooth: Pixels added to numerator and denominator, at least 0.
        class_weights: Weights of the mean over classes, one per mask id, or None.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `empty` is not a policy, `smooth` is negative, or `class_weights` are no weights.
    """

    per_pixel = False

    default_name: str | None = None

    def __init__(
        self,
        *,
        empty: Empty = "skip",
        smooth: float = 0.0,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name or self.default_name, **kwargs)
        self.empty: Empty = check_empty(empty, type(self).__name__)
        self.smooth = check_smooth(smooth, type(self).__name__)
        self.class_weights = check_foreground_weights(class_weights, type(self).__name__)

    @abc.abstractmethod
    def costs(self, sizes: Regions) -> Tensor:
        """`(B, F)` finite costs; for an empty class what the formula with 0/0 := 1 gives."""

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images take part."""
        sizes = regions(labels, logits)
        weights = foreground_weights(self.class_weights, sizes, type(self).__name__)
        return over_classes(self.costs(sizes), sizes, self.empty, class_weights=weights)

    def get_config(self) -> dict[str, Any]:
        own = {"empty": self.empty, "smooth": self.smooth, "class_weights": as_list(self.class_weights)}
        return {**super().get_config(), **own}


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


def check_foreground_weights(weights: Sequence[float] | None, loss: str) -> tuple[float, ...] | None:
    """Weights as floats, or None.

    Raises:
        ValueError: one is negative, or no foreground class weighs anything.
    """
    numbers = check_class_weights(weights, loss, "class_weights")
    if numbers is not None and not any(numbers[1:]):
        raise ValueError(
            f"{loss} is a mean over foreground classes: one of them must weigh more than 0, received class_weights="
            f"{weights!r}, background first."
        )
    return numbers


def check_smooth(smooth: float, loss: str) -> float:
    """`smooth` if it is a number of pixels.

    Raises:
        ValueError: it is not, or negative.
    """
    if not (is_number(smooth) and smooth >= 0):
        raise ValueError(f"{loss} takes `smooth` of at least 0 pixels, received {smooth!r}.")
    return float(smooth)
