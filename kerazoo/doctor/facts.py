"""Facts of each batch of images and targets, which are all that is kept of the batches."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNNAMED = ""
"""Name of the target or output of a model that has only one, without a name."""

_MAX_VALUES = 64


@dataclass(frozen=True)
class ImageFacts:
    """What one batch of images is.

    Attributes:
        shape: Of the array.
        dtype: Of the array.
        low: Smallest finite value.
        high: Largest finite value.
        not_finite: Positions of images with a NaN or an infinite value.
        constant: Positions of images that have one value per channel everywhere.
        digests: One fingerprint per image.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    low: float
    high: float
    not_finite: tuple[int, ...]
    constant: tuple[int, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True)
class TargetFacts:
    """What one batch of targets, or of sample weights, is.

    Attributes:
        shape: Of the array.
        dtype: Of the array.
        is_whole: Whether all values are whole numbers.
        low: Smallest value, NaN if there is one.
        high: Largest value, NaN if there is one.
        values: For each image the values it has, or None for more than 64 different ones.
        is_one_hot: Whether the last axis holds a single one among zeros everywhere.
        digests: One fingerprint per image.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    is_whole: bool
    low: float
    high: float
    values: tuple[frozenset[float] | None, ...]
    is_one_hot: bool
    digests: tuple[bytes, ...]


@dataclass
class DatasetFacts:
    """What the first batches of a dataset are.

    Attributes:
        images: Facts of each batch.
        targets: Facts of each batch by output; `UNNAMED` where the targets are no dict.
        sample_weights: The same of sample weights; empty where there are none.
        first_batch: The first batch as arrays: inputs, targets, weights; None if there was none.
        has_named_targets: Whether the targets are a dict.
        is_complete: Whether these are all batches of the dataset.
        is_consumed: Whether the dataset lacks these batches now, as a generator does.
        is_oversampled: Whether the dataset repeats images on purpose.
        num_batches: Number of batches.
    """

    images: list[ImageFacts] = field(default_factory=list)
    targets: dict[str, list[TargetFacts]] = field(default_factory=dict)
    sample_weights: dict[str, list[TargetFacts]] = field(default_factory=dict)
    first_batch: tuple[Any, Any, Any] | None = None
    has_named_targets: bool = False
    is_complete: bool = False
    is_consumed: bool = False
    is_oversampled: bool = False
    num_batches: int = 0

    @property
    def num_images(self) -> int:
        """Number of images in these batches."""
        return sum(facts.shape[0] for facts in self.images if facts.shape)


def image_facts(images: np.ndarray) -> ImageFacts:
    """Facts of a batch of images, whatever its shape and dtype."""
    not_finite, constant, low, high = [], [], np.inf, -np.inf
    numeric = images.dtype.kind in "uifb"
    for place, image in enumerate(images if images.ndim and numeric else ()):
        finite = np.isfinite(image)
        if not finite.all():
            not_finite.append(place)
            image = image[finite]
        if image.size:
            low, high = min(low, float(image.min())), max(high, float(image.max()))
        if image.ndim == 3 and image.size and (image == image[:1, :1]).all():
            constant.append(place)
    digests = tuple(_digest(image) for image in images) if images.ndim and numeric else ()
    return ImageFacts(images.shape, images.dtype, low, high, tuple(not_finite), tuple(constant), digests)


def target_facts(array: np.ndarray) -> TargetFacts:
    """Facts of a batch of targets or sample weights, whatever its shape and dtype."""
    if array.dtype.kind not in "uifb" or not array.size:
        return TargetFacts(array.shape, array.dtype, False, np.nan, np.nan, (), False, ())
    is_whole = array.dtype.kind != "f" or bool((np.floor(array) == array).all())
    rows = array if array.ndim else array[None]
    is_one_hot = array.ndim > 1 and array.shape[-1] > 1 and bool(((array == 0) | (array == 1)).all())
    is_one_hot = is_one_hot and bool((array.sum(axis=-1) == 1).all())
    return TargetFacts(
        shape=array.shape,
        dtype=array.dtype,
        is_whole=is_whole,
        low=float(array.min()),
        high=float(array.max()),
        values=tuple(_values(row, is_whole) for row in rows),
        is_one_hot=is_one_hot,
        digests=tuple(_digest(row) for row in rows),
    )


def _values(row: np.ndarray, is_whole: bool) -> frozenset[float] | None:
    if is_whole and row.size and row.min() >= 0 and row.max() < 2**16:
        found = np.flatnonzero(np.bincount(row.ravel().astype(np.int64)))  # faster than sorting
    else:
        found = np.unique(row)
    return frozenset(found.tolist()) if len(found) <= _MAX_VALUES else None


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
