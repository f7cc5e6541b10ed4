"""What losses and metrics refuse before they look at a value."""

import keras
import numpy as np
import pytest

import kerazoo as kz

pytestmark = pytest.mark.backends


def model(activation, channels):
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(channels, 1, activation=activation)])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX does not tell what made an array")
@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 1), ("softmax", 3)])
def test_a_model_that_ends_in_probabilities_is_refused(activation, channels):
    images, masks = np.zeros((2, 8, 8, 1), "float32"), np.zeros((2, 8, 8), "int32")
    message = f'CrossEntropy takes logits.* a {activation} made them.*Leave activation="{activation}" out of the last'
    twice = model(activation, channels)
    twice.compile("sgd", loss=kz.losses.CrossEntropy() + 0.1 * kz.losses.ForegroundDice())
    with pytest.raises(ValueError, match=message):
        twice.fit(images, masks, verbose=0)
    if channels == 1:
        twice.compile("sgd", loss="mse", metrics=[kz.metrics.IoU(1)])
        with pytest.raises(ValueError, match="IoU takes logits"):
            twice.fit(images, masks[..., None], verbose=0)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_other_models_are_not(activation):
    images, masks = np.zeros((2, 8, 8, 1), "float32"), np.zeros((2, 8, 8), "int32")
    single = model(activation, 1)
    single.compile("sgd", loss=kz.losses.CrossEntropy(), metrics=[kz.metrics.IoU(1)])
    single.fit(images, masks, verbose=0)
