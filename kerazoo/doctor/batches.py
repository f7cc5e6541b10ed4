"""The first batches of any kind of data that `fit` takes, and their facts; the batches themselves are dropped."""

import itertools
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerazoo.data.batches.epochs import Epochs, epochs_of
from kerazoo.data.source import Source
from kerazoo.doctor.facts import UNNAMED, DatasetFacts, image_facts, target_facts

_ARRAYS_BATCH = 32  # what fit takes


def inspect_batches(dataset: Any, *, batches: int, batch_size: int | None) -> DatasetFacts:
    """Facts of the first batches of a dataset; of arrays, of batches that are spread evenly over them.

    Args:
        dataset: What `kerazoo.doctor` takes.
        batches: Number of batches, at most.
        batch_size: Images of a batch, for arrays; None for 32.

    Raises:
        TypeError: It is no dataset.
    """
    epochs = epochs_of(dataset)
    facts = DatasetFacts(
        is_consumed=isinstance(dataset, Iterator),
        is_oversampled=epochs is not None and epochs.sampler != "natural",
    )
    with _preserved_state(dataset, epochs):
        for batch in _batches(dataset, batches, batch_size):
            _add(facts, batch)
    total = _num_batches(dataset, batch_size)
    facts.is_complete = facts.num_batches < batches if total is None else facts.num_batches >= total
    return facts


def _batches(dataset: Any, limit: int, batch_size: int | None) -> Iterator[Any]:
    if _is_arrays(dataset):
        size = batch_size or _ARRAYS_BATCH
        count = _num_batches(dataset, batch_size) or 0
        for index in _evenly_spaced(count, limit):
            part = slice(index * size, (index + 1) * size)
            yield keras.tree.map_structure(lambda array, part=part: array[part], dataset)
    elif isinstance(dataset, keras.utils.PyDataset):
        count = _num_batches(dataset, batch_size)
        for index in range(limit) if count is None else _evenly_spaced(count, limit):
            yield dataset[index]
    else:
        yield from itertools.islice(_iterate(dataset), limit)


def _iterate(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, Source):
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


def _num_batches(dataset: Any, batch_size: int | None) -> int | None:
    """Number of batches, or None if it is not known or infinite."""
    if _is_arrays(dataset):
        samples = len(keras.tree.flatten(dataset[0])[0])
        return -(-samples // (batch_size or _ARRAYS_BATCH))
    try:
        return dataset.num_batches if isinstance(dataset, keras.utils.PyDataset) else len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _evenly_spaced(count: int, limit: int) -> list[int]:
    """Up to `limit` of `count` indices, the first among them."""
    return sorted({index * count // limit for index in range(limit)}) if count > limit else [*range(count)]


@contextmanager
def _preserved_state(dataset: Any, epochs: Epochs | None) -> Iterator[None]:
    """Put back the state of random generators, and the epoch of `kerazoo.data.pipeline`."""
    epoch = epochs.counter.next if epochs else 0
    python, numpy, torch = random.getstate(), np.random.get_state(), sys.modules.get("torch")
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


def _add(facts: DatasetFacts, batch: Any) -> None:
    parts = batch if isinstance(batch, tuple | list) and len(batch) in (2, 3) else (batch,)
    inputs, targets, weights = (keras.tree.map_structure(_to_numpy, part) for part in (*parts, None, None)[:3])
    images = _find_images(inputs)
    if images is not None:
        facts.images.append(image_facts(images))
    for kept, part in ((facts.targets, targets), (facts.sample_weights, weights)):
        for name, array in arrays_by_name(part).items():
            kept.setdefault(name, []).append(target_facts(array))
    if facts.first_batch is None:
        facts.first_batch, facts.has_named_targets = (inputs, targets, weights), isinstance(targets, Mapping)
    facts.num_batches += 1


def arrays_by_name(part: Any) -> dict[str, np.ndarray]:
    """Arrays by output: of a dict, of a list by position, or one `UNNAMED`."""
    if part is None:
        return {}
    if isinstance(part, Mapping):
        return {str(name): array for name, array in part.items() if isinstance(array, np.ndarray)}
    if isinstance(part, tuple | list):
        return {str(place): array for place, array in enumerate(part) if isinstance(array, np.ndarray)}
    return {UNNAMED: part}


def _find_images(inputs: Any) -> np.ndarray | None:
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
