"""Metrics with confidence intervals from the pixel counts of single images, in numpy.

Every metric here is a function of sums over images, so that an interval is cheap: resample the images, not the pixels
(pixels of an image are not independent), sum again, compute again. Values equal those of `kerazoo.metrics`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Pixels of each foreground class in each image.

    Attributes:
        true: `(n, F)` int64, pixels of the class in the truth.
        predicted: `(n, F)`, pixels predicted as the class.
        overlap: `(n, F)`, pixels that are both.
        pixels: `(n,)`, pixels that count (not ignored).
    """

    true: np.ndarray
    predicted: np.ndarray
    overlap: np.ndarray
    pixels: np.ndarray

    @property
    def foreground(self) -> np.ndarray:
        """`(n,)` bool: the truth has a foreground pixel."""
        return self.true.sum(axis=1) > 0

    @property
    def false_positives(self) -> np.ndarray:
        """`(n,)`: foreground pixels predicted where the truth is another class."""
        return (self.predicted - self.overlap).sum(axis=1)

    @property
    def false_negatives(self) -> np.ndarray:
        """`(n,)`: foreground pixels of the truth that were not predicted as their class."""
        return (self.true - self.overlap).sum(axis=1)

    @property
    def dice(self) -> np.ndarray:
        """`(n,)`: mean Dice over the classes in truth or prediction of the image; 1 if there is none in either."""
        total = self.true + self.predicted
        dice = np.where(total > 0, 2 * self.overlap / np.maximum(total, 1), np.nan)
        defined = (total > 0).any(axis=1)
        return np.where(defined, np.nansum(dice, axis=1) / np.maximum((total > 0).sum(axis=1), 1), 1.0)

    @property
    def dice_of_all_classes(self) -> np.ndarray:
        """`(n,)`: mean Dice over all foreground classes, 1 for a class in neither truth nor prediction of the image."""
        total = self.true + self.predicted
        return np.where(total > 0, 2 * self.overlap / np.maximum(total, 1), 1.0).mean(axis=1)


def count(truth: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_class: int | None = None) -> Counts:
    """Count the pixels of a batch.

    Args:
        truth: `(B, H, W)` or `(B, H, W, 1)` class ids.
        prediction: `(B, H, W)` class ids.
        num_classes: 1 for ids {0, 1}, else the number of classes with the background.
        ignore_class: Id in the truth of pixels that count nowhere, or None.
    """
    prediction = np.asarray(prediction, "int64")
    truth = np.asarray(truth, "int64").reshape(prediction.shape)
    valid = np.ones(truth.shape, bool) if ignore_class is None else truth != ignore_class
    ids = range(1, max(num_classes, 2))
    true = [valid & (truth == class_id) for class_id in ids]
    predicted = [valid & (prediction == class_id) for class_id in ids]
    return Counts(
        true=_pixels(true),
        predicted=_pixels(predicted),
        overlap=_pixels([a & b for a, b in zip(true, predicted, strict=True)]),
        pixels=np.count_nonzero(valid, axis=(1, 2)),
    )


def _pixels(masks: list[np.ndarray]) -> np.ndarray:
    """`(B, F)` pixels of F boolean masks `(B, H, W)`."""
    return np.stack([np.count_nonzero(mask, axis=(1, 2)) for mask in masks], axis=1)


def concatenate(batches: list[Counts]) -> Counts:
    """Join the counts of several batches."""
    fields = ("true", "predicted", "overlap", "pixels")
    return Counts(*(np.concatenate([getattr(batch, field) for batch in batches]) for field in fields))


def trivial(counts: Counts) -> dict[str, Counts]:
    """Counts of the trivial predictors, which ignore the image.

    `all_background` predicts no foreground; `all_foreground` predicts the most frequent foreground class everywhere.
    """
    nothing = np.zeros_like(counts.true)
    most = int(counts.true.sum(axis=0).argmax())
    everything, overlap = nothing.copy(), nothing.copy()
    everything[:, most], overlap[:, most] = counts.pixels, counts.true[:, most]
    return {
        "all_background": Counts(counts.true, nothing, nothing, counts.pixels),
        "all_foreground": Counts(counts.true, everything, overlap, counts.pixels),
    }


def metrics(counts: Counts, class_names: Sequence[str]) -> dict[str, float]:
    """Compute every metric over all images; NaN where it is not defined, such as a rate over no image.

    Args:
        counts: Of the images.
        class_names: Names of the foreground classes; with several, `iou_<name>` is added for each.

    Returns: `iou`, `iou_<name>`, `dice`: over images with foreground; `precision`, `recall`: over all images; each from
        pixels summed over the images, then averaged over the foreground classes for which it is defined.
        `per_image_dice`: mean over images of `Counts.dice_of_all_classes`, the score of the SIIM-ACR pneumothorax
        challenge.
        `image_balanced_accuracy`: mean of the shares of images with foreground in which some was predicted, and of
        empty images in which none was. `empty_false_positive_pixels`: mean over empty images.
        An image of which every pixel is ignored counts nowhere.
    """
    values = _from_sums(_table(counts).sum(axis=0, keepdims=True), class_names)
    return {name: float(value[0]) for name, value in values.items()}


def intervals(
    counts: Counts, class_names: Sequence[str], *, resamplings: int, confidence: float, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of `metrics`: images are drawn with replacement, as many as there are.

    Resamplings in which a metric is not defined (no empty image was drawn) are left out for it.
    """
    draws = resampled_metrics(counts, class_names, resamplings=resamplings, seed=seed)
    return {name: interval(values, confidence) for name, values in draws.items()}


def resampled_metrics(
    counts: Counts, class_names: Sequence[str], *, resamplings: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """`metrics`, each `(resamplings,)`, of images drawn with replacement; of as many images a seed draws the same."""
    return _from_sums(resampled_sums(_table(counts), resamplings=resamplings, seed=seed), class_names)


def resampled_sums(table: np.ndarray, *, resamplings: int, seed: int = 0) -> np.ndarray:
    """`(resamplings, m)` sums over images drawn with replacement, from one row of `(n, m)` for each image."""
    n, rng = len(table), np.random.default_rng(seed)
    return np.concatenate(
        [  # in pieces, because resamplings × images can be large
            rng.multinomial(n, np.full(n, 1 / n), size=min(100, resamplings - start)) @ table
            for start in range(0, resamplings, 100)
        ]
    )


def interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of the values of resamplings, of those that are defined; NaN if none is."""
    tail = 100 * (1 - confidence) / 2
    defined = values[np.isfinite(values)]
    low, high = np.percentile(defined, [tail, 100 - tail]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def _table(counts: Counts) -> np.ndarray:
    """`(n, 6 F + 7)` float64: what metrics need of each image, so that a sum over rows is all they need."""
    foreground = counts.foreground[:, None]
    positive = counts.predicted.any(axis=1, keepdims=True)
    pixels = np.concatenate([counts.overlap, counts.true, counts.predicted], axis=1)
    predicted = counts.predicted.sum(axis=1, keepdims=True)
    counted = counts.pixels[:, None] > 0
    empty, dice = counted & ~foreground, counted * counts.dice_of_all_classes[:, None]
    images = [foreground, foreground & positive, empty, empty & ~positive, empty * predicted, dice, counted]
    return np.concatenate([pixels * foreground, pixels, *images], axis=1).astype("float64")


def _from_sums(sums: np.ndarray, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Metrics `(m,)` from `(m, 6 F + 7)` sums of `_table`."""
    classes = (sums.shape[1] - 7) // 6
    # over the images with foreground ("fg"), and over all of them
    fg_overlap, fg_true, fg_predicted = np.split(sums[:, : 3 * classes], 3, axis=1)
    overlap, true, predicted = np.split(sums[:, 3 * classes : 6 * classes], 3, axis=1)
    positives, true_positives, negatives, true_negatives, false_pixels, dice, counted = sums[:, 6 * classes :].T
    iou = _ratio(fg_overlap, fg_true + fg_predicted - fg_overlap)
    values = {
        "iou": mean(iou),
        "dice": mean(_ratio(2 * fg_overlap, fg_true + fg_predicted)),
        "per_image_dice": _ratio(dice, counted),
        "precision": mean(_ratio(overlap, predicted)),
        "recall": mean(_ratio(overlap, true)),
        "image_balanced_accuracy": mean(
            np.stack([_ratio(true_positives, positives), _ratio(true_negatives, negatives)], axis=1)
        ),
        "empty_false_positive_pixels": _ratio(false_pixels, negatives),
    }
    if classes > 1:
        values.update({f"iou_{name}": iou[:, index] for index, name in enumerate(class_names)})
    return values


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def mean(values: np.ndarray) -> np.ndarray:
    """`(m,)` means of the defined entries of each row; NaN where none is."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))
