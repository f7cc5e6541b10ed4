"""A separate input worker: `serve` and `connect` over tf.data's service, on loopback."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.data_fixtures import arrays

import kerazoo as kz

MAKE = """kz.data.pipeline(
    kz.data.sources.synthetic(21, image_size=(24, 24), empty_fraction=0.6), image_size=(16, 16), batch_size=4,
    sampler="over", augment=["rotate", "noise"], outputs=("mask", "label"), seed=3,
)"""
SERVE = f"import kerazoo as kz; made = kz.data.serve({MAKE}, epochs=3); print(made.address, flush=True); made.join()"


def content(dataset):
    return [[part.numpy().tobytes() for part in tf.nest.flatten(batch)] for batch in dataset]


def test_a_served_pipeline_gives_its_own_batches():
    local = kz.data.pipeline(arrays(7), image_size=(8, 8), batch_size=3, shuffle=True)
    service = kz.data.serve(kz.data.pipeline(arrays(7), image_size=(8, 8), batch_size=3, shuffle=True), epochs=2)
    dataset = kz.data.connect(service.address)
    assert dataset.element_spec == local.element_spec
    assert len(dataset) == 3
    assert [content(dataset) for _ in range(2)] == [content(local) for _ in range(2)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="serves 2 epochs, and epoch 2 is asked for"):
        content(dataset)
    for made in (dataset, local):
        kz.data.PinEpoch(made).on_epoch_begin(1)
    assert content(dataset) == content(local)


def test_refuses():
    dataset = kz.data.pipeline(arrays(4), image_size=(8, 8), batch_size=2)
    with pytest.raises(ValueError, match="without a further map, take or repeat, and epochs >= 1; received _T"):
        kz.data.serve(dataset.take(1), epochs=1)
    with pytest.raises(ValueError, match="epochs=0"):
        kz.data.serve(dataset, epochs=0)
    with pytest.raises(ValueError, match="No input worker answers at 'localhost:1' .* Start one with kz.data.serve"):
        kz.data.connect("localhost:1")
    other = tf.data.experimental.service.DispatchServer()
    with pytest.raises(ValueError, match="was not started by kz.data.serve"):
        kz.data.connect(other.target.removeprefix("grpc://"))


@pytest.mark.slow
def test_a_training_is_fed_by_another_process():
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as worker:
        try:
            address = next(line.strip() for line in worker.stdout if line.startswith("localhost:"))
            dataset, local = kz.data.connect(address), eval(MAKE)
            assert [content(dataset) for _ in range(3)] == [content(local) for _ in range(3)]
            losses = []
            for made in (dataset, local):
                keras.utils.set_random_seed(0)
                inputs = keras.Input((16, 16, 1))
                maps = keras.layers.Conv2D(1, 3, padding="same")(keras.layers.Rescaling(1 / 255)(inputs))
                heads = {"mask": maps[..., 0], "label": keras.layers.GlobalAveragePooling2D()(maps)}
                model = keras.Model(inputs, heads)
                model.compile("sgd", {"mask": "mse", "label": "mse"})
                history = model.fit(made, epochs=3, initial_epoch=1, callbacks=[kz.data.PinEpoch(made)], verbose=0)
                losses.append(history.history["loss"])
            assert losses[0] == losses[1]
            assert np.isfinite(losses).all()
        finally:
            worker.kill()
