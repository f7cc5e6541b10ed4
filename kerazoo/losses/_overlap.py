"""Soft overlap of predicted and true regions, and what an empty truth means for a loss built on it.

All functions see one image and one foreground class at a time: axes `(B, F)`, F = 1 for one sigmoid logit, else K - 1
(the background has no overlap of its own). "Empty" is an image without a valid pixel of that class.
"""

from typing import Literal, NamedTuple, get_args

from keras import ops

from kerazoo.labels import Labels, one_hot
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


def regions(labels: Labels, logits: Tensor) -> Regions:
    """Regions of the foreground classes; `logits` `(B, ..., C)`."""
    probs = ops.sigmoid(logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)[..., 1:]
    valid = ops.expand_dims(ops.cast(labels.valid, logits.dtype), -1)
    target, probs = one_hot(labels, logits.dtype)[..., 1:], probs * valid
    sums = [ops.sum(x, axis=labels.space) for x in (probs * target, target, probs, valid)]
    return Regions(*sums)


def over_classes(values: Tensor, sizes: Regions, empty: Empty) -> tuple[Tensor, Tensor]:
    """Mean over the foreground classes of a loss per image and class, under a policy for empty ones.

    Args:
        values: `(B, F)` finite; for an empty class what the loss's own formula with 0/0 := 1 gives.
        sizes: Regions.
        empty: "skip": mean over the classes the image has; an image without any does not count. "one": `values` as
            they are. "penalize": `log(1 + A) / log(1 + N)` for an empty class, A its predicted and N all valid pixels.

    Returns:
        `(B,)` values, and `(B,)` bool: which images count. An image whose pixels are all ignored never does.
    """
    present = sizes.truth > 0
    if empty == "skip":
        number = ops.sum(ops.cast(present, values.dtype), axis=-1)
        total = ops.sum(ops.where(present, values, ops.zeros_like(values)), axis=-1)
        return total / ops.maximum(number, 1.0), number > 0
    if empty == "penalize":
        penalty = ops.log1p(sizes.predicted) / ops.log1p(ops.maximum(sizes.pixels, 1.0))
        values = ops.where(present, values, penalty)
    counts = ops.squeeze(sizes.pixels, axis=-1) > 0
    values = ops.mean(values, axis=-1)
    return ops.where(counts, values, ops.zeros_like(values)), counts


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
