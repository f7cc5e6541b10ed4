"""Losses on every backend, in every precision: the numbers of TensorFlow, and those of float64."""

import contextlib
import json

import keras
import numpy as np
import pytest
from keras import ops
from support.backend import value_and_gradient
from support.loss_cases import CASES, batch, build, value
from support.source_tree import REPOSITORY

import kerazoo as kz

RECORD = REPOSITORY / "tests" / "golden" / "losses.json"


def test_every_loss_is_among_the_cases():
    assert {name for name, _ in CASES} == set(kz.losses.list())


# Backends -------------------------------------------------------------------------------------------------------------


def measure():
    """Of every case: value, value for logits of ±1e4, and gradient; numbers of seven digits."""
    measured = {}
    for channels in (1, 3):
        truth, logits = batch(channels, size=(4, 3, 2))
        certain = np.float32(1e4) * np.sign(logits)
        for name, arguments in CASES:
            case = f"{name} {json.dumps(arguments)}, {channels} logits"
            loss, _ = build(name, arguments, channels)
            received, gradient = value_and_gradient(lambda x, loss=loss, truth=truth: loss(truth, x), logits)
            of_certain, slope = value_and_gradient(lambda x, loss=loss, truth=truth: loss(truth, x), certain)
            assert np.isfinite(slope).all(), f"{case}: the gradient at ±1e4"
            measured[case] = [float(f"{number:.7g}") for number in (received, of_certain, *gradient.ravel())]
    return measured


@pytest.mark.backends
def test_values_and_gradients_are_those_of_tensorflow(request):
    """To 1e-5: of the value, and of the largest entry of the gradient."""
    received = measure()
    if request.config.getoption("--accept-golden"):
        assert keras.backend.backend() == "tensorflow", "the record is TensorFlow's"
        lines = (f"{json.dumps(case)}: {json.dumps(numbers)}" for case, numbers in received.items())
        RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    expected = json.loads(RECORD.read_text())
    assert list(received) == list(expected), "another set of cases: look at it, then pytest --accept-golden"
    for case, numbers in expected.items():
        values, gradient = np.array(numbers[:2]), np.array(numbers[2:])
        np.testing.assert_allclose(received[case][:2], values, rtol=1e-5, atol=1e-6, err_msg=case)
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(received[case][2:], gradient, rtol=0, atol=1e-5 * scale, err_msg=case)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_by_xla_a_loss_is_the_same(channels):
    """All of them in one graph, with other weights, so that each has its own part in the gradient."""
    import tensorflow as tf

    truth, logits = batch(channels, size=(4, 6, 5))
    losses = [build(name, arguments, channels)[0] for name, arguments in CASES]

    def measure(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = tf.stack([loss(truth, x) for loss in losses])
            total = tf.reduce_sum(values * tf.range(1.0, len(losses) + 1.0))
        return values, tape.gradient(total, x)

    values, gradient = measure(tf.constant(logits))
    compiled, slope = tf.function(measure, jit_compile=True, autograph=False)(tf.constant(logits))
    np.testing.assert_allclose(compiled, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())


# Precision ------------------------------------------------------------------------------------------------------------

MEGAPIXEL = 1024
TOLERANCE = 1e-4
"""Of the value, relative; of the gradient, relative to its largest entry: what float32 sums of a megapixel keep."""
PRECISIONS = {"float16": (2**-10, 2.0**15, 2.0**-24), "bfloat16": (2**-7, 1.0, 2.0**-126)}
"""Rounding of a gradient, the loss scale that Keras's policy of that name starts with, and the least number."""
SORT = {"lovasz", "cross_entropy_top_k"}  # pixels of nearly the same error may change places


@contextlib.contextmanager
def float64():
    """Let the backend compute in it: JAX has to be asked."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_in_float64_a_loss_is_its_reference(name, arguments, channels):
    """So that it stands for the reference where that would take hours."""
    loss, expected = build(name, arguments, channels, dtype="float64")
    truth, logits = batch(channels)
    np.testing.assert_allclose(value(loss, truth, logits), expected(truth, logits), rtol=1e-12, atol=1e-14)


def megapixels(channels):
    """Name, masks of 1024 × 1024, and whether an image has to have a gradient whatever the policy for empty ones is."""
    rng = np.random.default_rng(channels)
    blocks = rng.integers(0, max(2, channels), (1, 32, 32))
    mixed = np.kron(blocks, np.ones((1, 32, 32), int)).astype("uint8")
    mixed[:, :, -100:] = 255
    yield "mixed", mixed, True
    rare = np.zeros_like(mixed)
    rare[:, 500:504, 500:504] = 1
    yield "rare", rare, True
    for name, ids in (("empty", 0), ("full", 1), ("ignored", 255)):
        yield name, np.full_like(mixed, ids), False


@pytest.mark.slow
@pytest.mark.backends
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", kz.losses.list())
def test_a_megapixel_in_16_bits(name, precision):
    """Value and gradient are those of float64 at the same 16-bit logits; the gradient reaches 16 bits without overflow.

    The loss is scaled as the policy does. On logits of ±1e4 they are finite.
    """
    rounding, scale, least = PRECISIONS[precision]
    for channels in (1, 3):
        logits = np.random.default_rng(0).normal(-1, 2, (1, MEGAPIXEL, MEGAPIXEL, channels)).astype("float32")
        for kind, truth, learns in megapixels(channels):
            for arguments in [arguments for case, arguments in CASES if case == name and set(arguments) <= {"empty"}]:
                case = f"{name} {arguments}, {channels} logits, {kind}"
                loss, _ = build(name, arguments, channels)
                exact, _ = build(name, arguments, channels, dtype="float64")

                def scaled(x, loss=loss, truth=truth):
                    return scale * loss(truth, ops.cast(x, precision))

                received, gradient = value_and_gradient(scaled, logits)
                half = ops.convert_to_numpy(ops.cast(ops.cast(logits, precision), "float32"))
                with float64():
                    expected, slope = value_and_gradient(
                        lambda x, loss=exact, truth=truth: loss(truth, x), half.astype("float64")
                    )
                np.testing.assert_allclose(received / scale, expected, rtol=TOLERANCE, atol=1e-6, err_msg=case)
                largest = np.abs(slope).max()
                assert np.isfinite(gradient).all(), case
                off = np.abs(gradient / scale - slope) > rounding * np.abs(slope) + TOLERANCE * largest + least / scale
                assert off.mean() <= (1e-5 if name in SORT else 0), case
                assert gradient.any() == (largest * scale > least), case
                assert gradient.any() or not learns, case
                certain, slopes = value_and_gradient(scaled, np.float32(1e4) * np.sign(logits))
                assert np.isfinite(certain), case
                assert np.isfinite(slopes).all(), case
