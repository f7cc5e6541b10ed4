"""Many strings in one array: a million ids take tens of megabytes, not hundreds."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import overload

import numpy as np

_CHUNK = 1 << 16


class Names(Sequence[str]):
    """An immutable sequence of strings (names of files, ids), kept as bytes of one width.

    Args:
        array: `(n,)` of dtype S, as `pack` makes it.
    """

    def __init__(self, array: np.ndarray):
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        return Names(self.array[index]) if isinstance(index, slice) else os.fsdecode(self.array[index])


def pack(names: Iterable[str]) -> np.ndarray:
    """`(n,)` array of bytes of one width, from strings that are made as they are asked for."""
    stream = iter(names)
    chunks = []
    while chunk := [os.fsencode(name) for name in islice(stream, _CHUNK)]:
        chunks.append(np.array(chunk))
    return np.concatenate(chunks) if chunks else np.array([], "S1")


def find(names: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each of `wanted` in `names`, which is sorted; -1 for those that are not there."""
    if not len(names):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[place] == wanted, place, -1)
