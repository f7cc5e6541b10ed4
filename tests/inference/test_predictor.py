"""A predictor gives in many calls what the functions give in one, and compiles once for a size."""

import keras
import numpy as np
import pytest

import kerazoo as kz
from kerazoo.inference import DecisionRule, Predictor

pytestmark = pytest.mark.backends

IMAGES = [np.random.default_rng(seed).integers(0, 256, (70, 90, 1)).astype("uint8") for seed in range(3)]


class Counted(keras.layers.Layer):
    """Passes its input on, and counts how often Python runs it: once when it is compiled."""

    runs = 0

    def call(self, x):
        Counted.runs += 1
        return x


def model_with_everything():
    """Mask, label, and an auxiliary output, of two classes."""
    image = keras.Input((None, None, 1))
    x = Counted(dtype="float32")(keras.layers.Rescaling(1 / 64, offset=-2, dtype="float32")(image))
    logits = keras.layers.Conv2D(2, 3, padding="same", dtype="float32")(x)
    label = keras.layers.GlobalMaxPooling2D(dtype="float32")(logits)
    return keras.Model(image, {"mask": logits, "label": label, "aux_4": keras.layers.Rescaling(2.0)(logits)})


@pytest.mark.parametrize("options", [{"tta": "flip"}, {"tile": 64, "batch_size": 2}, {"image_size": (48, 40)}], ids=str)
def test_a_predictor_predicts_as_the_functions_do(options):
    model, rule = model_with_everything(), DecisionRule(pixel_threshold=0.4, min_area=5)
    predictor = Predictor(model, **options)
    expected = kz.inference.predict(model, IMAGES, rule=rule, **options)
    for found in (predictor(IMAGES, rule=rule), list(predictor.stream(IMAGES, rule=rule))):
        for one, other in zip(found, expected, strict=True):
            assert (one.id, one.score) == (other.id, other.score)
            for name in ("mask", "probability", "label"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for output, other in zip(predictor.probabilities(IMAGES), expected, strict=True):
        np.testing.assert_array_equal(output.full, other.probability)
    np.testing.assert_array_equal(predictor(IMAGES)[0].mask, kz.inference.predict(model, IMAGES, **options)[0].mask)


def test_logits_and_batches_are_those_of_the_model():
    model = model_with_everything()
    predictor, batch = Predictor(model), np.stack(IMAGES).astype("float32")
    logits = keras.ops.convert_to_numpy(model(batch)["mask"])
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    probability, label = predictor.predict_on_batch(batch)
    np.testing.assert_allclose(probability, shares, atol=1e-5)
    for index, output in enumerate(predictor.logits(IMAGES)):
        np.testing.assert_allclose(output.full, logits[index], atol=1e-4)
        np.testing.assert_allclose(output.label, label[index], atol=1e-5)
    mirrored = keras.ops.convert_to_numpy(model(batch[:, :, ::-1])["mask"])[:, :, ::-1]
    for index, output in enumerate(Predictor(model, tta="flip").logits(IMAGES)):
        np.testing.assert_allclose(output.full, (logits + mirrored)[index] / 2, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch compiles nothing")
def test_a_model_is_compiled_once_for_a_size():
    predictor = Predictor(model_with_everything())
    predictor(IMAGES)
    runs = Counted.runs
    predictor(IMAGES)
    list(predictor.logits(IMAGES))
    assert Counted.runs == runs
    predictor([image[:60] for image in IMAGES])
    assert Counted.runs > runs, "another size is compiled anew, so the count sees it"


def test_options_are_checked_when_it_is_made():
    with pytest.raises(ValueError, match="received overlap=8 without `tile`"):
        Predictor(model_with_everything(), overlap=8)
    with pytest.raises(ValueError, match="`model` must be a functional Keras model with one input"):
        Predictor(keras.layers.Dense(2))
