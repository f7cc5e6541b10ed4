"""Metrics against scikit-learn and NumPy references, and what the stream of batches may not change."""

import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from reference import metrics as reference
from sklearn import metrics as oracle
from support.metric_batches import IGNORED, SHAPE, build, logits_of, masks, result
from support.source_tree import REPOSITORY

import kerazoo as kz
from kerazoo.labels import Labels, read
from kerazoo.metrics import (
    MCC,
    Dice,
    EmptyFalsePositivePixels,
    ImageBalancedAccuracy,
    ImageMulticlassAccuracy,
    IoU,
    PerImageDice,
    Precision,
    Recall,
)
from kerazoo.metrics._base import areas


def pixels_taking_part(truth, images):
    """Which pixels count."""
    counts = truth != IGNORED
    return counts & ((truth > 0) & counts).any(axis=(1, 2))[:, None, None] if images == "non_empty" else counts


@pytest.mark.backends
def test_correlation_keeps_its_digits_where_foreground_is_rare():
    """One pixel in ten thousand, of a billion: the float32 differences of the textbook formula would be noise."""
    metric = MCC(1)
    cells = np.array([999_880_000, 30_000, 20_000, 70_000])
    metric.confusion.add(ops.convert_to_tensor(cells, dtype="int32"))
    (tn, fp), (fn, tp) = cells.astype(float).reshape(2, 2)
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_image_metrics_are_the_reference(channels):
    for min_area in (1, 4):
        balanced = ImageBalancedAccuracy(ignore_class=IGNORED, min_area=min_area)
        each = ImageMulticlassAccuracy(channels, ignore_class=IGNORED, min_area=min_area)
        for name, truth, found in masks(channels):
            logits, rule = logits_of(found, channels), {"ignore_class": IGNORED, "min_area": min_area}
            expected = reference.image_balanced_accuracy(truth, found, **rule)
            np.testing.assert_allclose(result(balanced, truth, logits), expected, rtol=1e-6, err_msg=name)
            expected = reference.image_multiclass_accuracy(truth, found, num_classes=channels, **rule)
            np.testing.assert_allclose(result(each, truth, logits), expected, rtol=1e-6, err_msg=name)
    empty = EmptyFalsePositivePixels(ignore_class=IGNORED)
    for name, truth, found in masks(channels):
        expected = reference.empty_false_positive_pixels(truth, found, ignore_class=IGNORED)
        np.testing.assert_allclose(result(empty, truth, logits_of(found, channels)), expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_area_under_the_curve_is_that_of_scikit_learn(channels):
    rng = np.random.default_rng(channels)
    truth = rng.integers(0, max(2, channels), (40, 2, 3)) * rng.integers(0, 2, (40, 1, 1))
    logits = rng.normal(0, 3, (40, 2, 3, channels)).astype("float32")
    logits[:10, ..., -1] += truth[:10].max(axis=(1, 2))[:, None, None]
    logits[20:30] = logits[10:20]  # ties
    odds = reference.foreground_odds(logits)
    metric = kz.metrics.ImageAUC()
    expected = oracle.roc_auc_score((truth > 0).any(axis=(1, 2)), odds.max(axis=(1, 2)))
    np.testing.assert_allclose(result(metric, truth, logits), expected, atol=2e-3)
    assert metric.counts().sum(axis=1).tolist() == [(truth == 0).all(axis=(1, 2)).sum(), (truth > 0).any((1, 2)).sum()]
    assert result(metric, truth, logits_of(truth, channels, scale=1e4)) == 1.0


def test_area_under_the_curve_leaves_ignored_pixels_and_images_out():
    truth, logits = np.zeros((3, 2, 2), int), np.full((3, 2, 2, 1), -1.0, "float32")
    truth[0, 0, 0], logits[0, 0, 0] = 1, 2.0
    truth[1, 0, 0], logits[1, 0, 0] = IGNORED, 9.0
    truth[2], logits[2] = IGNORED, 9.0
    assert result(kz.metrics.ImageAUC(ignore_class=IGNORED), truth, logits) == 1.0
    assert result(kz.metrics.ImageAUC(ignore_class=IGNORED), truth[1:], logits[1:]) == 0.0  # of one kind only


@pytest.mark.parametrize("images", ["all", "non_empty"])
@pytest.mark.parametrize("channels", [1, 3])
def test_calibration_error_is_the_reference(channels, images):
    metric = kz.metrics.CalibrationError(channels, bins=7, images=images, ignore_class=IGNORED)
    logits = np.random.default_rng(0).normal(0, 2, (*SHAPE, channels)).astype("float32")
    for name, truth, _ in masks(channels):
        chosen = np.where(pixels_taking_part(truth, images), truth, IGNORED)
        expected = reference.calibration_error(chosen, logits, bins=7, ignore_class=IGNORED)
        np.testing.assert_allclose(result(metric, truth, logits), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_calibration_curve():
    """Of eight pixels at p = 0.25 two are foreground: calibrated. Of four at 0.9 none is."""
    truth = np.zeros((1, 3, 4), int)
    truth[0, 0, :2] = 1
    logits = np.full((1, 3, 4, 1), -math.log(3), "float32")
    logits[0, 2] = math.log(9)
    metric = kz.metrics.CalibrationError(1, bins=5)
    np.testing.assert_allclose(result(metric, truth, logits), 4 / 12 * 0.9, rtol=1e-5)
    nan = math.nan
    expected = [[[0, nan, nan], [8, 0.25, 0.25], [0, nan, nan], [0, nan, nan], [4, 0.9, 0.0]]]
    np.testing.assert_allclose(metric.curve(), expected, rtol=1e-5)


@pytest.mark.parametrize("empty", ["one", "skip", "penalize"])
@pytest.mark.parametrize("channels", [1, 4])
def test_dice_of_images_is_the_reference_and_the_complement_of_the_loss(channels, empty):
    metric = PerImageDice(channels, empty=empty, ignore_class=IGNORED)
    loss = kz.losses.SoftDice(empty=empty, ignore_class=IGNORED)
    for name, truth, found in masks(channels):
        logits = logits_of(found, channels, scale=1e4)
        received = result(metric, truth, logits)
        expected = reference.per_image_dice(truth, found, num_classes=channels, empty=empty, ignore_class=IGNORED)
        np.testing.assert_allclose(received, expected, atol=4e-6, err_msg=name)
        if metric.counts()[1]:
            complement = 1 - float(ops.convert_to_numpy(loss(truth, logits)))
            np.testing.assert_allclose(received, complement, atol=5e-6, err_msg=name)


def test_dice_of_images_as_the_pneumothorax_challenge_counts_it():
    """Empty and found empty 1; empty with one false pixel 0; one of two pixels found 2/3."""
    truth, found = np.zeros((3, 2, 2), int), np.zeros((3, 2, 2), int)
    found[1, 0, 0] = 1
    truth[2, 0], found[2, 0, 0] = 1, 1
    received = result(PerImageDice(1), truth, logits_of(found, 1))
    np.testing.assert_allclose(received, (1 + 0 + 2 / 3) / 3, atol=4e-6)


# What is foreground ---------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_threshold_is_a_probability(threshold):
    probs = np.linspace(0.005, 0.995, 100)
    logits = np.log(probs / (1 - probs)).astype("float32").reshape(1, 10, 10, 1)
    metric = EmptyFalsePositivePixels(threshold=threshold)
    assert result(metric, np.zeros((1, 10, 10)), logits) == (probs > threshold).sum()


@pytest.mark.backends
def test_undecided_pixels_are_background_for_one_logit_and_for_two():
    for channels in (1, 2):
        logits = np.zeros((1, 2, 2, channels), "float32")
        assert result(EmptyFalsePositivePixels(), np.zeros((1, 2, 2)), logits) == 0


def test_empty_images_count_only_where_asked():
    truth, found = np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int)
    truth[0, 0], found[0, 0], found[1] = 1, 1, 1
    assert result(IoU(1), truth, logits_of(found, 1)) == 1.0
    np.testing.assert_allclose(result(IoU(1, images="all"), truth, logits_of(found, 1)), 2 / 6)
    np.testing.assert_allclose(result(Precision(1), truth, logits_of(found, 1)), 2 / 6)
    assert result(EmptyFalsePositivePixels(), truth, logits_of(found, 1)) == 4
    assert result(ImageBalancedAccuracy(), truth, logits_of(found, 1)) == 0.5


@pytest.mark.backends
def test_areas_of_images_are_counts():
    ids = np.random.default_rng(0).integers(0, 20, (3, 7, 5)).astype("int32")
    ids[1] = 0
    expected = np.stack([np.bincount(image.ravel(), minlength=20)[1:] for image in ids])
    labels, _ = read(ids, np.zeros((3, 7, 5, 20), "float32"), ignore_class=None, reader="test")
    np.testing.assert_array_equal(ops.convert_to_numpy(areas(labels.ids, labels)), expected)


def test_areas_of_images_need_no_memory_per_class():
    import tensorflow as tf

    def count(ids):
        labels = Labels(ids, tf.ones_like(ids, tf.bool), tf.zeros_like(ids, tf.bool), 20)
        return areas(ids, labels)

    graph = tf.function(count).get_concrete_function(tf.TensorSpec((2, 8, 8), tf.int32)).graph
    sizes = [output.shape.num_elements() or 0 for op in graph.get_operations() for output in op.outputs]
    assert max(sizes) == 2 * 8 * 8
    unknown = tf.function(count).get_concrete_function(tf.TensorSpec((None, 8, 8), tf.int32))
    np.testing.assert_array_equal(unknown(tf.ones((3, 8, 8), tf.int32))[:, :2], [[64, 0]] * 3)


def test_min_area_is_of_one_class():
    truth, found = np.zeros((1, 2, 2), int), np.array([[[1, 1], [2, 2]]])
    assert result(ImageBalancedAccuracy(min_area=2), truth, logits_of(found, 3)) == 0
    assert result(ImageBalancedAccuracy(min_area=3), truth, logits_of(found, 3)) == 1


# In fit ---------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_each_metric_sees_its_own_head():
    """Three heads that disagree, named in another order than the model's, without and with XLA."""
    rng = np.random.default_rng(0)
    images, truth = rng.normal(0, 1, (4, 4, 4, 3)).astype("float32"), rng.integers(0, 3, (4, 4, 4))
    truth[0] = 0
    inputs = keras.Input((4, 4, 3))
    outputs = {
        "mask": keras.layers.Identity(name="mask")(inputs),
        "label": keras.layers.GlobalAveragePooling2D(name="label")(inputs),
        "aux_8": keras.layers.Rescaling(-1.0, name="aux_8")(inputs),
    }
    labels = (truth[..., None] == np.arange(3)).any(axis=(1, 2)).astype("float32")
    targets = {"aux_8": truth, "mask": truth, "label": labels}
    model = keras.Model(inputs, outputs)
    for compiler in (False, True) if keras.backend.backend() == "tensorflow" else ("auto",):
        model.compile(
            loss={
                "label": keras.losses.BinaryCrossentropy(from_logits=True),
                **dict.fromkeys(("aux_8", "mask"), kz.losses.CrossEntropy()),
            },
            metrics={
                "label": [keras.metrics.BinaryAccuracy(threshold=0.0)],
                "aux_8": [IoU(3), ImageBalancedAccuracy()],
                "mask": [IoU(3), ImageBalancedAccuracy()],
            },
            jit_compile=compiler,
        )
        logs = model.evaluate(images, targets, verbose=0, return_dict=True)
        accuracy = np.mean((images.mean(axis=(1, 2)) > 0) == labels)
        np.testing.assert_allclose(logs["label_binary_accuracy"], accuracy, rtol=1e-6)
        for head, logits in (("mask", images), ("aux_8", -images)):
            np.testing.assert_allclose(logs[f"{head}_iou"], result(IoU(3), truth, logits), rtol=1e-6)
            expected = result(ImageBalancedAccuracy(), truth, logits)
            np.testing.assert_allclose(logs[f"{head}_image_balanced_accuracy"], expected, rtol=1e-6)
        assert logs["mask_iou"] != logs["aux_8_iou"]


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_by_xla_every_metric_is_the_same(channels):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, max(2, channels), (6, 8, 7))
    truth[::2], truth[5, :2] = 0, IGNORED
    logits = rng.normal(0, 2, (*truth.shape, channels)).astype("float32")
    model = keras.Sequential([keras.Input((8, 7, channels)), keras.layers.Identity()])
    names, logs = kz.metrics.list(), []
    for compiler in (False, True):
        metrics = [build(name, channels) for name in names]
        model.compile(loss=kz.losses.CrossEntropy(ignore_class=IGNORED), metrics=metrics, jit_compile=compiler)
        logs.append(model.evaluate(logits, truth, batch_size=3, verbose=0, return_dict=True))
    assert set(logs[0]) == {"loss", *names}
    for name, expected in logs[0].items():
        np.testing.assert_allclose(logs[1][name], expected, rtol=1e-6, err_msg=name)


@pytest.mark.backends
def test_fit_logs_scalars_vectors_and_directions():
    _, truth, prediction = next(iter(masks(1)))
    inputs = keras.Input((4, 5, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, kernel_initializer="ones")(inputs))
    metrics = [IoU(1), IoU(1, average=None, name="each"), EmptyFalsePositivePixels()]
    model.compile(keras.optimizers.SGD(0.0), loss=kz.losses.CrossEntropy(), metrics=metrics)
    stops = [
        keras.callbacks.EarlyStopping(monitor=f"val_{name}", patience=5)
        for name in ("iou", "empty_false_positive_pixels")
    ]
    data = logits_of(prediction, 1), truth
    history = model.fit(*data, epochs=2, verbose=0, validation_data=data, callbacks=stops).history
    assert history["iou"] == history["val_iou"]
    np.testing.assert_allclose(history["each"][0][1], history["iou"][0], rtol=1e-6)
    assert [stop.monitor_op.__name__ for stop in stops] == ["greater", "less"]  # with Keras's mode="auto"


def test_model_with_metrics_comes_back_from_a_file(tmp_path):
    _, truth, prediction = next(iter(masks(1)))
    inputs = keras.Input((4, 5, 1))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    metrics = [build(name, 1, threshold=0.4) for name in kz.metrics.list()]
    model.compile(loss=kz.losses.CrossEntropy(), metrics=metrics)
    expected = model.evaluate(logits_of(prediction, 1), truth, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(logits_of(prediction, 1), truth, verbose=0, return_dict=True) == pytest.approx(expected)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: IoU(0), "IoU's `num_classes` must be a whole number of at least 1, received 0"),
        (lambda: IoU(1, images="some"), r"`images` must be one of \('non_empty', 'all'\), received 'some'"),
        (lambda: Dice(1, average="macro"), r"`average` must be one of \('foreground', None\), received 'macro'"),
        (lambda: IoU("2"), "`num_classes` must be a whole number of at least 1, received '2'"),
        (lambda: IoU(2.0), "`num_classes` must be a whole number of at least 1, received 2.0: write 2"),
        (lambda: IoU(1, threshold=None), r"probability in \(0, 1\) as `threshold`, received None"),
        (
            lambda: ImageBalancedAccuracy(min_area=math.inf),
            "`min_area` must be a whole number of at least 1, received inf",
        ),
        (lambda: Recall(1, empty="penalize"), r"`empty` must be one of \('skip', 'one'\), received 'penalize'"),
        (lambda: IoU(1, empty="zero"), r"`empty` must be one of \('skip', 'one', 'penalize'\), received 'zero'"),
        (lambda: Recall(1, threshold=1.0), r"probability in \(0, 1\) as `threshold`, received 1.0"),
        (lambda: MCC(1, ignore_class=1.5), "one class id or None as `ignore_class`, received 1.5"),
        (lambda: MCC(1, ignore_class=255.0), "one class id or None as `ignore_class`, received 255.0"),
        (lambda: ImageBalancedAccuracy(min_area=0), "`min_area` must be a whole number of at least 1, received 0"),
        (lambda: PerImageDice(1, empty="nan"), r"`empty` must be one of \('one', 'skip', 'penalize'\), received 'nan'"),
    ],
)
def test_arguments_outside_their_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_batches_that_do_not_fit():
    truth, logits = np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 3), "float32")
    for metric in (IoU(2), PerImageDice(2), ImageMulticlassAccuracy(2)):
        with pytest.raises(ValueError, match=r"ids 0..1, received logits for ids 0..2. Give it the `num_classes`"):
            metric.update_state(truth, logits)
    for name in kz.metrics.list():
        with pytest.raises(ValueError, match="mask as large as the logits"):
            build(name, 3).update_state(truth[:, :3], logits)
        with pytest.raises(ValueError, match="takes no `sample_weight`"):
            build(name, 3).update_state(truth, logits, sample_weight=np.ones(2))
        if name not in ("calibration_error", "image_auc"):
            with pytest.raises(ValueError, match=r"threshold=0.3, which is for models with one logit; received 3"):
                build(name, 3, threshold=0.3).update_state(truth, logits)
        with pytest.raises(TypeError, match=r'compile\(..., {"mask"'):
            build(name, 3).update_state(truth, {"mask": logits})


def test_configuration_is_json():
    metric = IoU(3, images="all", average=None, ignore_class=IGNORED)
    config = json.loads(json.dumps(keras.metrics.serialize(metric)))
    assert config["registered_name"] == "kerazoo>metrics.IoU"
    again = keras.metrics.deserialize(config)
    assert again.get_config() == metric.get_config()
    assert (again.images, again.average, again.ignore_class, again.num_classes) == ("all", None, IGNORED, 3)


def test_configuration_of_a_subclass_that_passes_arguments_on():
    class Named(Dice):
        def __init__(self, num_classes, *, unit="px", **kwargs):
            super().__init__(num_classes, **kwargs)
            self.unit = unit

        def get_config(self):
            return {**super().get_config(), "unit": self.unit}

    config = Named(2, unit="mm", images="all", empty="one").get_config()
    assert (config["unit"], config["images"], config["empty"], config["name"]) == ("mm", "all", "one", "dice")
    assert Named.from_config(config).get_config() == config


REPLICAS = """
import keras, numpy as np, tensorflow as tf
import kerazoo as kz
from support.metric_batches import build
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images, truth = rng.normal(size=(8, 4, 4, 1)).astype("float32"), rng.integers(0, 2, (8, 4, 4))
truth[::3] = 0
logs = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        inputs = keras.Input((4, 4, 1))
        model = keras.Model(inputs, keras.layers.Conv2D(1, 1, kernel_initializer="ones")(inputs))
        metrics = [build(name, 1) for name in kz.metrics.list()]
        model.compile(kz.optimizers.RAdam(0.1), loss=kz.losses.CrossEntropy(), metrics=metrics)
    logs.append(model.fit(images, truth, batch_size=4, epochs=3, shuffle=False, verbose=0).history)
    assert metrics[0].name == "accuracy" and metrics[0].counts().sum() == truth.size, metrics[0].counts()
for name in logs[0]:
    np.testing.assert_allclose(logs[1][name], logs[0][name], rtol=1e-5, err_msg=name)
"""


@pytest.mark.slow
def test_two_replicas_count_and_train_as_one():
    """Pixels of all replicas are counted; a mean over pixels is the same mean. In a process that may set up devices."""
    command = [sys.executable, "-W", "ignore", "-c", REPLICAS]
    done = subprocess.run(command, cwd=REPOSITORY / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
