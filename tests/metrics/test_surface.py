"""Boundary IoU and Hausdorff distance against brute force over all pairs of pixels, and by hand."""

import itertools
import math

import numpy as np
import pytest

from kerazoo.metrics import boundary_iou, hausdorff_distance

SPACINGS = {2: (None, (1.0, 1.0), (0.5, 2.0)), 3: (None, (3.0, 0.7, 0.7))}


def figures(rank=2, number=12):
    """Pairs of masks with holes, touching the edge, of one pixel and in pieces; no symmetry."""
    rng = np.random.default_rng(rank)
    shape = (9, 14) if rank == 2 else (5, 7, 9)
    for _ in range(number):
        masks = []
        for _ in range(2):
            mask = np.zeros(shape, bool)
            for _ in range(rng.integers(1, 4)):
                corner = [rng.integers(0, size) for size in shape]
                mask[tuple(slice(c, c + rng.integers(1, size)) for c, size in zip(corner, shape, strict=True))] = True
            mask &= rng.random(shape) < 0.9
            mask[tuple(corner)] = True
            masks.append(mask)
        yield masks


def inside(pixel, shape):
    return all(0 <= place < size for place, size in zip(pixel, shape, strict=True))


def surface(mask):
    """Pixels with a direct neighbor outside."""
    steps = np.concatenate([np.eye(mask.ndim, dtype=int), -np.eye(mask.ndim, dtype=int)])
    for pixel in map(tuple, np.argwhere(mask)):
        neighbors = [tuple(pixel + step) for step in steps]
        if any(not inside(place, mask.shape) or not mask[place] for place in neighbors):
            yield pixel


def brute_hausdorff(truth, prediction, percentile, spacing):
    sizes = np.ones(truth.ndim) if spacing is None else np.array(spacing)
    one, other = (np.array(list(surface(mask))) * sizes for mask in (truth, prediction))
    each = np.linalg.norm(one[:, None] - other[None], axis=-1)
    return max(np.percentile(each.min(axis=1), percentile), np.percentile(each.min(axis=0), percentile))


def brute_boundary_iou(truth, prediction, pixels):
    def border(mask):
        offsets = list(itertools.product(*(range(-width, width + 1) for width in pixels)))
        return {
            pixel
            for pixel in map(tuple, np.argwhere(mask))
            for place in (tuple(np.add(pixel, offset)) for offset in offsets)
            if not inside(place, mask.shape) or not mask[place]
        }

    one, other = border(truth), border(prediction)
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("percentile", [50, 95, 100])
@pytest.mark.parametrize("rank", [2, 3])
def test_hausdorff_distance_is_brute_force(rank, percentile):
    for (truth, prediction), spacing in itertools.product(figures(rank), SPACINGS[rank]):
        received = hausdorff_distance(truth, prediction, percentile=percentile, spacing=spacing)
        assert received == pytest.approx(brute_hausdorff(truth, prediction, percentile, spacing), rel=1e-12)
        assert received == hausdorff_distance(prediction, truth, percentile=percentile, spacing=spacing)
        assert hausdorff_distance(truth, truth, percentile=percentile, spacing=spacing) == 0


@pytest.mark.parametrize("rank", [2, 3])
def test_boundary_iou_is_brute_force(rank):
    for (truth, prediction), spacing in itertools.product(figures(rank), SPACINGS[rank]):
        for width in (1.0, 2.0):
            pixels = [max(1, round(width / size)) for size in spacing or [1.0] * rank]
            received = boundary_iou(truth, prediction, width=width, spacing=spacing)
            assert received == pytest.approx(brute_boundary_iou(truth, prediction, pixels), rel=1e-12)
            assert received == boundary_iou(prediction, truth, width=width, spacing=spacing)
            assert boundary_iou(truth, truth, width=width, spacing=spacing) == 1


def test_boundary_iou_is_that_of_the_authors():
    """Their border: the mask without what is left of it after 2 % of the diagonal's erosions, the image padded by 0."""
    from scipy import ndimage

    truth = np.zeros((120, 160), bool)
    truth[20:90, :75] = True
    prediction = np.roll(truth, (3, 5), axis=(0, 1))
    borders = []
    for mask in (truth, prediction):
        eroded = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=4)[1:-1, 1:-1]  # 0.02 × 200
        borders.append(mask & ~eroded)
    expected = (borders[0] & borders[1]).sum() / (borders[0] | borders[1]).sum()
    assert boundary_iou(truth, prediction) == pytest.approx(expected)
    plain = (truth & prediction).sum() / (truth | prediction).sum()
    assert expected < plain / 2, "the inside, which is right, must not count"


def test_by_hand():
    truth, prediction = np.zeros((10, 20)), np.zeros((10, 20))
    truth[2:5, 3:6] = 1
    prediction[2:5, 7:10] = 1  # the same square, 4 pixels to the right
    assert hausdorff_distance(truth, prediction, percentile=100) == 4
    assert hausdorff_distance(truth, prediction, spacing=(5.0, 0.5), percentile=100) == 2.0
    assert hausdorff_distance(truth.T, prediction.T, spacing=(5.0, 0.5), percentile=100) == 20.0
    assert boundary_iou(truth, prediction) == 0
    prediction[2:5, 3:6] = 1  # the square itself, and the other: one direction is perfect
    assert hausdorff_distance(truth, prediction, percentile=100) == 4
    solid = np.ones((3, 3), bool)
    assert boundary_iou(solid, solid & (np.arange(9).reshape(3, 3) != 4), width=1) == 1, "the center is no border"


def test_percentile_leaves_single_pixels_out():
    truth = np.zeros((40, 40))
    truth[10:30, 10:30] = 1
    prediction = truth.copy()
    prediction[0, 0] = 1  # one of 77 surface pixels
    assert hausdorff_distance(truth, prediction) == 0
    assert hausdorff_distance(truth, prediction, percentile=100) == pytest.approx(math.hypot(10, 10))


def test_empty_masks():
    nothing, something = np.zeros((4, 5)), np.ones((4, 5))
    diagonal = math.hypot(3 * 0.5, 4 * 2.0)
    for spacing, worst in ((None, 5.0), ((0.5, 2.0), diagonal)):
        for policy in ("skip", "one", "penalize"):
            missed = hausdorff_distance(something, nothing, spacing=spacing, empty=policy)
            assert missed == pytest.approx(worst), "a missed object is as far off as can be under every policy"
            assert boundary_iou(something, nothing, spacing=spacing, empty=policy) == 0
        for metric, best, worst_value in ((hausdorff_distance, 0.0, worst), (boundary_iou, 1.0, 0.0)):
            assert math.isnan(metric(nothing, nothing, spacing=spacing))
            assert math.isnan(metric(nothing, something, spacing=spacing))
            assert metric(nothing, nothing, spacing=spacing, empty="one") == best
            assert metric(nothing, something, spacing=spacing, empty="one") == pytest.approx(worst_value)
            assert metric(nothing, nothing, spacing=spacing, empty="penalize") == best
            assert metric(nothing, something, spacing=spacing, empty="penalize") == pytest.approx(worst_value)
            spot = np.pad(np.ones((1, 2)), ((1, 2), (3, 0)))
            expected = best + (worst_value - best) * math.log(3) / math.log(21)
            assert metric(nothing, spot, spacing=spacing, empty="penalize") == pytest.approx(expected)


def test_no_distance_is_larger_than_that_of_a_missed_object():
    truth, prediction = np.zeros((7, 9)), np.zeros((7, 9))
    truth[0, 0], prediction[6, 8] = 1, 1
    assert hausdorff_distance(truth, prediction) == hausdorff_distance(truth, np.zeros((7, 9))) == 10


@pytest.mark.parametrize("metric", [boundary_iou, hausdorff_distance])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction": np.zeros((3, 4))}, r"one shape.*received \(3, 3\) and \(3, 4\)"),
        ({"truth": np.zeros(9), "prediction": np.zeros(9)}, r"\(H, W\) or \(D, H, W\), received \(9,\)"),
        ({"truth": np.full((3, 3), 255)}, r"`truth` of one class.*\[255, 255\].*mask == class_id"),
        ({"prediction": np.full((3, 3), 0.5)}, r"`prediction` of one class.*\[0.5, 0.5\]"),
        ({"spacing": (1.0,)}, r"`spacing` with one number above 0 for each axis.*received \(1.0,\)"),
        ({"spacing": (1.0, 0.0)}, "`spacing` with one number above 0"),
        ({"spacing": (1.0, math.nan)}, "`spacing` with one number above 0"),
        ({"empty": "zero"}, r"`empty` must be one of \('skip', 'one', 'penalize'\), received 'zero'"),
    ],
)
def test_what_is_refused(metric, arguments, message):
    masks = {"truth": np.ones((3, 3)), "prediction": np.ones((3, 3))}
    with pytest.raises(ValueError, match=message):
        metric(**{**masks, **arguments})


def test_ranges():
    with pytest.raises(ValueError, match=r"`percentile` in \(0, 100\], received 0"):
        hausdorff_distance(np.ones((3, 3)), np.ones((3, 3)), percentile=0)
    with pytest.raises(ValueError, match="`width` above 0, received -1"):
        boundary_iou(np.ones((3, 3)), np.ones((3, 3)), width=-1)
