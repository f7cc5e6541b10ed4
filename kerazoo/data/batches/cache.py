"""Keep decoded and resized samples, in memory or in a directory, so that each is decoded once."""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_ARRAYS = ("images", "masks", "there")


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
        """Image and mask, or None if they were not put there."""
        return self._samples.get(index)

    def put(self, index: int, image: np.ndarray, mask: np.ndarray) -> None:
        """Keep image and mask in a dict."""
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
        ValueError: the directory holds other samples, or files that are damaged or no cache's.
    """

    def __init__(self, directory: str | Path, identity: str, size: int, image_shape: tuple[int, ...], dtype: np.dtype):
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        record = {"format": 1, "identity": hashlib.sha256(identity.encode()).hexdigest(), "samples": size}
        new = self._is_new(record)
        self._images = self._array("images", (size, *image_shape), dtype, new)
        self._masks = self._array("masks", (size, *image_shape[:2]), np.dtype(np.uint8), new)
        self._there = self._array("there", (size,), np.dtype(np.uint8), new)
        if new:  # last and whole, because it vouches for the arrays
            partial = self._directory / "cache.json.partial"
            partial.write_text(json.dumps(record))
            partial.replace(self._directory / "cache.json")

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Copies of image and mask, or None if they are not marked as there."""
        return (np.array(self._images[index]), np.array(self._masks[index])) if self._there[index] else None

    def put(self, index: int, image: np.ndarray, mask: np.ndarray) -> None:
        """Write image and mask; the mark that they are there is set last."""
        self._images[index], self._masks[index] = image, mask
        self._there[index] = 1

    def _is_new(self, record: dict[str, Any]) -> bool:
        """Whether the arrays are still to be made."""
        file = self._directory / "cache.json"
        if not file.exists():
            if any((self._directory / f"{name}.npy").exists() for name in _ARRAYS):
                raise self._damaged("it holds arrays without a cache.json")
            return True
        try:
            found = json.loads(file.read_text())
        except ValueError as error:
            raise self._damaged(f"cache.json is no JSON ({error})") from error
        if found != record:
            raise ValueError(
                f"The cache {self._directory} was made from other images, or another image_size or channels. Delete "
                "it, or pass another directory."
            )
        return False

    def _array(self, name: str, shape: tuple[int, ...], dtype: np.dtype, new: bool) -> np.ndarray:
        path = self._directory / f"{name}.npy"
        if new:
            return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        try:
            found = np.lib.format.open_memmap(path, mode="r")  # mode "r+" would fill a truncated file up with zeros
        except (OSError, ValueError) as error:
            raise self._damaged(f"{path.name} cannot be opened ({error})") from error
        if found.shape != shape or found.dtype != dtype:
            raise self._damaged(f"{path.name} is {found.dtype} {found.shape}, not {dtype} {shape}")
        return np.lib.format.open_memmap(path, mode="r+")

    def _damaged(self, fault: str) -> ValueError:
        return ValueError(
            f"The cache {self._directory} is damaged, or no cache: {fault}. Delete it, or pass another directory."
        )
