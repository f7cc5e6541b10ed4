"""Scores: equal to the streaming metrics, intervals that cover, trivial predictors by hand."""

import keras
import numpy as np
import pytest

import kerazoo as kz
from kerazoo.inference import scores
from kerazoo.inference.decision import DecisionRule
from kerazoo.outputs import probabilities


def batch(num_classes, n=24, seed=0, ignore=None):
    """Logits and truths of `n` images, some of them empty, some predictions empty."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, max(num_classes, 2), (n, 8, 8)) * (rng.random((n, 8, 8)) < 0.3)
    truth[::3] = 0
    logits = rng.normal(size=(n, 8, 8, num_classes)).astype("float32")
    quiet = rng.random(n) < 0.4
    logits[quiet, ..., 0] += -9 if num_classes == 1 else 9
    if ignore is not None:
        truth[rng.random(truth.shape) < 0.1] = ignore
    return truth, logits


def counted(truth, logits, num_classes, ignore=None):
    rule = DecisionRule(pixel_threshold=0.4 if num_classes == 1 else 0.5)
    masks = keras.ops.convert_to_numpy(rule(probabilities(logits))[0])
    return scores.count(truth, masks, num_classes=num_classes, ignore_class=ignore)


@pytest.mark.parametrize("num_classes", [1, 2, 4])
@pytest.mark.parametrize("ignore", [None, 255])
def test_equal_to_the_streaming_metrics(num_classes, ignore):
    truth, logits = batch(num_classes, ignore=ignore)
    if ignore is not None:
        truth[1] = ignore  # such an image counts nowhere
    names = tuple("abc"[: max(num_classes - 1, 1)])
    values = scores.metrics(counted(truth, logits, num_classes, ignore), names)
    common = {"ignore_class": ignore} | ({"threshold": 0.4} if num_classes == 1 else {})
    streaming = [
        kz.metrics.IoU(num_classes, **common),
        kz.metrics.Dice(num_classes, **common),
        kz.metrics.PerImageDice(num_classes, **common),
        kz.metrics.ImageBalancedAccuracy(**common),
        kz.metrics.EmptyFalsePositivePixels(**common),
    ]
    for metric in streaming:
        metric.update_state(truth, logits)
        assert values[metric.name] == pytest.approx(float(metric.result()), abs=5e-6), metric.name


def test_counts_do_not_depend_on_the_batches():
    truth, logits = batch(3)
    whole = counted(truth, logits, 3)
    parts = scores.concatenate([counted(truth[i : i + 5], logits[i : i + 5], 3) for i in range(0, len(truth), 5)])
    for field in ("true", "predicted", "overlap", "pixels"):
        np.testing.assert_array_equal(getattr(whole, field), getattr(parts, field))


def by_hand():
    """Four images of 4 pixels: found, missed, empty and left alone, empty with one false pixel."""
    truth = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]).reshape(4, 2, 2)
    masks = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).reshape(4, 2, 2)
    return scores.count(truth, masks, num_classes=1)


def test_values_by_hand():
    values = scores.metrics(by_hand(), ("defect",))
    assert values == pytest.approx(
        {
            "iou": 1 / 4,  # 1 of 2 + 1 + 1 pixels, the false pixel of the empty image not among them
            "dice": 2 / 5,
            "per_image_dice": (1 / 2 + 0 + 1 + 0) / 4,
            "precision": 1 / 3,  # the false pixel of the empty image is among these
            "recall": 1 / 3,
            "image_balanced_accuracy": 1 / 2,
            "empty_false_positive_pixels": 1 / 2,
        }
    )
    np.testing.assert_allclose(by_hand().dice, [0.5, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(by_hand().false_positives, [1, 0, 0, 1])
    np.testing.assert_array_equal(by_hand().false_negatives, [1, 1, 0, 0])


def test_trivial_predictors_by_hand():
    trivial = {name: scores.metrics(counts, ("defect",)) for name, counts in scores.trivial(by_hand()).items()}
    assert trivial["all_background"]["iou"] == 0
    assert trivial["all_background"]["image_balanced_accuracy"] == 0.5
    assert trivial["all_background"]["empty_false_positive_pixels"] == 0
    assert np.isnan(trivial["all_background"]["precision"])
    assert trivial["all_foreground"]["iou"] == 3 / 8
    assert trivial["all_foreground"]["image_balanced_accuracy"] == 0.5
    assert trivial["all_foreground"]["empty_false_positive_pixels"] == 4
    assert trivial["all_foreground"]["recall"] == 1


def test_undefined_is_nan_not_zero():
    empty = scores.count(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)), num_classes=1)
    values = scores.metrics(empty, ("defect",))
    assert np.isnan(values["iou"])
    assert np.isnan(values["recall"])
    assert values["image_balanced_accuracy"] == 1, "all images are empty and were left alone"
    bounds = scores.intervals(empty, ("defect",), resamplings=10, confidence=0.9)
    assert np.isnan(bounds["iou"]).all()


def test_intervals_are_reproducible_and_hold_the_value():
    truth, logits = batch(1, n=60)
    counts = counted(truth, logits, 1)
    bounds = scores.intervals(counts, ("a",), resamplings=250, confidence=0.95, seed=3)
    assert bounds == scores.intervals(counts, ("a",), resamplings=250, confidence=0.95, seed=3)
    for name, value in scores.metrics(counts, ("a",)).items():
        low, high = bounds[name]
        assert low < value < high, name
    narrow = scores.intervals(counts, ("a",), resamplings=250, confidence=0.5, seed=3)
    assert narrow["iou"][1] - narrow["iou"][0] < bounds["iou"][1] - bounds["iou"][0]


def test_interval_of_a_share_is_that_of_the_binomial():
    """Recall of whole images: with every image positive, balanced accuracy is a mean of independent 0 and 1."""
    rng = np.random.default_rng(0)
    found = (rng.random((400, 1, 1)) < 0.7).astype("int64")
    counts = scores.count(np.ones((400, 1, 1)), found, num_classes=1)
    low, high = scores.intervals(counts, ("a",), resamplings=2000, confidence=0.95)["image_balanced_accuracy"]
    mean = found.mean()
    half = 1.96 * np.sqrt(mean * (1 - mean) / 400)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.006)
