"""The threshold that makes a mask of a class map: chosen without masks, unless masks are asked for."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import keras
import numpy as np

from kerazoo.data import Source
from kerazoo.weak.maps import check_classes, class_maps

USING = ("image_labels", "maximum", "masks")
_BINS = 1000  # thresholds that masks are compared at


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold, and where it comes from.

    Attributes:
        value: Pixels whose map is above it are of the class, in [0, 1].
        normalize: The `normalize` of `class_maps` for which it holds.
        using: "image_labels", "maximum" or "masks": what it was chosen with. Whatever is reported of a method that
            learns from labels alone is not comparable if this is "masks".
        score: Matthews correlation at the threshold: of images ("image_labels") or of pixels ("masks"), mean over the
            foreground classes; None for "maximum".
        images: Images it was chosen on.
        options: Options of `class_maps` beside these: `scales`, `tta`, `image_size`.
    """

    value: float
    normalize: str
    using: str
    score: float | None = None
    images: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """The fields, as they are saved beside masks that were made with it."""
        return asdict(self)


def choose_threshold(
    model: keras.Model,
    source: Source,
    *,
    using: Literal["image_labels", "maximum", "masks"] = "image_labels",
    normalize: str = "sigmoid",
    fraction: float = 0.5,
    batch_size: int = 8,
    **options: Any,
) -> Threshold:
    """Choose the threshold that makes masks of class maps.

    Args:
        model: Of `cam_alpha` or `cam_beta`, or any segmenter.
        source: Images to choose on: those of the validation split.
        using: "image_labels": an image is said to show a class if the maximum of its map is above the threshold, and
            the threshold is the one with the best Matthews correlation of images; no mask is opened. "maximum":
            `fraction` of the maximum of each map, as the first class activation maps had it; nothing is opened at all.
            "masks": the best Matthews correlation of pixels; opens the masks, and the result says so.
        normalize: "sigmoid" or "softmax", as the model was trained ("maximum" has "minmax" in its place).
        fraction: For "maximum", in (0, 1).
        batch_size: Images in a batch.
        **options: `scales`, `tta` and `image_size` of `class_maps`; they are kept for `pseudo_masks`.

    Returns: the threshold; `float(threshold)` is its value. Of thresholds that are equally good, the one in the middle.

    Raises:
        ValueError: an argument is unknown, the model has other classes than the source, or the labels (or masks) are
            all the same, so that no threshold is better than another.
    """
    if using not in USING:
        raise ValueError(f"`using` must be one of {USING}, received {using!r}.")
    check_classes(model, source)
    if using == "maximum":
        if not 0 < fraction < 1:
            raise ValueError(f"`fraction` of the maximum must be between 0 and 1, received {fraction}.")
        return Threshold(value=fraction, normalize="minmax", using=using, options=options)
    if normalize not in ("sigmoid", "softmax"):
        raise ValueError(
            f"`normalize` must be 'sigmoid' or 'softmax', received {normalize!r}: a threshold for all images needs "
            "maps that can be compared between images."
        )
    maps = class_maps(model, source, normalize=normalize, batch_size=batch_size, **options)
    if using == "image_labels":
        value, score = _by_labels(np.stack([_foreground(image.maps).max(axis=(0, 1)) for image in maps]), source)
    else:
        value, score = _by_masks((image.maps for image in maps), source)
    return Threshold(
        value=value, normalize=normalize, using=using, score=score, images=len(source), options=dict(options)
    )


def _by_labels(maxima: np.ndarray, source: Source) -> tuple[float, float]:
    """Threshold and Matthews correlation of images; `maxima` `(n, F)`."""
    labels = source.labels if source.num_classes == 1 else source.labels[:, 1:]
    _check_both(labels.sum(axis=0), len(labels), source, "image labels", "images")
    values = np.unique(maxima)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2])
    predicted = np.stack([_count_above(maxima[:, k], candidates) for k in range(maxima.shape[1])])
    hits = np.stack([_count_above(maxima[labels[:, k], k], candidates) for k in range(maxima.shape[1])])
    return _best(candidates, hits, predicted, labels.sum(axis=0), len(labels))


def _by_masks(maps: Iterator[np.ndarray], source: Source) -> tuple[float, float]:
    """Threshold and Matthews correlation of pixels, from histograms."""
    classes = range(1, max(source.num_classes, 2))
    counts = np.zeros((2, len(classes), _BINS), np.int64)  # all pixels, and those of the class
    for index, image_maps in enumerate(maps):
        mask = source.mask(index)
        valid = np.ones(mask.shape, bool) if source.ignore_class is None else mask != source.ignore_class
        bins = np.minimum((_foreground(image_maps) * _BINS).astype(int), _BINS - 1)
        for k, class_id in enumerate(classes):
            for row, pixels in enumerate((valid, valid & (mask == class_id))):
                counts[row, k] += np.bincount(bins[..., k][pixels], minlength=_BINS)
    total = int(counts[0, 0].sum())
    _check_both(counts[1].sum(axis=1), total, source, "masks", "pixels")
    predicted, hits = (row[:, ::-1].cumsum(axis=1)[:, ::-1] for row in counts)
    # A pixel of bin b is above every threshold that is at or below its lower edge, b / _BINS; 0 itself is none.
    return _best(np.arange(1, _BINS) / _BINS, hits[:, 1:], predicted[:, 1:], counts[1].sum(axis=1), total)


def _best(
    candidates: np.ndarray, hits: np.ndarray, predicted: np.ndarray, positives: np.ndarray, total: int
) -> tuple[float, float]:
    """The candidate with the best correlation, mean over classes; the middle one of the first run of equals."""
    true = positives[:, None].astype(float)
    spread = np.sqrt(predicted.astype(float) * (total - predicted) * true * (total - true))
    correlation = np.divide(
        total * hits.astype(float) - predicted * true, spread, out=np.zeros_like(spread), where=spread > 0
    ).mean(axis=0)
    best = np.flatnonzero(np.isclose(correlation, correlation.max(), rtol=0, atol=1e-12))
    run = best[: np.argmax(np.append(np.diff(best) > 1, True)) + 1]
    return float((candidates[run[0]] + candidates[run[-1]]) / 2), float(correlation.max())


def _count_above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are above each threshold."""
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="right")


def _foreground(maps: np.ndarray) -> np.ndarray:
    return maps if maps.shape[-1] == 1 else maps[..., 1:]


def _check_both(positives: np.ndarray, total: int, source: Source, what: str, unit: str) -> None:
    for class_name, count in zip(source.class_names[-len(positives) :], positives, strict=True):
        if count in (0, total):
            raise ValueError(
                f"The {what} of `source` cannot tell thresholds apart: {count} of {total} {unit} are of class "
                f"{class_name!r}. Choose on images with and without it, or take using='maximum'."
            )
