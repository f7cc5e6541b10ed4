"""Losses on every backend, in every precision: the numbers of TensorFlow, and those of float64."""

import json

import keras
import numpy as np
import pytest
from backend import value_and_gradient
from conftest import GOLDEN
from loss_cases import CASES, batch, build

import kerazoo as kz

RECORD = GOLDEN / "losses.json"


def test_every_loss_is_among_the_cases():
    assert {name for name, _ in CASES} == set(kz.losses.list())


# Backends -------------------------------------------------------------------------------------------------------------


def measure(channels):
    """Of every case: value, gradient, and value for logits of ±1e4; numbers of seven digits."""
    truth, logits = batch(channels, size=(4, 3, 2))
    certain = np.float32(1e4) * np.sign(logits)
    measured = {}
    for name, arguments in CASES:
        loss, _ = build(name, arguments, channels)
        received, gradient = value_and_gradient(lambda x, loss=loss: loss(truth, x), logits)
        of_certain, slope = value_and_gradient(lambda x, loss=loss: loss(truth, x), certain)
        assert np.isfinite(slope).all(), f"{name} {arguments}: the gradient at ±1e4"
        numbers = [received, of_certain, *gradient.ravel()]
        measured[f"{name} {json.dumps(arguments)}"] = [float(f"{number:.7g}") for number in numbers]
    return measured


@pytest.mark.backends
@pytest.mark.parametrize("channels", [1, 3])
def test_values_and_gradients_are_those_of_tensorflow(channels, request):
    """To 1e-5: of the value, and of the largest entry of the gradient."""
    received = measure(channels)
    if request.config.getoption("--accept-golden"):
        assert keras.backend.backend() == "tensorflow", "the record is TensorFlow's"
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        record[str(channels)] = received
        RECORD.write_text(
            "{"
            + ",\n".join(
                f'"{c}": {{\n' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items()) + "}"
                for c, cases in sorted(record.items())
            )
            + "}\n"
        )
    expected = json.loads(RECORD.read_text())[str(channels)]
    assert list(received) == list(expected), "another set of cases: look at it, then pytest --accept-golden"
    for case, numbers in expected.items():
        values, gradient = np.array(numbers[:2]), np.array(numbers[2:])
        np.testing.assert_allclose(received[case][:2], values, rtol=1e-5, atol=1e-6, err_msg=case)
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(received[case][2:], gradient, rtol=0, atol=1e-5 * scale, err_msg=case)
