"""A bounded look at any kind of data that `fit` takes, and facts of each batch; the batches themselves are dropped."""

import hashlib
import itertools
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerazoo.data.batches.epochs import epochs_of

ALONE = ""
"""Name of the target or output of a model that has only one, without a name."""

_ARRAYS_BATCH = 32  # what fit takes
_MOST_VALUES = 64


@dataclass(frozen=True)
class ImageFacts:
    """What one batch of images is.

    Attributes:
        shape: Of the array.
        dtype: Of the array.
        low: Smallest finite value.
        high: Largest finite value.
        broken: Positions of images with a NaN or an infinite value.
        constant: Positions of images that have one value per channel everywhere.
        digests: One fingerprint per image.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    low: float
    high: float
    broken: tuple[int, ...]
    constant: tuple[int, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True)
class TargetFacts:
    """What one batch of targets, or of sample weights, is.

    Attributes:
        shape: Of the array.
        dtype: Of the array.
        whole: Whether all values are whole numbers.
        low: Smallest value, NaN if there is one.
        high: Largest value, NaN if there is one.
        values: For each image the values it has, or None for more than 64 different ones.
        one_hot: Whether the last axis holds a single one among zeros everywhere.
        digests: One fingerprint per image.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    whole: bool
    low: float
    high: float
    values: tuple[frozenset[float] | None, ...]
    one_hot: bool
    digests: tuple[bytes, ...]


@dataclass
class Seen:
    """What was seen of a dataset.

    Attributes:
        images: Facts of each batch.
        targets: Facts of each batch by output; `ALONE` where the targets are no dict.
        weights: The same of sample weights; empty where there are none.
        first: The first batch as arrays: inputs, targets, weights; None if there was none.
        named: Whether the targets are a dict.
        whole: Whether this was all of the dataset.
        consumed: Whether the look took the batches away, as from a generator.
        repeats: Whether the dataset repeats images on purpose.
    """

    images: list[ImageFacts] = field(default_factory=list)
    targets: dict[str, list[TargetFacts]] = field(default_factory=dict)
    weights: dict[str, list[TargetFacts]] = field(default_factory=dict)
    first: tuple[Any, Any, Any] | None = None
    named: bool = False
    whole: bool = False
    consumed: bool = False
    repeats: bool = False
    batches: int = 0

    @property
    def number(self) -> int:
        """Images seen."""
        return sum(facts.shape[0] for facts in self.images if facts.shape)


def look(dataset: Any, *, batches: int, batch_size: int | None) -> Seen:
    """Facts of the first batches of a dataset; of arrays, of batches that are spread evenly over them.

    Args:
        dataset: What `kerazoo.doctor` takes.
        batches: Batches to look at.
        batch_size: Images of a batch, for arrays; None for 32.

    Raises:
        TypeError: It is no dataset.
    """
    seen = Seen(consumed=hasattr(dataset, "__next__"), repeats=_repeats(dataset))
    with _left_as_it_was(dataset):
        for element in _elements(dataset, batches, batch_size):
            _add(seen, element)
    total = _length(dataset, batch_size)
    seen.whole = seen.batches < batches if total is None else seen.batches >= total
    return seen


def _elements(dataset: Any, limit: int, batch_size: int | None) -> Iterator[Any]:
    if _is_arrays(dataset):
        size = batch_size or _ARRAYS_BATCH
        count = _length(dataset, batch_size) or 0
        for place in _spread(count, limit):
            part = slice(place * size, (place + 1) * size)
            yield keras.tree.map_structure(lambda array, part=part: array[part], dataset)
    elif isinstance(dataset, keras.utils.PyDataset):
        count = _length(dataset, batch_size)
        for place in range(limit) if count is None else _spread(count, limit):
            yield dataset[place]
    else:
        yield from itertools.islice(_iterate(dataset), limit)


def _iterate(dataset: Any) -> Iterator[Any]:
    if hasattr(dataset, "ids") and hasattr(dataset, "foreground"):
        raise TypeError(
            "`dataset` must give batches, and this is a source of single images. Make batches of it: "
            "kerazoo.data.pipeline(source, image_size=…, batch_size=…)."
        )
    if callable(dataset) and not isinstance(dataset, Iterable):
        dataset = dataset()
    if isinstance(dataset, str | bytes | Mapping) or not isinstance(dataset, Iterable):
        raise TypeError(
            "`dataset` must be what `fit` takes: a tf.data.Dataset, (images, masks) arrays, a keras.utils.PyDataset, a "
            f"torch DataLoader, or a generator (or a function that makes one); received {type(dataset).__name__}."
        )
    return iter(dataset)


def _is_arrays(dataset: Any) -> bool:
    """Whether this is `(images, masks)` or `(images, masks, weights)`, and not a tuple of batches."""
    if not isinstance(dataset, tuple) or len(dataset) not in (2, 3):
        return False
    return all(hasattr(part, "shape") or isinstance(part, Mapping) for part in dataset[:2])


def _length(dataset: Any, batch_size: int | None) -> int | None:
    """Number of batches, or None if it is not known or infinite."""
    if _is_arrays(dataset):
        samples = len(keras.tree.flatten(dataset[0])[0])
        return -(-samples // (batch_size or _ARRAYS_BATCH))
    try:
        return dataset.num_batches if isinstance(dataset, keras.utils.PyDataset) else len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _spread(count: int, limit: int) -> list[int]:
    """Up to `limit` of `count` places, evenly apart, the first among them."""
    return sorted({place * count // limit for place in range(limit)}) if count > limit else [*range(count)]


def _repeats(dataset: Any) -> bool:
    epochs = epochs_of(dataset)
    return epochs is not None and epochs.sampler != "natural"


@contextmanager
def _left_as_it_was(dataset: Any) -> Iterator[None]:
    """Put back the state of random generators, and the epoch of `kerazoo.data.pipeline`."""
    epochs, torch = epochs_of(dataset), sys.modules.get("torch")
    epoch = epochs.counter.next if epochs else 0
    python, numpy = random.getstate(), np.random.get_state()
    generators = _torch_generators(dataset) if torch else []
    states = [generator.get_state() for generator in generators]
    rng = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch:
            torch.set_rng_state(rng)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        if epochs:
            epochs.counter.next = epoch


def _torch_generators(dataset: Any) -> list[Any]:
    """The generators of a torch DataLoader and of what draws its samples."""
    owners = (dataset, getattr(dataset, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(each): each for each in found if hasattr(each, "get_state")}.values())


def _add(seen: Seen, element: Any) -> None:
    inputs, targets, weights = _parts(element)
    image = image_of(inputs)
    if image is not None:
        seen.images.append(_image_facts(image))
    for kept, part in ((seen.targets, targets), (seen.weights, weights)):
        for name, array in named(part).items():
            kept.setdefault(name, []).append(_target_facts(array))
    if seen.first is None:
        seen.first, seen.named = (inputs, targets, weights), isinstance(targets, Mapping)
    seen.batches += 1


def _parts(element: Any) -> tuple[Any, Any, Any]:
    parts = element if isinstance(element, tuple | list) and len(element) in (2, 3) else (element,)
    inputs, targets, weights = (*parts, None, None)[:3]
    return tuple(keras.tree.map_structure(_to_numpy, part) for part in (inputs, targets, weights))  # pyright: ignore


def named(part: Any) -> dict[str, np.ndarray]:
    """Arrays by output: of a dict, of a list by position, or one `ALONE`."""
    if part is None:
        return {}
    if isinstance(part, Mapping):
        return {str(name): array for name, array in part.items() if isinstance(array, np.ndarray)}
    if isinstance(part, tuple | list):
        return {str(place): array for place, array in enumerate(part) if isinstance(array, np.ndarray)}
    return {ALONE: part}


def image_of(inputs: Any) -> np.ndarray | None:
    """The images among the inputs of a model: the only array, or the first with four axes."""
    arrays = [leaf for leaf in keras.tree.flatten(inputs) if isinstance(leaf, np.ndarray)]
    fitting = [array for array in arrays if array.ndim == 4] or arrays
    return fitting[0] if fitting else None


def _to_numpy(value: Any) -> Any:
    """A tensor of any backend as an array, 16-bit floats as float32."""
    if value is None:
        return None
    if hasattr(value, "detach"):  # torch, where bfloat16 has no numpy()
        value = value.detach().cpu()
        value = value.float() if "float16" in str(value.dtype) else value
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return array.astype(np.float32) if "float16" in array.dtype.name else array


def _image_facts(images: np.ndarray) -> ImageFacts:
    broken, constant, low, high = [], [], np.inf, -np.inf
    numeric = images.dtype.kind in "uifb"
    for place, image in enumerate(images if images.ndim and numeric else ()):
        finite = np.isfinite(image)
        if not finite.all():
            broken.append(place)
            image = image[finite]
        if image.size:
            low, high = min(low, float(image.min())), max(high, float(image.max()))
        if image.ndim == 3 and image.size and (image == image[:1, :1]).all():
            constant.append(place)
    digests = tuple(_digest(image) for image in images) if images.ndim and numeric else ()
    return ImageFacts(images.shape, images.dtype, low, high, tuple(broken), tuple(constant), digests)


def _target_facts(array: np.ndarray) -> TargetFacts:
    if array.dtype.kind not in "uifb" or not array.size:
        return TargetFacts(array.shape, array.dtype, False, np.nan, np.nan, (), False, ())
    whole = array.dtype.kind != "f" or bool((np.floor(array) == array).all())
    rows = array if array.ndim else array[None]
    one_hot = array.ndim > 1 and array.shape[-1] > 1 and bool(((array == 0) | (array == 1)).all())
    one_hot = one_hot and bool((array.sum(axis=-1) == 1).all())
    return TargetFacts(
        shape=array.shape,
        dtype=array.dtype,
        whole=whole,
        low=float(array.min()),
        high=float(array.max()),
        values=tuple(_values(row, whole) for row in rows),
        one_hot=one_hot,
        digests=tuple(_digest(row) for row in rows),
    )


def _values(row: np.ndarray, whole: bool) -> frozenset[float] | None:
    if whole and row.size and row.min() >= 0 and row.max() < 2**16:
        found = np.flatnonzero(np.bincount(row.ravel().astype(np.int64)))  # faster than sorting
    else:
        found = np.unique(row)
    return frozenset(found.tolist()) if len(found) <= _MOST_VALUES else None


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
