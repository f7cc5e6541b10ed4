"""Masks and logits for tests of metrics, and the metrics by name."""

import inspect

import keras
import numpy as np
from hypothesis import example
from hypothesis import strategies as st

import kerazoo as kz

IGNORED = 255
SHAPE = (6, 4, 5)
EXAMPLES = 6
"""Of a property. Each is a metric that TensorFlow traces and JAX compiles anew."""

KINDS = ("random", "one", "empty", "full", "partly", "ignored")


def build(name, channels, **arguments):
    """The metric `name` that ignores `IGNORED`, with those of the arguments that it takes."""
    taken = inspect.signature(kz.metrics.METRICS[name]).parameters
    arguments = {"num_classes": channels, "ignore_class": IGNORED, **arguments}
    return kz.metrics.create(name, **{key: value for key, value in arguments.items() if key in taken})


def result(metric, *batch):
    """What the metric says of one truth and its logits."""
    return result_of_stream(metric, [batch])


def result_of_stream(metric, batches):
    """What it says after several."""
    metric.reset_state()
    for truth, logits in batches:
        metric.update_state(truth, logits)
    return np.asarray(keras.ops.convert_to_numpy(metric.result()))


def logits_of(ids, channels, scale=3.0):
    """Logits whose largest entry (one: sign) is `ids`."""
    hits = ids[..., None] == (1 if channels == 1 else np.arange(channels))
    return np.where(hits, scale, -scale).astype("float32")


def mask(kind, ids, rng, shape=SHAPE[1:]):
    """A mask of ids 0..ids-1 and `IGNORED`."""
    if kind in ("empty", "one", "full"):
        pixels = np.full(shape, 0 if kind != "full" else rng.integers(1, ids))
        if kind == "one":
            pixels[rng.integers(shape[0]), rng.integers(shape[1])] = rng.integers(1, ids)
        return pixels
    pixels = rng.integers(0, ids, shape)
    ignored = {"random": 0.0, "partly": 0.4, "ignored": 1.0}[kind]
    return np.where(rng.random(shape) < ignored, IGNORED, pixels)


def masks(channels):
    """Name, truth and prediction: random, empty, full, of one class, partly and wholly ignored."""
    rng = np.random.default_rng(channels)
    ids = max(2, channels)
    truth, prediction = rng.integers(0, ids, SHAPE), rng.integers(0, ids, SHAPE)
    truth[0], prediction[1], truth[2], prediction[2] = 0, 0, 0, 0
    yield "random", truth, prediction
    ignored = truth.copy()
    ignored[rng.random(SHAPE) < 0.3], ignored[5] = IGNORED, IGNORED
    yield "ignored", ignored, prediction
    yield "all ignored", np.full(SHAPE, IGNORED), prediction
    for name, there, found in (
        ("empty", 0, 0),
        ("missed", 1, 0),
        ("false", 0, 1),
        ("full", 1, 1),
        ("other", ids - 1, 1),
    ):
        yield name, np.full(SHAPE, there), np.full(SHAPE, found)


def with_masks(**arguments):
    """Decorator of a property of `batch`: these masks are among its examples."""

    def decorate(test):
        for channels in (1, 3):
            for _, truth, prediction in masks(channels):
                test = example(batch=(truth, prediction, channels), **arguments)(test)
        return test

    return decorate


@st.composite
def batches(draw, channels=(1, 3)):
    """Truth, prediction (ids, none ignored) and the number of logits; each image of a kind of its own."""
    number = draw(st.sampled_from(channels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    true, found = (
        draw(st.lists(st.sampled_from(kinds), min_size=SHAPE[0], max_size=SHAPE[0])) for kinds in (KINDS, KINDS[:4])
    )
    truth, prediction = (np.stack([mask(kind, max(2, number), rng) for kind in kinds]) for kinds in (true, found))
    hits = rng.random(SHAPE) < draw(st.sampled_from((0.0, 0.7)))  # so that some predictions are good
    return truth, np.where(hits & (truth != IGNORED), truth, prediction), number


def scores(prediction, channels, rng, threshold=0.5):
    """Random logits that predict just that."""
    margin = rng.uniform(0.01, 8.0, (*prediction.shape, channels))
    if channels == 1:
        return (np.log(threshold / (1 - threshold)) + margin * np.where(prediction[..., None] == 1, 1, -1)).astype(
            "float32"
        )
    return np.where(prediction[..., None] == np.arange(channels), margin, -margin).astype("float32")
