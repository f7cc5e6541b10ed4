"""Border metrics of evaluations: averages over classes and images by hand, trivial predictors, intervals."""

import math

import numpy as np
import pytest

from kerazoo.inference import borders, scores
from kerazoo.metrics import boundary_iou, hausdorff_distance


def square(shape, corner, side=3):
    mask = np.zeros(shape, int)
    mask[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 1
    return mask


def images():
    """Found two pixels too far right, missed, empty and left alone, empty with a false positive."""
    shape = (12, 15)
    truth = [square(shape, (2, 3)), square(shape, (8, 8)), np.zeros(shape, int), np.zeros(shape, int)]
    found = [square(shape, (2, 5)), np.zeros(shape, int), np.zeros(shape, int), square(shape, (0, 0))]
    return np.stack(truth), np.stack(found)


def test_means_are_over_images_with_foreground():
    truth, found = images()
    measured = borders.measure(truth, found, num_classes=1)
    assert measured.shape == (4, 3, 1, 2)
    diagonal = math.hypot(11, 14)
    each = borders.per_image(measured[:, 0])
    np.testing.assert_allclose(each["hausdorff_95"], [2, diagonal, np.nan, np.nan])
    np.testing.assert_allclose(each["boundary_iou"], [boundary_iou(truth[0], found[0]), 0, np.nan, np.nan])
    assert borders.metrics(measured[:, 0]) == pytest.approx(
        {"boundary_iou": boundary_iou(truth[0], found[0]) / 2, "hausdorff_95": (2 + diagonal) / 2}
    )
    in_mm = borders.measure(truth, found, num_classes=1, spacing=(9.0, 0.5))
    assert borders.per_image(in_mm[:, 0])["hausdorff_95"][0] == 1.0


def test_classes_of_an_image_come_before_images():
    truth, found = np.zeros((2, 2, 10, 12), int)
    truth[0], truth[0, 7:, 7:], truth[1] = square((10, 12), (1, 1)), 2, square((10, 12), (4, 4))
    found[0], found[1] = square((10, 12), (1, 2)), 2 * square((10, 12), (4, 4))
    measured = borders.measure(truth, found, num_classes=3)
    diagonal = math.hypot(9, 11)
    assert np.isnan(measured[1, :, 1]).all(), "class 2 is predicted there, and not in the image"
    assert borders.metrics(measured[:, 0])["hausdorff_95"] == pytest.approx(((1 + diagonal) / 2 + diagonal) / 2)


def test_ignored_pixels_are_in_neither_mask():
    truth, found = images()
    truth[0, 2:5, 5:] = 255  # what is left of the first square is 3 × 2 pixels
    measured = borders.measure(truth, found, num_classes=1, ignore_class=255)
    there, elsewhere = truth[0] == 1, (found[0] == 1) & (truth[0] != 255)
    assert not elsewhere.any()
    assert borders.per_image(measured[:, 0])["hausdorff_95"][0] == hausdorff_distance(there, elsewhere)
    all_ignored = borders.measure(np.full((1, 4, 4), 255), np.ones((1, 4, 4)), num_classes=1, ignore_class=255)
    assert np.isnan(all_ignored).all()
    assert np.isnan(list(borders.metrics(all_ignored[:, 0]).values())).all()


def test_trivial_predictors_are_those_of_the_counts():
    truth, found = np.zeros((2, 3, 9, 9), int)
    truth[0, 2:6, 2:6], truth[1, 1:3, 1:3], truth[2, 5:, 5:] = 2, 1, 2
    measured = borders.measure(truth, found, num_classes=3)
    counts = scores.count(truth, found, num_classes=3)
    trivial = borders.trivial(measured, counts)
    diagonal, most = math.hypot(8, 8), np.ones((9, 9))  # class 2 has the most pixels
    assert borders.metrics(trivial["all_background"]) == pytest.approx({"boundary_iou": 0, "hausdorff_95": diagonal})
    everywhere = [hausdorff_distance(truth[0] == 2, most), diagonal, hausdorff_distance(truth[2] == 2, most)]
    assert borders.metrics(trivial["all_foreground"])["hausdorff_95"] == pytest.approx(np.mean(everywhere))


def test_intervals_are_those_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(5.0, 2.0, (300, 1, 2))
    values[rng.random(300) < 0.4] = np.nan
    low, high = borders.intervals(values, resamplings=2000, confidence=0.95)["hausdorff_95"]
    each = values[:, 0, 1][np.isfinite(values[:, 0, 1])]
    half = 1.96 * each.std() / math.sqrt(len(each))
    assert (low, high) == pytest.approx((each.mean() - half, each.mean() + half), abs=0.05)
    bounds = borders.intervals(np.full((3, 1, 2), np.nan), resamplings=10, confidence=0.9)
    assert np.isnan(bounds["boundary_iou"]).all()
