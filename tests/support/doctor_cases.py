"""Small models and data for the tests of `kerazoo.doctor`."""

import keras
import numpy as np
from keras import layers

import kerazoo as kz

SIZE = 16
LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)


def plain(classes=1, *, channels=3, activation=None, before=True, last=None, size=None, bias="glorot_uniform"):
    """A model with batch norm and logits, without anything of kerazoo."""
    image = keras.Input((size, size, channels))
    x = layers.Rescaling(1 / 255)(image) if before else image
    x = layers.Conv2D(4, 3, padding="same", name="first")(x)
    x = layers.BatchNormalization(name="norm")(layers.Activation("relu")(x))
    x = layers.Conv2D(classes, 1, activation=activation, name="last")(x)
    return keras.Model(image, x if last is None else last(x))


def images(count=8, *, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, channels)).astype(np.uint8)


def masks(count=8, *, classes=1):
    """Every second one empty."""
    drawn = np.random.default_rng(1).integers(0, max(2, classes), (count, SIZE, SIZE)).astype(np.int32)
    drawn[::2] = 0
    return drawn


def one_hot(ids, classes):
    return np.eye(classes, dtype=np.float32)[ids]


def examine(model, dataset, **options):
    return kz.doctor(model, dataset, verbose=False, **options)


def compiled(model, loss=None, *, optimizer="adam", metrics=None, **options):
    loss = kz.losses.CrossEntropy() + 0.1 * kz.losses.ForegroundDice() if loss is None else loss
    model.compile(optimizer, loss, metrics=metrics, **options)
    return model
