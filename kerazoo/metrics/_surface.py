"""How near predicted borders are to true ones: boundary IoU and the Hausdorff distance of single masks, in NumPy.

Boundary IoU: Cheng et al., 2021, https://arxiv.org/abs/2103.16562, by erosion as in the authors' code. Hausdorff
distance of a percentile: Huttenlocher et al., 1993, https://doi.org/10.1109/34.232073, in both directions, each with
its own percentile, as Maier-Hein et al., 2024, https://arxiv.org/abs/2206.01653. For evaluation: they need exact
distance transforms (scipy) and whole masks, so they are no streaming metrics.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from kerazoo.arguments import check_choice
from kerazoo.metrics._confusion import OverlapEmpty


def boundary_iou(
    truth: Any,
    prediction: Any,
    *,
    width: float | None = None,
    spacing: Sequence[float] | None = None,
    empty: OverlapEmpty = "skip",
) -> float:
    """IoU of the inner borders of two masks: of the pixels of each that are at most `width` from its outside.

    IoU hardly notices a bad border of a large object; here the inside does not count. What is beyond the image is
    outside. Distances are those of a chessboard, `max(|dy|, |dx|)`, so without `spacing` the border is what as many
    erosions by 3 × 3 pixels as `width` take away.

    Args:
        truth: `(H, W)` or `(D, H, W)` mask of one class, bool or numbers 0 and 1.
        prediction: Mask of the same shape.
        width: Width of the border in the unit of `spacing`, rounded to whole pixels of at least one along each axis;
            None for 2 % of the image's diagonal, as in the paper.
        spacing: Size of a pixel along each axis; None for 1.
        empty: What it is worth that the truth has no pixel. "skip": NaN, the image takes no part. "one": 1 if the
            prediction has none either, else 0. "penalize": `1 - log(1 + A) / log(1 + N)`, A pixels of the prediction, N
            of the image. A truth that is missed altogether has 0.

    Returns: A number in [0, 1], or NaN.

    Raises:
        ValueError: masks differ in shape or are not of one class, or an argument is outside its range.
    """
    truth, prediction, sizes = _read(truth, prediction, spacing, "boundary_iou")
    check_choice("boundary_iou", "empty", empty, get_args(OverlapEmpty))
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"boundary_iou takes `width` above 0, received {width}.")
    if not truth.any():
        return _of_empty_truth(prediction, empty, best=1.0, worst=0.0)
    reach = 0.02 * float(np.linalg.norm(np.array(truth.shape) * sizes)) if width is None else width
    pixels = [max(1, round(reach / size)) for size in sizes]
    borders = [_inner_border(mask, pixels) for mask in (truth, prediction)]
    return float(np.count_nonzero(borders[0] & borders[1]) / np.count_nonzero(borders[0] | borders[1]))


def hausdorff_distance(
    truth: Any,
    prediction: Any,
    *,
    percentile: float = 95.0,
    spacing: Sequence[float] | None = None,
    empty: OverlapEmpty = "skip",
) -> float:
    """Distance within which `percentile` % of the surface of each mask have a surface pixel of the other.

    The larger of the two directions, each with its own percentile (by linear interpolation); 100 is the Hausdorff
    distance itself, 95 does without the few worst pixels. The surface of a mask are its pixels with a direct neighbor
    outside of it; what is beyond the image is outside. Distances are Euclidean, between centers of pixels.

    There is no distance to a mask without pixels. A truth that is missed altogether has the largest distance that the
    image has, its diagonal between centers of pixels: to leave it out would make missing better than finding.

    Args:
        truth: `(H, W)` or `(D, H, W)` mask of one class, bool or numbers 0 and 1.
        prediction: Mask of the same shape.
        percentile: In (0, 100].
        spacing: Size of a pixel along each axis, as (row, column) in mm; None for 1, distances in pixels.
        empty: What it is worth that the truth has no pixel. "skip": NaN, the image takes no part. "one": the best, 0,
            if the prediction has none either, else the worst, the diagonal. "penalize": the diagonal times
            `log(1 + A) / log(1 + N)`, A pixels of the prediction, N of the image.

    Returns: A distance in the unit of `spacing`, at least 0, or NaN.

    Raises:
        ValueError: masks differ in shape or are not of one class, or an argument is outside its range.
    """
    truth, prediction, sizes = _read(truth, prediction, spacing, "hausdorff_distance")
    check_choice("hausdorff_distance", "empty", empty, get_args(OverlapEmpty))
    if not 0 < percentile <= 100:
        raise ValueError(f"hausdorff_distance takes `percentile` in (0, 100], received {percentile}.")
    diagonal = float(np.linalg.norm((np.array(truth.shape) - 1) * sizes))
    if not truth.any():
        return _of_empty_truth(prediction, empty, best=0.0, worst=diagonal)
    if not prediction.any():
        return diagonal
    box = _box(truth | prediction)  # holds both surfaces, so that distances do not need the rest
    one, other = _surface(truth[box]), _surface(prediction[box])
    directions = [_distances(one, other, sizes), _distances(other, one, sizes)]
    return float(max(np.percentile(distances, percentile) for distances in directions))


def _surface(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a direct neighbor outside."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)


def _distances(start: np.ndarray, end: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Distance of every pixel of `start` to the nearest of `end`."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~end, sampling=sizes)[start]


def _inner_border(mask: np.ndarray, pixels: list[int]) -> np.ndarray:
    """The pixels of a mask that are at most so many pixels along some axis from its outside, diagonals included."""
    from scipy import ndimage

    window = [2 * width + 1 for width in pixels]
    return mask & ~ndimage.minimum_filter(mask, size=window, mode="constant", cval=0)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around the pixels of a mask."""
    places = (np.flatnonzero(mask.any(axis=tuple(set(range(mask.ndim)) - {axis}))) for axis in range(mask.ndim))
    return tuple(slice(place[0], place[-1] + 1) for place in places)


def _of_empty_truth(prediction: np.ndarray, empty: OverlapEmpty, *, best: float, worst: float) -> float:
    if empty == "skip":
        return math.nan
    if empty == "one":
        return worst if prediction.any() else best
    return best + (worst - best) * math.log1p(np.count_nonzero(prediction)) / math.log1p(prediction.size)


def _read(truth: Any, prediction: Any, spacing: Any, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two bool masks of one shape and the size of a pixel, `(rank,)` float64.

    Raises:
        ValueError: they are not.
    """
    masks = [np.asarray(mask) for mask in (truth, prediction)]
    if masks[0].shape != masks[1].shape or masks[0].ndim < 2:
        raise ValueError(
            f"{metric} takes two masks of one shape, (H, W) or (D, H, W), received {masks[0].shape} and "
            f"{masks[1].shape}. Call it for each image and class."
        )
    for name, mask in zip(("truth", "prediction"), masks, strict=True):
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(
                f"{metric} takes `{name}` of one class, bool or 0 and 1, received values in "
                f"[{mask.min():g}, {mask.max():g}]. Compare with the class first: mask == class_id."
            )
    sizes = np.ones(masks[0].ndim) if spacing is None else np.asarray(spacing, "float64")
    if sizes.shape != (masks[0].ndim,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            f"{metric} takes `spacing` with one number above 0 for each axis of the masks {masks[0].shape}, received "
            f"{spacing}."
        )
    return masks[0].astype(bool), masks[1].astype(bool), sizes
