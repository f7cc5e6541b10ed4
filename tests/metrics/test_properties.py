"""Properties of every metric: what is scikit-learn's, what may not change the result, and counts that stay exact.

On every backend: the comparison with scikit-learn, and what depends on the backend's integers.
"""

import math
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from reference import metrics as reference
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve
from support.metric_batches import (
    EXAMPLES,
    IGNORED,
    SHAPE,
    batches,
    build,
    logits_of,
    result,
    result_of_stream,
    scores,
    with_masks,
)

import kerazoo as kz
from kerazoo.metrics import MCC, Accuracy, Dice, IoU, PerImageDice, Precision, Recall
from kerazoo.metrics._counts import Counter

property_test = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
NAMES = kz.metrics.list()
ORACLES = {
    IoU: oracle.jaccard_score,
    Dice: oracle.f1_score,
    Precision: oracle.precision_score,
    Recall: oracle.recall_score,
}


def quiet(score, *arguments, **options):
    """scikit-learn's score, which warns where only one class is seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return score(*arguments, **options)


# scikit-learn ---------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@with_masks(seed=0, threshold=0.5)
@property_test
@given(batch=batches(), seed=seeds, threshold=st.sampled_from((0.001, 0.5, 0.9)))
@pytest.mark.parametrize("images", ["non_empty", "all"])
def test_metrics_of_pixels_are_those_of_scikit_learn(batch, seed, threshold, images):
    truth, prediction, channels = batch
    threshold = threshold if channels == 1 else 0.5
    logits = scores(prediction, channels, np.random.default_rng(seed), threshold)
    arguments = {"images": images, "ignore_class": IGNORED, "threshold": threshold}
    counts = truth != IGNORED
    if images == "non_empty":
        counts &= ((truth > 0) & counts).any(axis=(1, 2), keepdims=True)
    t, p = truth[counts], prediction[counts]
    labels = np.arange(max(2, channels))
    for kind, score in ORACLES.items():
        zero, one = (
            score(t, p, labels=labels, average=None, zero_division=z) if t.size else np.full(len(labels), z)
            for z in (0.0, 1.0)
        )
        defined = zero == one  # what 0/0 is makes no difference
        skipped = zero[1:][defined[1:]].mean() if defined[1:].any() else 0.0
        for empty, each, undefined, mean in (("skip", zero, math.nan, skipped), ("one", one, 1.0, one[1:].mean())):
            vector, scalar = (kind(channels, average=a, empty=empty, **arguments) for a in (None, "foreground"))
            np.testing.assert_allclose(result(vector, truth, logits), each, rtol=1e-6)
            np.testing.assert_allclose(vector.per_class(), np.where(defined, each, undefined), rtol=1e-6)
            np.testing.assert_allclose(result(scalar, truth, logits), mean, rtol=1e-6)
        if kind in (IoU, Dice):
            falsely = np.array([np.count_nonzero(p == label) for label in labels])
            penalized = 1 - np.log(1 + falsely) / np.log(1 + max(1, t.size))
            each = np.where(np.isin(labels, t), zero, penalized)
            vector, scalar = (kind(channels, average=a, empty="penalize", **arguments) for a in (None, "foreground"))
            np.testing.assert_allclose(result(vector, truth, logits), each, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(vector.per_class(), each, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(result(scalar, truth, logits), each[1:].mean(), rtol=1e-5, atol=1e-6)
    matrix = oracle.confusion_matrix(t, p, labels=labels) if t.size else np.zeros((len(labels),) * 2)
    np.testing.assert_array_equal(vector.counts(), matrix)
    for kind, score in {Accuracy: oracle.accuracy_score, MCC: oracle.matthews_corrcoef}.items():
        expected = quiet(score, t, p) if t.size else 0.0
        received = result(kind(channels, **arguments), truth, logits)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6, err_msg=kind.__name__)


@pytest.mark.backends
@with_masks(seed=0, min_area=1)
@property_test
@given(batch=batches(), seed=seeds, min_area=st.sampled_from((1, 3)))
def test_metrics_of_images_are_those_of_scikit_learn(batch, seed, min_area):
    truth, prediction, channels = batch
    logits = scores(prediction, channels, np.random.default_rng(seed))
    seen = (truth != IGNORED).any(axis=(1, 2))
    true, found = truth[seen], np.where(truth == IGNORED, 0, prediction)[seen]
    classes = np.arange(1, max(2, channels))
    there = np.stack([((true == c) & (true != IGNORED)).any(axis=(1, 2)) for c in classes], axis=-1)
    shown = np.stack([(found == c).sum(axis=(1, 2)) >= min_area for c in classes], axis=-1)
    positive, called = there.any(axis=-1), shown.any(axis=-1)

    balanced = build("image_balanced_accuracy", channels, min_area=min_area)
    expected = quiet(oracle.balanced_accuracy_score, positive, called) if seen.any() else 0.0
    np.testing.assert_allclose(result(balanced, truth, logits), expected, rtol=1e-6)
    matrix = oracle.confusion_matrix(positive, called, labels=[False, True]) if seen.any() else np.zeros((2, 2))
    np.testing.assert_array_equal(balanced.counts(), matrix)

    kinds = [(~positive, ~called), *zip(there.T, shown.T, strict=True)]
    recalls = [oracle.recall_score(*kind) for kind in kinds if kind[0].any()]
    metric = build("image_multiclass_accuracy", channels, min_area=min_area)
    np.testing.assert_allclose(result(metric, truth, logits), np.mean(recalls) if recalls else 0.0, rtol=1e-6)

    false_pixels = (found > 0).sum(axis=(1, 2))[~positive]
    metric = build("empty_false_positive_pixels", channels)
    expected = false_pixels.mean() if false_pixels.size else 0.0
    np.testing.assert_allclose(result(metric, truth, logits), expected, rtol=1e-6)
    np.testing.assert_array_equal(metric.counts(), [false_pixels.sum(), false_pixels.size])


@pytest.mark.backends
@with_masks(seed=0)
@property_test
@given(batch=batches(), seed=seeds)
def test_dice_of_images_is_that_of_scikit_learn(batch, seed):
    truth, prediction, channels = batch
    logits = scores(prediction, channels, np.random.default_rng(seed))
    classes = range(1, max(2, channels))
    each = {"one": [], "skip": [], "penalize": []}
    for ids, found in zip(truth, prediction, strict=True):
        t, p = ids[ids != IGNORED], found[ids != IGNORED]
        if t.size:
            dice = oracle.f1_score(t, p, labels=list(classes), average=None, zero_division=1)
            each["one"].append(dice.mean())
            area = np.array([(p == c).sum() for c in classes])
            penalty = 1 - np.log1p(area) / np.log1p(t.size)
            each["penalize"].append(np.where(np.isin(classes, t), dice, penalty).mean())
            if (t > 0).any():
                each["skip"].append(dice[np.isin(classes, t)].mean())
    for empty, values in each.items():
        metric = PerImageDice(channels, empty=empty, ignore_class=IGNORED)
        np.testing.assert_allclose(result(metric, truth, logits), np.mean(values) if values else 0.0, atol=4e-6)
        assert metric.counts()[1] == len(values)


@pytest.mark.backends
@with_masks(seed=0)
@property_test
@given(batch=batches(), seed=seeds)
def test_area_under_the_curve_is_that_of_scikit_learn(batch, seed):
    """Scores that are far enough apart for the bins, with ties."""
    truth, _, channels = batch
    best = np.random.default_rng(seed).integers(-4, 4, (*SHAPE, 1)).astype("float32")
    logits = best if channels == 1 else np.concatenate([0 * best, best, 0 * best - 1e4], axis=-1)
    valid = truth != IGNORED
    seen, positive = valid.any(axis=(1, 2)), ((truth > 0) & valid).any(axis=(1, 2))
    highest = np.where(valid, best[..., 0], -np.inf).max(axis=(1, 2))
    both = len(np.unique(positive[seen])) == 2
    expected = oracle.roc_auc_score(positive[seen], highest[seen]) if both else 0.0
    np.testing.assert_allclose(result(build("image_auc", channels), truth, logits), expected, rtol=1e-6)


@pytest.mark.backends
@with_masks(seed=0)
@property_test
@given(batch=batches(), seed=seeds)
def test_calibration_curve_is_that_of_scikit_learn(batch, seed):
    truth, prediction, channels = batch
    logits = scores(prediction, channels, np.random.default_rng(seed)) / 4
    metric = build("calibration_error", channels, bins=5)
    received = result(metric, truth, logits)
    valid, probs = truth != IGNORED, reference.probabilities(logits)
    if not valid.any():
        assert received == 0
        return
    errors = []
    for c, table in enumerate(metric.curve(), start=1):
        hits, p = truth[valid] == c, probs[valid][:, c]
        shares, confidences = calibration_curve(hits, p, n_bins=5)
        pixels = np.histogram(p, bins=np.linspace(0, 1, 6))[0]
        np.testing.assert_array_equal(table[:, 0], pixels)
        np.testing.assert_allclose(table[pixels > 0, 1], confidences, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(table[pixels > 0, 2], shares, rtol=1e-6)
        errors.append((np.abs(shares - confidences) * pixels[pixels > 0]).sum() / len(p))
    np.testing.assert_allclose(received, np.mean(errors), rtol=1e-4, atol=1e-6)


# What may not change the result ---------------------------------------------------------------------------------------

PARTITIONS = [(3, 3), (1, 2, 3), (2, 1, 2, 1), (1, 1, 1, 1, 1, 1)]


def assert_same(name, one, other):
    if name == "calibration_error":  # a backend's sigmoid may round one pixel in two ways, by its place in the batch
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    else:
        np.testing.assert_array_equal(one, other)


@property_test
@given(batch=batches(), seed=seeds, partition=st.sampled_from(PARTITIONS))
@pytest.mark.parametrize("name", NAMES)
def test_a_split_and_shuffled_stream_has_the_result_of_the_whole(name, batch, seed, partition):
    truth, prediction, channels = batch
    rng = np.random.default_rng(seed)
    logits = scores(prediction, channels, rng)
    whole, split = build(name, channels), build(name, channels)
    parts = np.split(rng.permutation(len(truth)), np.cumsum(partition)[:-1])
    expected = result(whole, truth, logits)
    assert_same(name, result_of_stream(split, [(truth[part], logits[part]) for part in parts]), expected)
    if name != "calibration_error":
        for one, other in zip(whole.variables, split.variables, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


@property_test
@given(batch=batches(), seed=seeds)
@pytest.mark.parametrize("name", NAMES)
def test_pixels_may_change_places(name, batch, seed):
    """Within an image; where all images take part and none has a say of its own, in the whole batch."""
    truth, prediction, channels = batch
    rng = np.random.default_rng(seed)
    logits = scores(prediction, channels, rng)

    def move(order):
        return np.take_along_axis(truth.reshape(order.shape), order, 1).reshape(SHAPE), np.take_along_axis(
            logits.reshape(*order.shape, channels), order[..., None], 1
        ).reshape(*SHAPE, channels)

    expected = result(build(name, channels), truth, logits)
    within = rng.permuted(np.tile(np.arange(SHAPE[1] * SHAPE[2]), (SHAPE[0], 1)), axis=1)
    assert_same(name, result(build(name, channels), *move(within)), expected)
    if "images" in build(name, channels).get_config():
        expected = result(build(name, channels, images="all"), truth, logits)
        anywhere = rng.permutation(truth.size)[None]
        assert_same(name, result(build(name, channels, images="all"), *move(anywhere)), expected)


@property_test
@given(batch=batches(channels=(3,)), order=st.permutations((1, 2)), shift=st.integers(0, 2))
def test_classes_may_change_names(batch, order, shift):
    """Foreground classes in every mean over them; any class in the metrics that see all of them."""
    truth, prediction, channels = batch

    def rename(ids, new):
        return np.where(ids == IGNORED, IGNORED, np.array(new)[np.minimum(ids, 2)])

    for name in NAMES:
        new = np.roll([0, 1, 2], shift) if name in ("accuracy", "mcc") else [0, *order]
        expected = result(build(name, channels), truth, logits_of(prediction, channels))
        renamed = rename(truth, new), logits_of(rename(prediction, new), channels)
        np.testing.assert_allclose(
            result(build(name, channels), *renamed), expected, rtol=1e-5, atol=1e-6, err_msg=name
        )


@property_test
@given(batch=batches(), seed=seeds)
@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_are_as_pixels_that_are_not_there(name, batch, seed):
    truth, prediction, channels = batch
    logits = scores(prediction, channels, np.random.default_rng(seed))
    left = truth.copy()
    left[:, 2:] = IGNORED
    expected = result(build(name, channels), truth[:, :2], logits[:, :2])
    assert_same(name, result(build(name, channels), left, logits), expected)


# Thresholds -----------------------------------------------------------------------------------------------------------


@property_test
@given(batch=batches(channels=(1,)), seed=seeds)
def test_a_higher_threshold_finds_less(batch, seed):
    truth, prediction, _ = batch
    logits = scores(prediction, 1, np.random.default_rng(seed))
    last = (math.inf, math.inf)
    for threshold in (1e-6, 0.2, 0.5, 0.8, 1 - 1e-6):
        found = np.where(truth == IGNORED, 0, reference.predicted(logits, threshold))
        metrics = [build(name, 1, threshold=threshold) for name in ("empty_false_positive_pixels", "recall")]
        received = [float(result(metric, truth, logits)) for metric in metrics]
        assert all(now <= before for now, before in zip(received, last, strict=True))
        assert metrics[1].counts()[:, 1].sum() == found.sum()
        last = received


@pytest.mark.backends
@pytest.mark.parametrize("threshold", [1e-6, 1 - 1e-6])
def test_extreme_thresholds_of_every_metric(threshold):
    """Predictions on either side of the threshold are as certain as any."""
    truth = np.zeros(SHAPE, int)
    truth[:3, 1:3] = 1
    found = np.roll(truth, 1, axis=1)
    for name in NAMES:
        if "threshold" not in build(name, 1).get_config():
            continue
        certain = result(build(name, 1), truth, logits_of(found, 1, scale=1e4))
        near = logits_of(found, 1, scale=0.01) + np.float32(math.log(threshold / (1 - threshold)))
        for logits in (near, logits_of(found, 1, scale=1e4)):
            metric = build(name, 1, threshold=threshold)
            np.testing.assert_array_equal(result(metric, truth, logits), certain, err_msg=name)


# Counts ---------------------------------------------------------------------------------------------------------------

IMAGES = 10**6  # of 512 × 512 pixels: int32 would overflow, float32 would stop counting at 2**24


@pytest.mark.backends
def test_counts_stay_whole_numbers():
    counter = Counter(keras.metrics.Mean(), 2, "n")
    most, total = 2**31 - 2**24 - 1, 0
    for _ in range(130):
        counter.add(ops.convert_to_tensor([most, 1], dtype="int32"))
        total += most
    assert total > IMAGES * 512**2
    np.testing.assert_array_equal(counter.exact(), [total, 130])
    np.testing.assert_allclose(ops.convert_to_numpy(counter.value()), [total, 130], rtol=1e-7)
    counter.add(ops.convert_to_tensor([1, 0], dtype="int32"))
    assert counter.exact()[0] == total + 1
    counter.add(ops.convert_to_tensor([[most, 2]] * 126, dtype="int32"))  # of as many images
    np.testing.assert_array_equal(counter.exact(), [total + 1 + 126 * most, 130 + 126 * 2])


@pytest.mark.slow
def test_probabilities_of_a_large_batch_do_not_overflow():
    """Ten images of 1024 × 1024, certain: the sum of their probabilities leaves 32 bits, whatever it is counted in."""
    metric = build("calibration_error", 1)
    batch = np.ones((10, 1024, 1024), "uint8"), np.full((10, 1024, 1024, 1), 40.0, "float32")
    assert result(metric, *batch) < 1e-6
    np.testing.assert_allclose(metric.curve()[0, -1], [10 * 2**20, 1, 1], rtol=1e-6)


def state(metric):
    """Every count, exactly: pairs of variables, `high * 2**24 + low`."""
    numbers = [ops.convert_to_numpy(variable).astype("int64") for variable in metric.variables]
    return np.concatenate([high * 2**24 + low for high, low in zip(numbers[::2], numbers[1::2], strict=True)])


@pytest.mark.backends
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_million_images_of_512_pixels_neither_overflow_nor_round(name, channels):
    """A batch seen as often as makes the pixels of a million such images, and then another one."""
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, max(2, channels), (2, *SHAPE))
    truth[::2], prediction[1::3] = 0, 0
    often = truth, scores(prediction, channels, rng)
    last = truth[::-1], often[1]
    metric, once = build(name, channels), build(name, channels)
    expected, batch = result(once, *often), state(once)
    times = IMAGES * 512**2 // truth.size
    for index, variable in enumerate(once.variables):
        assert ("high", "low")[index % 2] in variable.name
        counts = ops.convert_to_numpy(once.variables[index // 2 * 2 + 1]).astype("int64")
        assert counts.max() < 2**24, "the batch must not carry"
        exact = counts * times
        metric.variables[index].assign(exact % 2**24 if index % 2 else exact // 2**24)
    np.testing.assert_array_equal(state(metric), batch * times)
    assert state(metric).max() > 2**31
    np.testing.assert_allclose(ops.convert_to_numpy(metric.result()), expected, rtol=2e-6)
    metric.update_state(*last)
    result(once, *last)
    np.testing.assert_array_equal(state(metric), batch * times + state(once))


def test_counts_of_a_long_stream_keep_the_small_class():
    metric = IoU(1, images="all")
    for _ in range(300):  # three hundred times 8 million pixels of background
        metric.confusion.add(ops.convert_to_tensor([2**23, 0, 0, 0], dtype="int32"))
    metric.update_state(np.ones((1, 1, 3), int), np.float32([[[[9.0], [9.0], [-9.0]]]]))
    np.testing.assert_array_equal(metric.counts(), [[300 * 2**23, 0], [1, 2]])
    np.testing.assert_allclose(float(metric.result()), 2 / 3, rtol=1e-6)


# Numbers of the theses ------------------------------------------------------------------------------------------------


def test_only_the_correlation_sees_through_a_prediction_of_one_class():
    """Two confusion matrices of accuracy 0.94, the positive class the frequent one.

    The thesis prints for the second precision 0.96 and IoU 0.95; 94 / 99 = 0.949 and 94 / 100 = 0.94 follow from its
    matrix and formulas. Recall 0.99, Dice 0.97 and correlation -0.02 agree.
    """
    matrices = {"A": (48, 4, 2, 46), "B": (94, 5, 1, 0)}
    received = {}
    for name, (tp, fp, fn, tn) in matrices.items():
        truth, found = (np.repeat(ids, (tp, fp, fn, tn)).reshape(1, 10, 10) for ids in ([1, 0, 1, 0], [1, 1, 0, 0]))
        metrics = [kind(1) for kind in (Accuracy, Precision, Recall, Dice, IoU, MCC)]
        received[name] = [float(result(metric, truth, logits_of(found, 1))) for metric in metrics]
    np.testing.assert_allclose(received["A"], [0.94, 48 / 52, 0.96, 96 / 102, 48 / 54, 0.8807], atol=1e-4)
    np.testing.assert_allclose(received["B"], [0.94, 94 / 99, 94 / 95, 188 / 194, 0.94, -0.0231], atol=1e-4)
