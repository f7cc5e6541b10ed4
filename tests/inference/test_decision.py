"""Decision rules: thresholds, areas and components, on every backend, against plain NumPy and SciPy."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

import kerazoo as kz
from kerazoo.inference import DecisionRule
from kerazoo.layers.components import component_areas, largest_around

pytestmark = pytest.mark.backends


def decide(rule, probability, full=None, label=None):
    mask, score = rule(ops.convert_to_tensor(probability), full_size=full, label=label)
    return ops.convert_to_numpy(mask), ops.convert_to_numpy(score)


def test_rule_thresholds_pixels_images_and_areas():
    probability = np.zeros((3, 4, 4, 1), "float32")
    probability[0, :2, :3] = 0.6  # six pixels
    probability[1, 0, 0] = 0.95  # one pixel
    mask, score = decide(DecisionRule(), probability)
    assert mask.dtype == np.uint8
    assert mask.sum(axis=(1, 2)).tolist() == [6, 1, 0]
    np.testing.assert_allclose(score, [0.6, 0.95, 0])
    assert decide(DecisionRule(pixel_threshold=0.7), probability)[0].sum(axis=(1, 2)).tolist() == [0, 1, 0]
    assert decide(DecisionRule(image_threshold=0.7), probability)[0].sum(axis=(1, 2)).tolist() == [0, 1, 0]
    assert decide(DecisionRule(min_area=6), probability)[0].sum(axis=(1, 2)).tolist() == [6, 0, 0]
    assert decide(DecisionRule(min_area=7), probability)[0].sum() == 0


def test_rule_takes_the_likeliest_class_and_drops_small_classes_alone():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(4), size=(2, 16, 16)).astype("float32")
    mask, _ = decide(DecisionRule(), probability)
    np.testing.assert_array_equal(mask, probability.argmax(axis=-1))
    strict, _ = decide(DecisionRule(pixel_threshold=0.8), probability)
    best = probability[..., 1:].max(axis=-1)
    np.testing.assert_array_equal(strict > 0, best / (best + probability[..., 0]) > 0.8)
    areas = np.bincount(mask[0].ravel(), minlength=4)[1:]
    limit = int(np.sort(areas)[1])
    kept, _ = decide(DecisionRule(min_area=limit), probability[:1])
    np.testing.assert_array_equal(kept[0], np.where(np.isin(mask[0], np.flatnonzero(areas >= limit) + 1), mask[0], 0))


def test_rule_counts_area_at_the_resolution_of_the_model():
    small = np.zeros((1, 4, 4, 1), "float32")
    small[0, :2, :2] = 0.9
    full = np.kron(small, np.ones((1, 4, 4, 1), "float32"))
    assert decide(DecisionRule(min_area=5), small, full)[0].sum() == 0
    assert decide(DecisionRule(min_area=4), small, full)[0].sum() == 64


def masks(*shape, seed=0):
    """Random masks with components of every size: sparse and dense noise, blobs, a spiral-like path, none, all."""
    rng = np.random.default_rng(seed)
    noise = [rng.random(shape) < density for density in (0.0, 0.1, 0.3, 0.42, 0.6, 1.0)]
    path = np.zeros(shape, bool)
    path[::4] = True
    for turn, row in enumerate(range(0, shape[0] - 4, 4)):
        path[row : row + 5, -1 if turn % 2 else 0] = True
    return np.stack([*noise, ndimage.gaussian_filter(rng.standard_normal(shape), 2) > 0.05, path])


def reference_areas(there):
    """`(B, H, W)` area of each pixel's component by SciPy."""
    areas = np.zeros(there.shape, int)
    for image, area in zip(there, areas, strict=True):
        labels, _ = ndimage.label(image, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        area[:] = sizes[labels]
    return areas


@pytest.mark.parametrize("seed", [0, 1])
def test_areas_of_components_are_those_of_scipy(seed):
    there = masks(37, 29, seed=seed)
    areas = ops.convert_to_numpy(component_areas(ops.convert_to_tensor(there)))
    assert areas.dtype == np.int32
    np.testing.assert_array_equal(areas, reference_areas(there))


def test_largest_around_is_a_maximum_filter():
    values = np.random.default_rng(0).integers(0, 99, (2, 7, 9)).astype("int32")
    expected = [ndimage.maximum_filter(image, 3, mode="constant") for image in values]
    np.testing.assert_array_equal(ops.convert_to_numpy(largest_around(ops.convert_to_tensor(values))), expected)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="elsewhere sizes are known")
def test_components_of_unknown_size_and_compiled():
    import tensorflow as tf

    unknown = tf.function(component_areas, input_signature=[tf.TensorSpec((None, None, None), "bool")])
    for shape in ((37, 29), (1, 1), (5, 40)):
        there = masks(*shape)
        np.testing.assert_array_equal(unknown(tf.constant(there)), reference_areas(there))
    there = masks(24, 31)
    compiled = tf.function(component_areas, jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(there)), reference_areas(there))


def test_small_components_are_dropped_each_for_itself():
    there = masks(37, 29)
    probability = np.where(there, 0.8, 0.3)[..., None].astype("float32")
    areas = reference_areas(there)
    for limit in (1, 2, 9, 60):
        mask, _ = decide(DecisionRule(min_area=limit, per_component=True), probability)
        np.testing.assert_array_equal(mask, there & (areas >= limit))
    by_image, _ = decide(DecisionRule(min_area=9), probability)
    assert not np.array_equal(by_image, there & (areas >= 9))


def test_components_are_those_of_one_class():
    """Two classes that touch: each counts its own pixels only."""
    probability = np.full((1, 4, 8, 3), 0.05, "float32")
    probability[0, :, :, 0] = 0.9
    probability[0, 1, 1:4] = [0.1, 0.8, 0.1]
    probability[0, 1, 4:6] = [0.1, 0.1, 0.8]
    mask, _ = decide(DecisionRule(min_area=3, per_component=True), probability)
    assert mask[0, 1].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    assert decide(DecisionRule(min_area=5, per_component=True), probability)[0].sum() == 0


@pytest.mark.parametrize("size", [(64, 48), (33, 70), (7, 9)])
def test_a_dropped_component_leaves_nothing_in_a_resized_mask(size):
    small = np.zeros((1, 16, 16, 1), "float32")
    small[0, 1:7, 1:7] = 0.95  # 36 pixels
    small[0, 10:12, 10:13] = 0.95  # 6 pixels
    alone = small.copy()
    alone[0, 10:12, 10:13] = 0
    full, only_large = (kz.layers.Resize(size=size)(part) for part in (small, alone))
    both, _ = decide(DecisionRule(), small, full)
    mask, _ = decide(DecisionRule(min_area=7, per_component=True), small, full)
    expected, _ = decide(DecisionRule(), alone, only_large)
    assert both.sum() > mask.sum() > 0
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(decide(DecisionRule(min_area=6, per_component=True), small, full)[0], both)
    assert decide(DecisionRule(min_area=37, per_component=True), small, full)[0].sum() == 0


def test_scores_of_the_kth_pixel_and_of_the_label():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(3), size=(3, 6, 5)).astype("float32")
    label = rng.random((3, 3)).astype("float32")
    ordered = np.sort(probability[..., 1:].max(axis=-1).reshape(3, -1), axis=1)[:, ::-1]
    for rank in (1, 2, 7, 30):
        np.testing.assert_array_equal(decide(DecisionRule(rank=rank), probability)[1], ordered[:, rank - 1])
    np.testing.assert_array_equal(decide(DecisionRule(rank=31), probability)[1], ordered[:, -1])  # there are 30
    np.testing.assert_array_equal(decide(DecisionRule(score="label"), probability, label=label)[1], label[:, 1:].max(1))
    one = label[:, :1]
    np.testing.assert_array_equal(decide(DecisionRule(score="label"), probability, label=one)[1], one[:, 0])
    threshold = float(np.sort(one[:, 0])[1])
    mask, _ = decide(DecisionRule(score="label", image_threshold=threshold), probability, label=one)
    assert (mask.any(axis=(1, 2)) == (one[:, 0] > threshold)).all()
    assert mask.any()
    with pytest.raises(ValueError, match=r'score="label"\) needs a model with a label head'):
        decide(DecisionRule(score="label"), probability)


def labeled_model():
    """Gray level 128 is a probability of 0.5; the label is sure of foreground where the mean level is above 64."""
    image = keras.Input((None, None, 1))
    mean = keras.layers.GlobalAveragePooling2D(dtype="float32")(image)
    outputs = {
        "mask": keras.layers.Rescaling(1 / 16, offset=-8, dtype="float32")(image),
        "label": keras.layers.Rescaling(1 / 8, offset=-8, dtype="float32")(mean),
    }
    return keras.Model(image, outputs)


@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"image_size": (48, 40)}], ids=str)
def test_prediction_scores_by_the_label_head(options):
    images = [np.full((70, 90, 1), level, "uint8") for level in (40, 200)]
    images[0][3:9, 3:9] = 250  # bright pixels in an image whose label is sure of nothing
    rule = DecisionRule(score="label", image_threshold=0.5)
    for prediction in kz.inference.predict(labeled_model(), images, rule=rule, **options):
        assert prediction.score == pytest.approx(float(prediction.label[0]), abs=1e-6)
        assert prediction.mask.any() == (prediction.id == "1")
    assert kz.inference.predict(labeled_model(), images, **options)[0].mask.any()


@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"image_size": (35, 45)}], ids=str)
def test_prediction_drops_components(options):
    image = np.zeros((70, 90, 1), "uint8")
    image[10:30, 10:40] = 255
    image[50:54, 60:66] = 255
    rule = DecisionRule(min_area=40, per_component=True)
    plain, kept = (kz.inference.predict(labeled_model(), [image], rule=r, **options)[0] for r in (None, rule))
    assert ndimage.label(plain.mask)[1] == 2
    np.testing.assert_array_equal(kept.mask, np.where(np.arange(70)[:, None] < 42, plain.mask, 0))
    assert kept.mask.any()
    assert kept.score == plain.score


def test_rules_are_saved_and_read(tmp_path):
    rule = DecisionRule(pixel_threshold=0.3, image_threshold=0.8, min_area=np.int64(12), per_component=True, rank=5)
    rule.save(tmp_path / "rule.json", metric="iou", value=0.5)
    assert DecisionRule.load(tmp_path / "rule.json") == rule
    assert json.loads((tmp_path / "rule.json").read_text())["metric"] == "iou"
    assert str(rule) == "pixel threshold 0.3, image threshold 0.8 (pixel 5), at least 12 pixels per component"
    old = {"rule": {"pixel_threshold": 0.4, "image_threshold": None, "min_area": 20}, "tolerance": 1e-4}
    (tmp_path / "parity.json").write_text(json.dumps(old))
    assert DecisionRule.load(tmp_path / "parity.json") == DecisionRule(pixel_threshold=0.4, min_area=20)


@pytest.mark.parametrize(
    "text", ["[]", "{", "{}", '{"rule": {"area": 3}}', '{"rule": {"min_area": -3}}', '{"rule": 3}']
)
def test_a_file_without_a_rule_is_named(tmp_path, text):
    (tmp_path / "rule.json").write_text(text)
    with pytest.raises(ValueError, match=r"rule\.json does not hold a decision rule: .*Tune or save it anew"):
        DecisionRule.load(tmp_path / "rule.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_threshold": None}, r"`pixel_threshold` is a probability and must be in \[0, 1\], received None"),
        ({"image_threshold": float("nan")}, r"`image_threshold` is a probability .* received nan"),
        ({"pixel_threshold": "0.5"}, r"`pixel_threshold` is a probability .* received '0.5'"),
        ({"min_area": True}, "`min_area` must be a whole number of at least 0, received True"),
        ({"min_area": 3.0}, "`min_area` must be a whole number of at least 0, received 3.0: write 3"),
        ({"rank": 0}, "`rank` must be a whole number of at least 1, received 0"),
        ({"score": "best"}, r"`score` must be one of \('pixel', 'label'\), received 'best'"),
    ],
)
def test_wrong_rules_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DecisionRule(**options)
