"""Keep decoded and resized samples, in memory or in a directory, so that each is decoded once."""

import hashlib
import json
from pathlib import Path
from typing import Protocol

import numpy as np


class Cache(Protocol):
    """Where samples are kept, by their index in the source."""

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Image and mask, or None if they are not there."""
        ...

    def put(self, index: int, image: np.ndarray, mask: np.ndarray) -> None:
        """Keep image and mask."""
        ...


class MemoryCache:
    """Keeps samples in this process; for a data set that fits into memory."""

    def __init__(self):
        self._samples: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """See `Cache`."""
        return self._samples.get(index)

    def put(self, index: int, image: np.ndarray, mask: np.ndarray) -> None:
        """See `Cache`."""
        self._samples[index] = (image, mask)


class DirectoryCache:
    """Keeps samples of one shape in memory-mapped arrays, which the next process finds again.

    Args:
        directory: Made if it does not exist.
        identity: Says which samples these are: when it differs from the directory's, the directory is refused.
        size: Number of samples.
        image_shape: (H, W, C).
        dtype: Of the images; masks are uint8.

    Raises:
        ValueError: the directory holds other samples.
    """

    def __init__(self, directory: str | Path, identity: str, size: int, image_shape: tuple[int, ...], dtype: np.dtype):
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        record = {"format": 1, "identity": hashlib.sha256(identity.encode()).hexdigest(), "samples": size}
        file = self._directory / "cache.json"
        if file.exists() and json.loads(file.read_text()) != record:
            raise ValueError(
                f"The cache {self._directory} was made from other images, or another image_size or channels. Delete "
                "it, or pass another directory."
            )
        shapes = {"images": ((size, *image_shape), dtype), "masks": ((size, *image_shape[:2]), np.dtype(np.uint8))}
        self._images, self._masks = (self._array(name, *shape) for name, shape in shapes.items())
        self._there = self._array("there", (size,), np.dtype(np.uint8))
        file.write_text(json.dumps(record))

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """See `Cache`."""
        return (np.array(self._images[index]), np.array(self._masks[index])) if self._there[index] else None

    def put(self, index: int, image: np.ndarray, mask: np.ndarray) -> None:
        """See `Cache`; the mark that a sample is there is set last."""
        self._images[index], self._masks[index] = image, mask
        self._there[index] = 1

    def _array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        path = self._directory / f"{name}.npy"
        mode = "r+" if path.exists() else "w+"
        return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=shape)
