"""Shift-and-stitch: the word of a strided network at every pixel."""

import keras
import numpy as np
import pytest
from keras import layers
from support.golden_rule import image
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo.inference import shift_and_stitch

WINDOW = 7


@pytest.fixture(scope="module")
def classifier():
    """Windows of 7 pixels, strides of 2 and 3, nothing padded."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((WINDOW, WINDOW, 3))
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = layers.MaxPooling2D(3)(x)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def heat(classifier):
    return kz.pretrained.convolutionalise(classifier)


@pytest.mark.backends
@pytest.mark.parametrize("stride", [None, 6])
def test_every_window_gets_what_the_classifier_says_of_it(classifier, heat, stride):
    x = image(0, (2, 17, 13, 3))
    stitched = shift_and_stitch(heat, x, stride=stride)
    assert stitched.shape == (2, 17 - WINDOW + 1, 13 - WINDOW + 1, 5)
    windows = [x[:, i : i + WINDOW, j : j + WINDOW] for i in range(11) for j in range(7)]
    expected = classifier.predict_on_batch(np.concatenate(windows)).reshape(11, 7, 2, 5).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(stitched, expected, rtol=1e-4, atol=1e-5)


@on_one_backend
def test_a_model_that_pads_says_something_of_every_pixel():
    encoder = kz.encoders.create("convmixer_768_32", image_shape=(None, None, 3))
    small = keras.Model(encoder.input, encoder.get_layer("stem_bn").output)
    x = image(1, (1, 16, 9, 3))
    stitched = shift_and_stitch(small, x)
    assert stitched.shape == (1, 16, 9, 768)
    np.testing.assert_allclose(stitched[:, ::7, ::7], small.predict_on_batch(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stitched[:, 3::7, 5::7], small.predict_on_batch(x[:, 3:, 5:]), rtol=1e-5, atol=1e-6)


def test_an_image_smaller_than_the_stride():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 8, strides=8, padding="same")])
    x = image(2, (1, 3, 20, 1))
    stitched = shift_and_stitch(model, x)
    assert stitched.shape == (1, 3, 20, 2)
    np.testing.assert_allclose(stitched[:, 2:, 3::8], model.predict_on_batch(x[:, 2:, 3:]), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_stitched_is_named(classifier, heat):
    x = np.zeros((1, 16, 16, 3), "float32")
    with pytest.raises(TypeError, match="must be a Keras model with one output"):
        shift_and_stitch(lambda images: images, x)
    with pytest.raises(ValueError, match=r"from images of any size to a map .* from \(None, 7, 7, 3\) to \(None, 5\)"):
        shift_and_stitch(classifier, x)
    with pytest.raises(ValueError, match=r"`images` must be \(B, height, width, channels\), received .* \(16, 16, 3\)"):
        shift_and_stitch(heat, x[0])
    with pytest.raises(ValueError, match="`stride` must be a whole number of at least 1, .* received 0"):
        shift_and_stitch(heat, x, stride=0)
    inputs = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="has no exact stride: .* Give `stride`"):
        shift_and_stitch(keras.Model(inputs, kz.layers.Resize(size=(8, 8))(inputs)), x)
