"""Weights of pixels, made from masks in the pipeline: `kerazoo.data.pipeline(pixel_weights=…)`.

They reach the loss as Keras's `sample_weight`. A part is called with one mask, after resizing and augmentation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from kerazoo.arguments import is_number, is_whole
from kerazoo.registry import Registry

PixelWeights = Callable[..., np.ndarray]
"""A function of a mask `(H, W)`, with the keywords `ignore_class` and `rng`, that returns `(H, W)` weights."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Weigh the background between objects more: `w_c + w0 exp(-(d1 + d2)² / 2σ²)`, as U-Net does.

    Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597, equation 2. d1 and d2 are the Euclidean distances, in
    pixels, to the nearest and to the second nearest object; an object is a connected set of pixels of one foreground
    class (neighbors share a side or a corner). Pixels of objects, and masks with fewer than two, have the weights of
    their classes. Distances are followed up to d1 + d2 = 6σ, where the exponential is 1.5e-8.

    Args:
        w0: Weight that is added where two objects touch the pixel, at least 0.
        sigma: σ in pixels of the mask that the model sees, more than 0.
        class_weights: w_c, one per mask id, background first; None for 1 each.

    Call: `mask` `(H, W)` class ids, `ignore_class` an id without objects or None, `rng` (not used).
    Returns: `(H, W)` float32, 0 where the mask is `ignore_class`.
    Raises: ValueError if an argument is out of range, or `class_weights` has no entry for an id of the mask.
    """

    w0: float = 10.0
    sigma: float = 5.0
    class_weights: Sequence[float] | None = None

    def __post_init__(self):
        if not (is_number(self.w0) and is_number(self.sigma) and self.w0 >= 0 and self.sigma > 0):
            raise ValueError(f"Boundary takes w0 >= 0 and sigma > 0, received {self.w0!r} and {self.sigma!r}.")
        if self.class_weights is not None:
            weights = tuple(self.class_weights) if isinstance(self.class_weights, Sequence | np.ndarray) else ()
            if not weights or not all(is_number(weight) and weight >= 0 for weight in weights):
                raise ValueError(
                    "Boundary takes `class_weights` as a sequence of numbers of at least 0, one per mask id, "
                    f"background first; received {self.class_weights!r}."
                )
            object.__setattr__(self, "class_weights", tuple(float(weight) for weight in weights))

    def __call__(
        self, mask: np.ndarray, *, ignore_class: int | None = None, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        ids = np.where(mask == ignore_class, 0, mask) if ignore_class is not None else mask
        nearest, second = self._distances(ids)
        border = self.w0 * np.exp(-np.square(nearest + second) / (2 * self.sigma**2))
        weights = self._of_classes(ids) + np.where(ids > 0, 0.0, border)
        if ignore_class is not None:
            weights = np.where(mask == ignore_class, 0.0, weights)
        return weights.astype(np.float32)

    def _of_classes(self, ids: np.ndarray) -> np.ndarray:
        if self.class_weights is None:
            return np.ones(ids.shape)
        if ids.max(initial=0) >= len(self.class_weights):
            raise ValueError(
                f"Boundary has {len(self.class_weights)} class_weights, for ids 0..{len(self.class_weights) - 1}; the "
                f"mask has id {ids.max()}. Give one weight per mask id, background first."
            )
        return np.asarray(self.class_weights)[ids]

    def _distances(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances to the nearest and second nearest object, infinite beyond the reach of the weights."""
        from scipy import ndimage

        reach = math.ceil(6 * self.sigma)
        nearest, second = np.full(ids.shape, np.inf), np.full(ids.shape, np.inf)
        for class_id in np.unique(ids[ids > 0]):
            labels, _ = ndimage.label(ids == class_id, structure=np.ones((3, 3)))
            for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
                window = (
                    slice(max(0, rows.start - reach), rows.stop + reach),
                    slice(max(0, columns.start - reach), columns.stop + reach),
                )
                distance = ndimage.distance_transform_edt(labels[window] != number)
                second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
                nearest[window] = np.minimum(nearest[window], distance)
        return nearest, second


@dataclass(frozen=True, kw_only=True)
class RandomMask:
    """Leave out pixels at random, the loss mask M(x) that stands for training on patches.

    Long et al., 2015, https://arxiv.org/abs/1411.4038, section 3.4: sampling the loss of a whole image is sampling
    patches, without computing where they overlap more than once. What is kept is weighed by 1 / `keep`, so that the
    expectation of the loss does not change.

    Args:
        keep: Share of the squares that are kept, in (0, 1].
        block: Side of the squares that are kept or left out, in pixels; 1 decides for each pixel.

    Call: `mask` `(H, W)` class ids, `ignore_class` (not used), `rng` the generator that draws.
    Returns: `(H, W)` float32, 0 or 1 / `keep`.
    Raises: ValueError if an argument is out of range.
    """

    keep: float = 0.5
    block: int = 1

    def __post_init__(self):
        fits = is_number(self.keep) and 0 < self.keep <= 1
        if not (fits and is_whole(self.block) and self.block >= 1):
            raise ValueError(
                f"RandomMask takes 0 < keep <= 1 and a whole block >= 1, received {self.keep!r} and {self.block!r}."
            )

    def __call__(
        self, mask: np.ndarray, *, ignore_class: int | None = None, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        rng = np.random.default_rng() if rng is None else rng
        squares = [-(-size // self.block) for size in mask.shape]
        kept = (rng.random(squares) < self.keep).astype(np.float32) / np.float32(self.keep)
        weights = kept.repeat(self.block, axis=0).repeat(self.block, axis=1)
        return weights[: mask.shape[0], : mask.shape[1]]


PIXEL_WEIGHTS = Registry("pixel weight", {"boundary": Boundary, "random_mask": RandomMask})

list = PIXEL_WEIGHTS.list
create = PIXEL_WEIGHTS.create


def resolve(pixel_weights: str | PixelWeights) -> PixelWeights:
    """The part of a name, or the part itself.

    Raises:
        ValueError: the name is unknown.
        TypeError: `pixel_weights` is neither a name nor a part.
    """
    part: Any = create(pixel_weights) if isinstance(pixel_weights, str) else pixel_weights
    if isinstance(part, type) or not callable(part):
        raise TypeError(
            "`pixel_weights` must be a name of kz.data.pixel_weights.list() or a part, such as "
            f"kz.data.pixel_weights.Boundary(); received {pixel_weights!r}."
        )
    return cast(PixelWeights, part)


__all__ = ["PIXEL_WEIGHTS", "Boundary", "RandomMask", "create", "list"]
