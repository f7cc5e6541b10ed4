"""Cutting large images into overlapping tiles, and blending what was predicted for them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kerazoo.arguments import check_whole, check_wholes

GRID = 32
"""Tiles start at multiples of this many pixels: a strided encoder then samples them as it samples the whole image."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Overlapping tiles of a fixed size that cover an image.

    Args:
        tile: Height and width of a tile in pixels, at least 64 each. At the lower and right border they may be smaller.
        overlap: Pixels that neighboring tiles share at least, at most half a tile. The outer quarter of it, which the
            border of the tile disturbs, is not used; in the middle half one tile fades into the next.
        full_tiles: Every tile has the full size, for a model that takes no other; the last one is moved back instead.

    Raises:
        ValueError: `tile` or `overlap` is outside these bounds.
    """

    tile: tuple[int, int]
    overlap: int
    full_tiles: bool = False

    def __post_init__(self):
        check_wholes("Tiling", "tile", self.tile)
        check_whole("Tiling", "overlap", self.overlap, least=0)
        if len(self.tile) != 2 or min(self.tile) < 2 * GRID:
            raise ValueError(f"`tile` must be at least {2 * GRID} pixels high and wide, received {self.tile}.")
        if not 0 <= self.overlap <= min(self.tile) // 2:
            raise ValueError(
                f"`overlap` must be from 0 to half of the tile, {min(self.tile) // 2} pixels; received {self.overlap}."
            )

    def spans(self, size: tuple[int, int]) -> list[tuple[slice, slice]]:
        """Rows and columns of every tile of an image of `size` = (height, width), row by row.

        Raises:
            ValueError: tiles must be full and the image is smaller than one.
        """
        rows, columns = (self._axis(n, tile) for n, tile in zip(size, self.tile, strict=True))
        return [(row, column) for row in rows for column in columns]

    def blend(self, size: tuple[int, int], parts: Sequence[np.ndarray]) -> np.ndarray:
        """Weighted mean of predictions of the tiles.

        Args:
            size: Height and width of the image.
            parts: One `(h, w, C)` array per tile, in the order of `spans`.

        Returns: `(height, width, C)` float32.
        """
        total = np.zeros((*size, parts[0].shape[-1]), "float32")
        weight = np.zeros((*size, 1), "float32")
        for (rows, columns), part in zip(self.spans(size), parts, strict=True):
            window = np.outer(self._weigh(rows, size[0]), self._weigh(columns, size[1]))[..., None].astype("float32")
            total[rows, columns] += window * part
            weight[rows, columns] += window
        return total / weight

    def _axis(self, size: int, tile: int) -> list[slice]:
        if self.full_tiles and size < tile:
            raise ValueError(
                f"The image is {size} pixels high or wide and the model takes tiles of {tile} only. Give `image_size`."
            )
        return list(self._slices(size, tile))

    def _slices(self, size: int, tile: int) -> Iterator[slice]:
        step = max(GRID, (tile - self.overlap) // GRID * GRID)
        start = 0
        while start + tile < size:
            yield slice(start, start + tile)
            start += step
        if self.full_tiles:
            start = size - tile
        yield slice(start, size)

    def _weigh(self, span: slice, size: int) -> np.ndarray:
        """Weights of the pixels of a tile along one axis: 1 inside, falling to almost 0 towards neighboring tiles."""
        length = span.stop - span.start
        weights = np.ones(length)
        if self.overlap:
            margin = self.overlap // 4
            ramp = max(1, self.overlap - 2 * margin)
            steps = np.clip((np.arange(length) - margin + 0.5) / ramp, 0, 1)
            rising = np.sin(math.pi / 2 * steps) ** 2 + 1e-6  # a pixel that no other tile covers keeps a weight
            if span.start > 0:
                weights *= rising
            if span.stop < size:
                weights *= rising[::-1]
        return weights
