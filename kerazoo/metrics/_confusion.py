"""Pure functions of a confusion matrix: `(K, K)` float32 counts, rows the truth, columns the prediction.

A score is returned as a ratio, numerator and denominator apart, because what 0/0 is worth is the caller's choice.
"""

from typing import Literal

from keras import ops

from kerazoo.types import Tensor

Ratio = tuple[Tensor, Tensor]
Empty = Literal["skip", "one"]
OverlapEmpty = Literal["skip", "one", "penalize"]


def outcomes(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`(K,)` true positives, false positives and false negatives of each class."""
    hit = ops.eye(confusion.shape[0], dtype=confusion.dtype)
    wrong = confusion * (1.0 - hit)  # never `total - hits`: float32 would lose the small classes
    return ops.sum(confusion * hit, axis=0), ops.sum(wrong, axis=0), ops.sum(wrong, axis=1)


def fill_empty(ratios: Ratio, confusion: Tensor, empty: str) -> Ratio:
    """The ratios of the classes, with what `empty` says in place of those that are undefined.

    Args:
        ratios: `(K,)` numerators and denominators.
        confusion: What they were computed from.
        empty: "skip": undefined ratios stay 0/0. "one": they become 1/1. "penalize": the ratio of a class that has no
            true pixel becomes `1 - log(1 + A) / log(1 + N)`, A the pixels predicted as the class, N all pixels.
    """
    numerator, denominator = ratios
    if empty == "one":
        one = ops.ones_like(denominator)
        return ops.where(denominator > 0, numerator, one), ops.where(denominator > 0, denominator, one)
    if empty == "penalize":
        hits, false, missed = outcomes(confusion)
        absent, most = hits + missed <= 0, ops.log1p(ops.maximum(ops.sum(confusion), 1.0))
        return ops.where(absent, most - ops.log1p(false), numerator), ops.where(absent, most, denominator)
    return ratios


def mean_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Mean of the ratios that are defined (their denominator is above 0); 0 if none is."""
    ratios = ops.divide_no_nan(numerator, denominator)
    return ops.divide_no_nan(ops.sum(ratios), ops.sum(ops.cast(denominator > 0, ratios.dtype)))
