"""Which epoch a dataset shows: what our datasets know beyond tf.data, kept beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary


class EpochCounter:
    """Counts epochs, one for each iterator, unless it is pinned to one.

    Backends differ in how many iterators `fit` opens; `PinEpoch` says which epoch it is.
    """

    def __init__(self):
        self.next = 0
        self.pinned: int | None = None

    def advance(self) -> int:
        """The epoch of a new iterator: the pinned one, else the next."""
        self.next += 1
        return self.next - 1 if self.pinned is None else self.pinned


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """How the epochs of a dataset come about.

    Attributes:
        counter: Says which epoch a new iterator shows.
        sampler: Name of the sampler.
        batches: Gives the dataset of one epoch by its number; None if another process makes the batches.
    """

    counter: EpochCounter
    sampler: str = "natural"
    batches: Callable[[int], Any] | None = None


_EPOCHS: WeakKeyDictionary[Any, Epochs] = WeakKeyDictionary()


def register(dataset: Any, epochs: Epochs) -> None:
    """Remember the epochs of a dataset for as long as it lives."""
    _EPOCHS[dataset] = epochs


def epochs_of(dataset: Any) -> Epochs | None:
    """The epochs of what `pipeline` or `connect` returned; None for anything else, also for a map or take of it."""
    try:
        return _EPOCHS.get(dataset)
    except TypeError:  # a list or an array, which no weak reference leads to
        return None
