"""Phases from Python on every backend: what is frozen, at which rates, and averaged weights."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerazoo.training import fit_phases

pytestmark = pytest.mark.backends

LOSS = keras.losses.BinaryCrossentropy(from_logits=True)
PLAIN = {"optimizer": keras.optimizers.SGD(), "loss": LOSS, "metrics": [], "jit_compile": False, "verbose": 0}


class Batches(keras.utils.PyDataset):
    """Three batches of noise, whose masks are where it is bright."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        images = np.random.default_rng(index).normal(size=(2, 8, 8, 1)).astype("float32")
        return images, (images > 0.5).astype("uint8")


def small():
    """A segmenter of one convolution per part, with batch norm in the encoder."""
    part, image = keras.Input((8, 8, 2)), keras.Input((8, 8, 1))
    encoded = layers.BatchNormalization(name="s1_bn")(layers.Conv2D(2, 3, padding="same", name="s1_conv")(image))
    encoder = keras.Model(image, encoded, name="encoder")
    decoder = keras.Model(part, layers.Conv2D(2, 3, padding="same", name="d1_conv")(part), name="decoder")
    head = keras.Model(part, layers.Conv2D(1, 1, name="h_conv")(part), name="head")
    whole = keras.Input((8, 8, 1))
    return keras.Model(whole, head(decoder(encoder(whole))))


def values(variables):
    return {variable.path: np.array(ops.convert_to_numpy(variable)) for variable in variables}


def changed(before, after):
    return {path for path in before if (before[path] != after[path]).any()}


class Snapshots(keras.callbacks.Callback):
    """Weights before each fit, and after each batch and each fit."""

    def __init__(self):
        super().__init__()
        self.fits, self.batches = [], []

    def on_train_begin(self, logs=None):
        self.fits.append(values(self.model.weights))

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(values(self.model.trainable_variables))

    def on_train_end(self, logs=None):
        self.fits.append(values(self.model.weights))


def test_frozen_is_frozen_and_batch_norm_stays_so():
    model, seen = small(), Snapshots()
    histories = fit_phases(
        model,
        (Batches(), Batches()),
        phases=[
            {"epochs": 1, "freeze": "encoder", "learning_rate": 1e-2},
            {"epochs": 2, "learning_rate": {"encoder": 1e-3, "rest": 1e-2}, "batchnorm": "frozen"},
        ],
        callbacks=[seen],
        **PLAIN,
    )
    assert [history.epoch for history in histories] == [[0], [1, 2]], "epochs are counted on"
    first, after_first, second, after_second = seen.fits
    rest = {f"{name}/{kind}" for name in ("d1_conv", "h_conv") for kind in ("kernel", "bias")}
    assert changed(first, after_first) == rest, "the encoder keeps its weights and moving statistics"
    assert not changed(after_first, second)
    assert changed(second, after_second) == rest | {"s1_conv/kernel", "s1_conv/bias"}, "its batch norm is frozen"


def test_averaged_weights_are_validated_and_kept():
    """Against the average by its definition; the model ends with it."""
    model, seen, judged = small(), Snapshots(), []
    plain = {**PLAIN, "optimizer": keras.optimizers.SGD(use_ema=True, ema_momentum=0.75)}
    judge = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: judged.append(values(model.trainable_variables)))
    phases = [{"epochs": 2, "learning_rate": {"encoder": 0.05, "rest": 0.1}}]
    fit_phases(model, (Batches(), Batches()), phases=phases, callbacks=[seen, judge], **plain)
    average = seen.batches[0]
    for step, weights in enumerate(seen.batches[1:], 1):
        average = {path: 0.75 * average[path] + 0.25 * value for path, value in weights.items()}
        if step % 3 == 2:
            of_epoch = judged[step // 3]
            for path, value in average.items():
                np.testing.assert_allclose(of_epoch[path], value, rtol=1e-4, atol=1e-6, err_msg=path)
    assert len(seen.batches) == 6
    assert not changed(judged[-1], values(model.trainable_variables))


def test_a_part_has_its_rate():
    """One step of SGD from the same weights, with one rate and with half of it for the encoder."""
    steps = []
    for rates in (0.1, {"encoder": 0.05, "rest": 0.1}):
        keras.utils.set_random_seed(0)
        model, seen = small(), Snapshots()
        fit_phases(model, Batches(), phases=[{"epochs": 1, "learning_rate": rates}], callbacks=[seen], **PLAIN)
        steps.append({path: seen.batches[0][path] - seen.fits[0][path] for path in seen.batches[0]})
    for path, step in steps[0].items():
        half = 0.5 if path.startswith("s1") else 1.0
        np.testing.assert_allclose(steps[1][path], half * step, rtol=1e-3, atol=1e-6, err_msg=path)
    assert max(abs(step).max() for step in steps[0].values()) > 1e-4


def test_a_compiled_model_keeps_its_loss_and_optimizer():
    model = small()
    model.compile(keras.optimizers.SGD(0.25, momentum=0.5), LOSS)
    (history,) = fit_phases(model, Batches(), phases=[{"epochs": 1}], jit_compile=False, verbose=0)
    assert list(history.history) == ["loss"]
    assert isinstance(model.loss, keras.losses.BinaryCrossentropy)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.momentum == 0.5
    assert float(model.optimizer.learning_rate) == 0.25
