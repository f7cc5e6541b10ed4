"""Augmentations that Keras lacks, or has without masks: elastic deformation, CutMix, and crops that show foreground."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("kerazoo")
class RandomElastic(keras.layers.RandomBrightness):
    """Bends images: every pixel comes from a place that a smooth random field says.

    As U-Net does it (Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597, section 3.1): random displacements on
    a coarse grid, and between them cubic interpolation, here by B-splines. What the field takes from outside the image
    is `fill_value`.

    Args:
        factor: Greatest standard deviation of the displacements, as share of the shorter side, in (0, 1]; that of an
            image is uniform between 0 and this.
        cells: Meshes of the grid along each side.
        interpolation: "bilinear" or "nearest".
        fill_value: Of pixels from outside.
    """

    def __init__(
        self,
        factor: float,
        *,
        cells: int = 4,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        value_range: tuple[float, float] = (0.0, 255.0),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, value_range=value_range, seed=seed, **kwargs)
        if cells < 1 or interpolation not in ("bilinear", "nearest"):
            raise ValueError(
                f'RandomElastic takes cells >= 1 and interpolation "bilinear" or "nearest", received cells={cells}, '
                f"interpolation={interpolation!r}."
            )
        self.cells, self.interpolation, self.fill_value = cells, interpolation, fill_value

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> dict[str, Any]:
        """Draw `rows` and `columns`, `(B, H, W)`: where each pixel comes from."""
        ops = self.backend
        images = data["images"] if isinstance(data, dict) else data
        batch, height, width = ops.shape(images)[0], ops.shape(images)[1], ops.shape(images)[2]
        seed = self._get_seed_generator(ops.name) if seed is None else seed
        knots = self.cells + 3
        share = ops.random.uniform((batch, 1, 1, 1), maxval=self.factor[1], seed=seed)
        size = ops.cast(ops.numpy.minimum(height, width), "float32")
        grid = ops.random.normal((batch, 2, knots, knots), seed=seed) * share * size
        field = ops.numpy.einsum("hi,bfij,wj->bfhw", self._splines(height), grid, self._splines(width))
        field = field / 0.48 if training else field * 0.0  # B-splines of knots of variance 1 have 0.48², on average
        rows = ops.cast(ops.numpy.arange(height), "float32")[:, None]
        columns = ops.cast(ops.numpy.arange(width), "float32")
        return {"rows": rows + field[:, 0], "columns": columns + field[:, 1]}

    def transform_images(self, images: Any, transformation: dict[str, Any], training: bool = True) -> Any:
        """Take each pixel from where it comes."""
        ops = self.backend
        batch, height, width, channels = (ops.shape(images)[axis] for axis in range(4))
        flat = ops.numpy.reshape(images, (-1, images.shape[-1] or channels))
        first = ops.numpy.reshape(ops.numpy.arange(batch) * height * width, (-1, 1, 1))

        def pixel(row: Any, column: Any) -> Any:
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            row, column = ops.numpy.clip(row, 0, height - 1), ops.numpy.clip(column, 0, width - 1)
            taken = ops.numpy.take(flat, first + row * width + column, axis=0)
            return ops.numpy.where(inside[..., None], taken, ops.cast(self.fill_value, images.dtype))

        rows, columns = transformation["rows"], transformation["columns"]
        if self.interpolation == "nearest":
            return pixel(ops.cast(ops.numpy.round(rows), "int32"), ops.cast(ops.numpy.round(columns), "int32"))
        top, left = ops.numpy.floor(rows), ops.numpy.floor(columns)
        down, right = (rows - top)[..., None], (columns - left)[..., None]
        top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
        upper = pixel(top, left) * (1 - right) + pixel(top, left + 1) * right
        lower = pixel(top + 1, left) * (1 - right) + pixel(top + 1, left + 1) * right
        return upper * (1 - down) + lower * down

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "factor": self.factor[1],
            "cells": self.cells,
            "interpolation": self.interpolation,
            "fill_value": self.fill_value,
        }

    def _splines(self, size: Any) -> Any:
        """`(size, cells + 3)`: weight of each knot at each pixel, by the cubic B-spline; they sum to 1."""
        ops = self.backend
        place = (ops.cast(ops.numpy.arange(size), "float32") + 0.5) * (self.cells / ops.cast(size, "float32"))
        knots = ops.cast(ops.numpy.arange(self.cells + 3), "float32") - 1
        distance = ops.numpy.absolute(place[:, None] - knots)
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = ops.numpy.maximum(2 - distance, 0.0) ** 3 / 6
        return ops.numpy.where(distance < 1, near, far)


@keras.saving.register_keras_serializable("kerazoo")
class RandomCutMix(keras.layers.RandomBrightness):
    """Pastes a rectangle of another image of the batch, with its mask, into an image.

    Yun et al., 2019, https://arxiv.org/abs/1905.04899; for segmentation French et al., 2020,
    https://arxiv.org/abs/1906.01916. The area of the rectangle is uniform between 0 and the image's, its center is
    uniform in the image, and what lies outside is cut off. A batch of one image stays as it is.

    Args:
        factor: Share of the images into which something is pasted, in (0, 1].
    """

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> dict[str, Any]:
        """Draw `partner` `(B,)`, from which image the rectangle is, and `box` `(B, H, W, 1)`, where it is."""
        ops = self.backend
        images = data["images"] if isinstance(data, dict) else data
        batch, height, width = ops.shape(images)[0], ops.shape(images)[1], ops.shape(images)[2]
        seed = self._get_seed_generator(ops.name) if seed is None else seed
        drawn = ops.random.uniform((5, batch, 1, 1, 1), seed=seed)
        side = ops.numpy.sqrt(drawn[0])

        def within(size: Any, center: Any, shape: tuple[int, ...]) -> Any:
            place = (ops.cast(ops.numpy.arange(size), "float32") + 0.5) / ops.cast(size, "float32")
            return ops.numpy.absolute(ops.numpy.reshape(place, shape) - center) < side / 2

        box = within(height, drawn[1], (1, -1, 1, 1)) & within(width, drawn[2], (1, 1, -1, 1))
        box = box & (drawn[3] < (self.factor[1] if training else 0.0))
        others = ops.cast(ops.numpy.maximum(batch - 1, 1), "float32")
        step = 1 + ops.cast(ops.numpy.floor(drawn[4, 0, 0, 0, 0] * others), "int32")
        return {"partner": (ops.numpy.arange(batch) + step) % batch, "box": box}

    def transform_images(self, images: Any, transformation: dict[str, Any], training: bool = True) -> Any:
        """Paste."""
        ops = self.backend
        pasted = ops.numpy.take(images, transformation["partner"], axis=0)
        return ops.numpy.where(transformation["box"], pasted, images)


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Cuts a window of one size out of an image and its mask, wherever it falls, or where there is foreground.

    Unlike the layers it is given one sample at a time, before the batch is made, so that images may differ in size.

    Args:
        size: (height, width) of the window.
        foreground: Share of the windows that are sure to show foreground, of images that have any, 0 to 1: a class of
            the mask is drawn, then one of its pixels, then a window that holds it. The others fall anywhere, as in
            nnU-Net (Isensee et al., 2021, https://doi.org/10.1038/s41592-020-01008-z), whose share is 0.33.
        fill_value: Image pixels beside an image that is smaller than the window, 0-255.

    Call: `image` `(H, W, C)`, `mask` `(H, W)` ids, `rng`, and `ignore_class`, which fills the mask beside the image
        (None: the background).
    Returns: image and mask of `size`; an empty mask (0, 0) stays as it is.

    Raises:
        ValueError: an argument is out of range.
    """

    size: tuple[int, int]
    foreground: float = 0.33
    fill_value: float = 0.0

    def __post_init__(self):
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"crop's `size` must be (height, width) in pixels, received {self.size}.")
        if not 0 <= self.foreground <= 1:
            raise ValueError(f"crop's `foreground` must be a share from 0 to 1, received {self.foreground}.")
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, *, rng: np.random.Generator, ignore_class: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        image = self._padded(image, self.fill_value)
        mask = self._padded(mask, ignore_class or 0) if mask.size else mask
        room = [have - want for have, want in zip(image.shape, self.size, strict=False)]
        low, high = [0, 0], room
        if mask.size and rng.random() < self.foreground:
            place = self._place(mask, rng, ignore_class)
            if place is not None:
                low = [max(0, at - want + 1) for at, want in zip(place, self.size, strict=True)]
                high = [min(most, at) for at, most in zip(place, room, strict=True)]
        top, left = (int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True))
        window = (slice(top, top + self.size[0]), slice(left, left + self.size[1]))
        return np.ascontiguousarray(image[window]), np.ascontiguousarray(mask[window])

    def _padded(self, pixels: np.ndarray, fill: float) -> np.ndarray:
        """`pixels`, in the middle of at least the window's size."""
        lacking = [max(0, want - have) for have, want in zip(pixels.shape, self.size, strict=False)]
        if not any(lacking):
            return pixels
        widths = [(lack // 2, lack - lack // 2) for lack in lacking]
        return np.pad(pixels, [*widths, *[(0, 0)] * (pixels.ndim - 2)], constant_values=fill)

    def _place(self, mask: np.ndarray, rng: np.random.Generator, ignore_class: int | None) -> tuple[int, int] | None:
        """Row and column of a pixel of foreground."""
        counts = np.bincount(mask.ravel(), minlength=256)
        counts[0] = 0
        if ignore_class is not None:
            counts[ignore_class] = 0
        classes = np.flatnonzero(counts)
        if not len(classes):
            return None
        drawn = rng.choice(classes)
        row, column = divmod(int(np.flatnonzero(mask.ravel() == drawn)[rng.integers(counts[drawn])]), mask.shape[1])
        return row, column
