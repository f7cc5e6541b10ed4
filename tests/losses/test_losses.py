"""Losses against float64 references, and what each says about empty, full and ignored masks.

On every backend: what depends on how it computes, and not the formulas again; see test_losses_precision.py.
"""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from support.backend import value_and_gradient
from support.loss_cases import CASES, CLASS_WEIGHTS, batch, build, value
from support.tiers import on_one_backend, thorough

import kerazoo as kz
from kerazoo.losses import CrossEntropy, Focal, ForegroundDice, SoftDice, WeightedSum


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_value_is_the_reference(name, arguments, channels):
    loss, expected = build(name, arguments, channels)
    truth, logits = batch(channels)
    full = np.full_like(truth, 1)
    for mask in (truth, truth[1:2], truth[2:3], truth[3:], full, np.zeros_like(truth)):
        scores = logits[: len(mask)]
        np.testing.assert_allclose(value(loss, mask, scores), expected(mask, scores), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_gradient_is_the_slope_of_the_reference(name, arguments, channels):
    loss, expected = build(name, arguments, channels)
    truth, logits = batch(channels, size=(4, 3, 2))
    _, gradient = value_and_gradient(lambda x: loss(truth, x), logits)
    slope, step = np.zeros(logits.shape), 1e-5
    for index in np.ndindex(logits.shape):
        ahead, behind = logits.astype("float64"), logits.astype("float64")
        ahead[index] += step
        behind[index] -= step
        slope[index] = (expected(truth, ahead) - expected(truth, behind)) / (2 * step)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-6)


@on_one_backend
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_certain_predictions_have_the_value_of_the_reference_and_a_finite_gradient(name, arguments, channels):
    loss, expected = build(name, arguments, channels)
    truth, logits = batch(channels)
    logits = np.float32(1e4) * np.sign(logits)
    for mask in (truth, np.zeros_like(truth), np.ones_like(truth), np.full_like(truth, 255)):
        received, gradient = value_and_gradient(lambda x, mask=mask: loss(mask, x), logits)
        np.testing.assert_allclose(received, expected(mask, logits), rtol=1e-5, atol=1e-7)
        assert np.isfinite(gradient).all()


@pytest.mark.backends
def test_cross_entropy_is_that_of_keras():
    rng = np.random.default_rng(0)
    truth, logits = rng.integers(0, 3, (2, 4, 4)), rng.normal(0, 2, (2, 4, 4, 3)).astype("float32")
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(value(CrossEntropy(), truth, logits), float(keras_loss(truth, logits)), rtol=1e-5)
    smooth = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)
    binary, score = (truth > 0)[..., None], logits[..., :1]
    received = value(CrossEntropy(label_smoothing=0.2), binary, score)
    np.testing.assert_allclose(received, float(smooth(binary, score)), rtol=1e-5)


def test_focal_without_focus_is_cross_entropy():
    truth, logits = batch(3)
    focal = value(Focal(gamma=0.0, ignore_class=255), truth, logits)
    np.testing.assert_allclose(focal, value(CrossEntropy(ignore_class=255), truth, logits), rtol=1e-6)


def test_two_logits_are_as_one():
    """softmax([0, z]) is sigmoid(z), so no loss may tell one sigmoid logit from two softmax logits."""
    truth, logits = batch(1)
    two = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    for name, arguments in CASES:
        loss, _ = build(name, arguments, 1)
        np.testing.assert_allclose(value(loss, truth, two), value(loss, truth, logits), rtol=1e-5, err_msg=name)


# Empty images ---------------------------------------------------------------------------------------------------------


def test_one_foreground_image_in_a_batch_counts_as_that_image_alone():
    truth, logits = batch(1)
    truth[1:] = 0
    alone = value(ForegroundDice(), truth[:1], logits[:1])
    assert 0 < alone < 1
    np.testing.assert_allclose(value(ForegroundDice(), truth, logits), alone, rtol=1e-6)
    each = ops.convert_to_numpy(ForegroundDice(reduction=None)(truth, logits))
    np.testing.assert_allclose(each, [alone, 0, 0, 0], rtol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("channels", [1, 3])
def test_batch_without_foreground_has_no_foreground_loss(channels):
    _, logits = batch(channels)
    for loss in (ForegroundDice(), SoftDice(empty="skip")):
        received, gradient = value_and_gradient(lambda x, loss=loss: loss(np.zeros((4, 5, 3)), x), logits)
        assert received == 0
        assert not gradient.any()


def test_absent_classes_take_no_part_in_the_foreground_loss():
    truth, (right, wrong) = np.ones((1, 2, 2), int), (np.float32([-9, 9, -9]), np.float32([9, -9, -9]))
    assert value(ForegroundDice(), truth, np.broadcast_to(right, (1, 2, 2, 3))) < 1e-3
    assert value(ForegroundDice(), truth, np.broadcast_to(wrong, (1, 2, 2, 3))) > 0.999


@pytest.mark.backends
def test_constant_prediction_on_an_empty_image():
    """The case that other libraries get wrong: p = 0.01 everywhere on 256 × 256 pixels without foreground."""
    p, pixels = 0.01, 256 * 256
    truth = np.zeros((1, 256, 256), "uint8")
    logits = np.full((1, 256, 256, 1), math.log(p / (1 - p)), "float32")
    table = {}
    for empty in ("skip", "one", "penalize"):
        table[empty] = value_and_gradient(lambda x, e=empty: SoftDice(empty=e)(truth, x), logits)
    assert table["skip"][0] == 0
    np.testing.assert_allclose(table["one"][0], 1.0)  # the correct prediction has the worst loss ...
    assert not table["one"][1].any()  # ... and nothing pulls it down
    area = p * pixels
    np.testing.assert_allclose(table["penalize"][0], math.log(1 + area) / math.log(1 + pixels), rtol=1e-5)
    slope = p * (1 - p) / ((1 + area) * math.log(1 + pixels))
    np.testing.assert_allclose(table["penalize"][1], slope, rtol=1e-4)
    keras_dice = keras.losses.Dice()(np.zeros((1, 256, 256, 1), "float32"), np.full((1, 256, 256, 1), p, "float32"))
    assert float(keras_dice) > 0.99  # why there is a loss of ours


def test_penalty_grows_with_the_area_from_0_to_1_and_halving_is_worth_the_same():
    areas = np.array([0, 1, 2, 4, 8, 512, 1024, 2048, 4096])
    logits = np.where(np.arange(4096) < areas[:, None], 50.0, -50.0).astype("float32").reshape(len(areas), 64, 64, 1)
    truth = np.zeros((len(areas), 64, 64))
    each = ops.convert_to_numpy(SoftDice(empty="penalize", reduction=None)(truth, logits))
    assert each[0] < 1e-12  # sigmoid(-50) is not quite 0
    np.testing.assert_allclose(each[-1], 1.0, rtol=1e-6)
    assert (np.diff(each) > 0).all()
    np.testing.assert_allclose(each[-1] - each[-2], each[-2] - each[-3], rtol=2e-3)
    np.testing.assert_allclose(each[1], math.log(2) / math.log(4097), rtol=1e-5)


@pytest.mark.backends
def test_large_images_in_16_bits():
    """A megapixel: sums over pixels that float16 and bfloat16 could not hold."""
    p = 0.2
    for dtype in ("float16", "bfloat16"):
        logits = ops.full((1, 1024, 1024, 1), math.log(p / (1 - p)), dtype=dtype)
        near = 1 / (1 + math.exp(-float(ops.convert_to_numpy(ops.cast(logits[0, 0, 0, 0], "float32")))))
        half = np.zeros((1, 1024, 1024), "uint8")
        half[:, :512] = 1
        np.testing.assert_allclose(value(ForegroundDice(), half, logits), 1 - near / (0.5 + near), rtol=1e-5)
        expected = -0.5 * (math.log(near) + math.log(1 - near))
        np.testing.assert_allclose(value(CrossEntropy(), half, logits), expected, rtol=1e-5)
        penalty = value(SoftDice(empty="penalize"), np.zeros_like(half), logits)
        np.testing.assert_allclose(penalty, math.log(1 + near * 2**20) / math.log(1 + 2**20), rtol=1e-5)


def test_mean_is_over_valid_pixels():
    truth, logits = batch(3)
    loss = CrossEntropy(ignore_class=255)
    every = ops.convert_to_numpy(CrossEntropy(ignore_class=255, reduction=None)(truth, logits))
    assert not every[truth == 255].any()
    np.testing.assert_allclose(value(loss, truth, logits), every[truth != 255].mean(), rtol=1e-6)
    total = value(CrossEntropy(ignore_class=255, reduction="sum"), truth, logits)
    np.testing.assert_allclose(total, every.sum(), rtol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), SoftDice(), ForegroundDice()], ids=lambda loss: loss.name)
def test_ids_outside_of_the_classes_are_loud_and_harmless(loss):
    truth, logits = batch(1)
    truth = np.where(truth == 255, 0, truth)
    truth[0, 0, 0] = 255
    received, gradient = value_and_gradient(lambda x: loss(truth, x), logits)
    assert np.isnan(received)
    assert np.isfinite(gradient).all()


# Sample weights -------------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_pixel_weights():
    truth, logits = batch(3)
    weights = np.random.default_rng(0).random(truth.shape).astype("float32")
    every = ops.convert_to_numpy(CrossEntropy(ignore_class=255, reduction=None)(truth, logits))
    loss = CrossEntropy(ignore_class=255)
    for shaped in (weights, weights[..., None]):
        expected = (every * weights).sum() / (truth != 255).sum()
        np.testing.assert_allclose(value(loss, truth, logits, sample_weight=shaped), expected, rtol=1e-5)
    by_weight = CrossEntropy(ignore_class=255, reduction="mean_with_sample_weight")
    expected = (every * weights).sum() / weights[truth != 255].sum()
    np.testing.assert_allclose(value(by_weight, truth, logits, sample_weight=weights), expected, rtol=1e-5)


@pytest.mark.backends
def test_image_weights_meet_the_image_and_not_the_column():
    """As many images as columns: where Keras's broadcasting would weigh columns."""
    truth, logits = batch(1, size=(4, 5, 4))
    weights = np.array([1, 0, 0, 0], "float32")
    every = ops.convert_to_numpy(CrossEntropy(reduction=None, ignore_class=255)(truth, logits))
    received = value(CrossEntropy(ignore_class=255), truth, logits, sample_weight=weights)
    np.testing.assert_allclose(received, every[0].sum() / (truth != 255).sum(), rtol=1e-5)


def test_only_one_term_takes_pixel_weights():
    truth, logits = batch(1)
    weights = np.ones(truth.shape, "float32")
    weights[0] = 2.0
    both = CrossEntropy(ignore_class=255) + ForegroundDice(ignore_class=255, weighted=False)
    expected = value(CrossEntropy(ignore_class=255), truth, logits, sample_weight=weights)
    expected += value(ForegroundDice(ignore_class=255), truth, logits)
    np.testing.assert_allclose(value(both, truth, logits, sample_weight=weights), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"one value per image.*write ForegroundDice\(weighted=False\)"):
        (CrossEntropy() + ForegroundDice())(truth, logits, sample_weight=weights)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3,), "one `sample_weight` per image, received"), ((4, 5), "or one weight per pixel"), ((4, 5, 2), "per pixel")],
)
def test_weights_that_do_not_fit(shape, message):
    truth, logits = batch(1)
    with pytest.raises(ValueError, match=message):
        CrossEntropy()(truth, logits, sample_weight=np.ones(shape, "float32"))


# Sums -----------------------------------------------------------------------------------------------------------------


def test_sums_are_flat_and_weighted():
    truth, logits = batch(1)
    first, second = CrossEntropy(ignore_class=255), ForegroundDice(ignore_class=255)
    total = 2 * (first + 0.1 * second) + sum([first, second])
    assert [weight for weight, _ in total.terms] == [2.0, 0.2, 1.0, 1.0]
    assert repr(total) == "2 * CrossEntropy + 0.2 * ForegroundDice + 1 * CrossEntropy + 1 * ForegroundDice"
    expected = 3 * value(first, truth, logits) + 1.2 * value(second, truth, logits)
    np.testing.assert_allclose(value(total, truth, logits), expected, rtol=1e-6)


@pytest.mark.backends
def test_losses_of_keras_are_terms():
    truth, logits = batch(1)
    keras_loss = keras.losses.MeanSquaredError()
    for total in (CrossEntropy(ignore_class=255) + keras_loss, keras_loss + CrossEntropy(ignore_class=255)):
        mask = truth[..., None].astype("float32")
        expected = value(CrossEntropy(ignore_class=255), truth, logits) + value(keras_loss, mask, logits)
        np.testing.assert_allclose(value(total, mask, logits), expected, rtol=1e-6)


def test_what_cannot_be_summed():
    with pytest.raises(TypeError, match="unsupported operand"):
        CrossEntropy() + 1
    with pytest.raises(TypeError, match="takes pairs"):
        WeightedSum([("a", CrossEntropy())])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="needs a reduction, 'cross_entropy' has reduction=None"):
        CrossEntropy(reduction=None) + ForegroundDice()
    with pytest.raises(ValueError, match="finite, received nan"):
        math.nan * CrossEntropy()
    with pytest.raises(ValueError, match="at least one term"):
        WeightedSum([])


@pytest.mark.backends
def test_compiled_sum_comes_back_from_a_file(tmp_path):
    """Class weights too: Keras writes tuples of a config as dicts, and does not read them back."""
    truth, images = batch(3)[0] % 3, batch(3)[1]
    total = CrossEntropy(class_weights=CLASS_WEIGHTS) + 0.1 * (Focal(alpha=CLASS_WEIGHTS) + SoftDice(empty="penalize"))
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    model.compile("sgd", loss=total)
    model.train_on_batch(images, truth)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(total))))
    expected = value(total, truth, model.predict_on_batch(images))
    np.testing.assert_allclose(value(again, truth, model.predict_on_batch(images)), expected, rtol=1e-6)
    np.testing.assert_allclose(loaded.evaluate(images, truth, verbose=0), expected, rtol=1e-5)


@on_one_backend
@pytest.mark.backends
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_training_under_a_mixed_policy(policy):
    keras.config.set_dtype_policy(policy)
    truth, images = batch(3)[0] % 2, batch(3)[1]
    inputs = keras.Input((5, 3, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs))  # 16-bit logits, as no model of ours has
    loss = CrossEntropy() + 0.1 * ForegroundDice()
    assert all(term.dtype == "float32" for _, term in loss.terms)
    model.compile("sgd", loss=loss)
    assert np.isfinite(model.fit(images, truth, epochs=2, verbose=0).history["loss"]).all()


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (CrossEntropy, {"class_weights": [1, -1]}, r"`class_weights` of at least 0.*received \[1, -1\]"),
        (
            CrossEntropy,
            {"class_weights": {0: 1.0, 1: 5.0}},
            r"as a sequence.*mapping {0: 1.0, 1: 5.0}. Use \[1.0, 5.0\]",
        ),
        (CrossEntropy, {"class_weights": "balanced"}, "`class_weights` of at least 0.*received 'balanced'"),
        (SoftDice, {"class_weights": 2.0}, "`class_weights` of at least 0.*received 2.0"),
        (SoftDice, {"class_weights": (1, math.inf)}, "`class_weights` of at least 0"),
        (SoftDice, {"smooth": math.inf}, "`smooth` of at least 0 pixels, received inf"),
        (SoftDice, {"smooth": None}, "`smooth` of at least 0 pixels, received None"),
        (Focal, {"gamma": "2"}, "`gamma` of at least 0, received '2'"),
        (CrossEntropy, {"ignore_class": "255"}, "one class id or None as `ignore_class`, received '255'"),
        (CrossEntropy, {"label_smoothing": None}, r"`label_smoothing` in \[0, 1\), received None"),
        (CrossEntropy, {"label_smoothing": 1.0}, r"`label_smoothing` in \[0, 1\), received 1.0"),
        (CrossEntropy, {"dtype": "float16"}, "float16 cannot. Leave `dtype` out"),
        (CrossEntropy, {"ignore_class": 0.5}, "one class id or None as `ignore_class`, received 0.5"),
        (Focal, {"gamma": -1.0}, "`gamma` of at least 0, received -1.0"),
        (Focal, {"alpha": 1.5}, r"`alpha` in \[0, 1\], received 1.5"),
        (SoftDice, {"empty": "zero"}, r"`empty` one of \('skip', 'one', 'penalize'\), received 'zero'"),
        (SoftDice, {"smooth": -1.0}, "`smooth` of at least 0 pixels, received -1.0"),
    ],
)
def test_arguments_outside_their_range(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(**arguments)


@pytest.mark.parametrize(
    ("truth", "logits", "message"),
    [
        ((2, 4, 4), (2, 4, 3, 1), "mask as large as the logits, received y_true"),
        ((3, 4, 4), (2, 4, 4, 1), "mask as large as the logits"),
        ((2, 4), (2, 4, 4, 1), r"class ids `y_true` \(B, H, W\)"),
        ((2, 4, 4, 3), (2, 4, 4, 3), r"Turn one-hot masks into ids"),
        ((2,), (2, 3), r"takes logits `y_pred` \(B, H, W, C\)"),
    ],
)
def test_shapes_that_do_not_fit(truth, logits, message):
    for name in kz.losses.list():
        with pytest.raises(ValueError, match=message):
            kz.losses.create(name)(np.zeros(truth), np.zeros(logits, "float32"))


def test_class_weights_that_do_not_fit_the_logits():
    truth, logits = batch(3)
    with pytest.raises(ValueError, match=r"ids 0..2 \(3 weights, background first\), received 2"):
        CrossEntropy(class_weights=(1, 2))(truth, logits)
    with pytest.raises(ValueError, match=r"entry of `alpha` per mask id"):
        Focal(alpha=(1, 2))(truth, logits)
    CrossEntropy(class_weights=(1, 2), ignore_class=255)(truth, logits[..., :1])  # two ids of one logit


def test_dict_of_outputs_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r'compile\(..., {"mask": CrossEntropy\(...\)}\)'):
        CrossEntropy()(np.zeros((1, 2, 2)), {"mask": np.zeros((1, 2, 2, 1)), "label": np.zeros((1, 1))})


@thorough
def test_unknown_sizes_and_ranks():
    """What only a TensorFlow graph has."""
    import tensorflow as tf

    truth, logits = batch(3)
    for name in kz.losses.list():
        loss = kz.losses.create(name, ignore_class=255)
        unknown = [tf.TensorSpec((None, None, None), "int64"), tf.TensorSpec((None, None, None, 3))]
        weight = np.ones(len(truth), "float32")

        def weighted(y_true, y_pred, loss=loss, weight=weight):
            return loss(y_true, y_pred, sample_weight=weight)

        graph = tf.function(lambda y_true, y_pred: weighted(y_true, y_pred), input_signature=unknown)
        np.testing.assert_allclose(graph(truth, logits), weighted(truth, logits), rtol=1e-6)
        unranked = [tf.TensorSpec(None, "int64"), unknown[1]]
        rankless = tf.function(lambda y_true, y_pred: weighted(y_true, y_pred), input_signature=unranked)
        with pytest.raises(ValueError, match=r"of known rank.*tf.ensure_shape"):
            rankless(truth, logits)
