"""Read one sample for a batch: decode, convert, resize, crop and cache. Plain NumPy."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerazoo.data.batches.cache import Cache, DirectoryCache, MemoryCache
from kerazoo.data.formats.images import resize_image, resize_mask, to_byte_range, to_channels
from kerazoo.data.source import Source

if TYPE_CHECKING:
    from kerazoo.data.batches.warps import Crop


class Loader:
    """Reads, converts and resizes one sample, for tf.data to call in threads.

    Args:
        source: The samples.
        image_size: (height, width), or None to keep sizes.
        channels: Of the images, or None.
        masks: Read the masks; else they are empty arrays.
        batch_size: 1 allows sizes to differ.
        cache: None, "memory" or a directory.
        crop: Cuts a window out of each sample, drawn by its seed, or None.

    Attributes:
        masks: The masks are read.
        dtype: Of the images.
        shape: Of an image, `(H, W, C)`; H and W are None if they vary.
        mask_shape: `(H, W)`, or `(0, 0)` without masks.
    """

    def __init__(
        self,
        source: Source,
        image_size: tuple[int, int] | None,
        channels: int | None,
        *,
        masks: bool,
        batch_size: int,
        cache: str | Path | None,
        crop: "Crop | None" = None,
    ):
        self._source, self._size, self.masks, self._crop = source, image_size, masks, crop
        first = source.image(0)
        if channels is not None:
            to_channels(first, channels)  # raises now, if it cannot
        self._channels, self._convert = first.shape[2] if channels is None else channels, channels is not None
        self._stored = first.dtype
        self.dtype = np.dtype(np.uint8 if first.dtype == np.uint8 else np.float32)
        height, width = self._check_size(image_size, 1 if crop else batch_size)
        self._cache = self._open(cache, height, width)
        height, width = crop.size if crop else (height, width)
        self.shape = (height, width, self._channels)
        self.mask_shape = (height, width) if masks else (0, 0)

    def __call__(self, index: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask of the sample at `index`; `seed` decides where it is cropped."""
        image, mask = self._uncropped(int(index))
        if self._crop is None:
            return image, mask
        rng = np.random.default_rng([int(seed), 0xC209])
        return self._crop(image, mask, rng=rng, ignore_class=self._source.ignore_class)

    def _uncropped(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        kept = None if self._cache is None else self._cache.get(index)
        if kept is not None:
            return kept
        try:
            image, mask = self._read(index)
        except (ValueError, OSError) as error:
            raise ValueError(str(error)) from None  # TensorFlow prints the whole chain of tracebacks
        if self._cache is not None:
            self._cache.put(index, image, mask)
        return image, mask

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.masks:
            image, mask, id = self._source[index]
        else:
            image, mask, id = self._source.image(index), np.zeros((0, 0), np.uint8), self._source.id(index)
        if image.dtype != self._stored:
            raise ValueError(
                f"Image {id!r} is {image.dtype} and the first of the source is {self._stored}; a batch has one type. "
                "Save them alike, or pass `bits` (siim) or `intensity_range` (folder, table, coco) to the source."
            )
        if image.shape[2] != self._channels:
            if not self._convert:
                raise ValueError(
                    f"Image {id!r} has {image.shape[2]} channels and the first of the source has "
                    f"{self._channels}. Pass channels=1 or channels=3."
                )
            image = to_channels(image, self._channels)
        image = to_byte_range(image)
        if self._size is not None:
            image = resize_image(image, self._size)
            mask = resize_mask(mask, self._size) if self.masks else mask
        return np.ascontiguousarray(image.astype(self.dtype, copy=False)), np.ascontiguousarray(mask)

    def _check_size(self, image_size: tuple[int, int] | None, batch_size: int) -> tuple[int | None, int | None]:
        if image_size is not None:
            if len(image_size) != 2 or min(image_size) < 1:
                raise ValueError(f"`image_size` must be (height, width) in pixels or None, received {image_size}.")
            return int(image_size[0]), int(image_size[1])
        if batch_size == 1:
            return None, None
        sizes = {tuple(shape) for shape in self._source.shapes[:, :2].tolist()}
        if len(sizes) > 1:
            low, high = min(sizes), max(sizes)
            raise ValueError(
                f"image_size=None with batch_size={batch_size} needs images of one size; there are {len(sizes)}, from "
                f"{low[0]}x{low[1]} to {high[0]}x{high[1]}. Pass `image_size`, or batch_size=1."
            )
        return sizes.pop()

    def _open(self, cache: str | Path | None, height: int | None, width: int | None) -> Cache | None:
        if cache is None:
            return None
        if cache == "memory":
            return MemoryCache()
        if height is None or width is None:
            raise ValueError(f"A cache in a directory needs `image_size`, received cache={str(cache)!r} and None.")
        shape = (height, width, self._channels)
        identity = f"{self._source.fingerprint} {shape} {self.masks}"
        return DirectoryCache(cache, identity, len(self._source), shape, self.dtype)
