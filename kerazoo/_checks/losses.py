"""What every loss must do, whatever it computes.

A check takes a factory: `factory(**kwargs)` builds the loss, `ignore_class` and `reduction` among its arguments.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

IGNORED = 255
BATCH, HEIGHT, WIDTH = 4, 6, 5
LogitCounts = (1, 3)


def check_loss_finite(factory: Callable[..., Any]) -> None:
    """Value and gradient are finite on empty, full and ignored masks, for logits up to ±1e4."""
    for channels in LogitCounts:
        for name, truth in _masks(channels):
            for size in (1.0, 1e4):
                logits = np.sign(_logits(channels)) * np.float32(size) if size > 1 else _logits(channels)
                value, gradient = loss_and_gradient(factory(ignore_class=IGNORED), truth, logits)
                where = f"{name} mask, {channels} logits of ±{size:g}"
                assert np.isfinite(value), f"{where}: the loss is {value}"
                assert np.isfinite(gradient).all(), f"{where}: the gradient is not finite"
                if name == "ignored":
                    assert value == 0, f"{where}: the loss is {value}, expected 0"
                    assert not gradient.any(), f"{where}: the gradient is not 0"


def check_loss_perfect(factory: Callable[..., Any]) -> None:
    """A perfect prediction costs nothing, and its opposite more, unless no image takes part."""
    for channels in LogitCounts:
        truth = _truth(channels)
        perfect = _perfect(truth, channels)
        best, worst = (_value(factory(), truth, logits) for logits in (perfect, -perfect))
        assert abs(best) < 1e-5, f"{channels} logits: a perfect prediction costs {best}"
        assert worst > best + 0.01, f"{channels} logits: the opposite costs {worst}, the perfect prediction {best}"
        for name, mask in _masks(channels):
            loss, own = factory(ignore_class=IGNORED), _perfect(np.where(mask == IGNORED, 0, mask), channels)
            best, other = (_value(loss, mask, logits) for logits in (own, perfect))
            assert best <= other + 1e-6, f"{name} mask, {channels} logits: perfect costs {best}, another {other}"


def check_loss_ignores(factory: Callable[..., Any]) -> None:
    """Logits at ignored pixels change neither the value nor the gradient, not even NaN, and have no gradient."""
    for channels in LogitCounts:
        for ignored in (IGNORED, 1):
            truth, logits = _truth(channels), _logits(channels)
            truth[:2, 1:4] = ignored
            where = truth == ignored
            changed = logits.copy()
            changed[where] = np.nan
            loss = factory(ignore_class=ignored)
            value, gradient = loss_and_gradient(loss, truth, logits)
            value_changed, gradient_changed = loss_and_gradient(loss, truth, changed)
            assert value == value_changed, f"ignore_class={ignored}: {value} became {value_changed}"
            np.testing.assert_array_equal(gradient, gradient_changed)
            assert not gradient[where].any(), f"ignore_class={ignored}: an ignored pixel has a gradient"


def check_loss_order(factory: Callable[..., Any]) -> None:
    """The order of the images does not matter."""
    order = np.array([2, 0, 3, 1])
    for channels in LogitCounts:
        truth, logits = _truth(channels), _logits(channels)
        each = _array(_call(factory(reduction=None), truth, logits))
        reordered = _array(_call(factory(reduction=None), truth[order], logits[order]))
        np.testing.assert_allclose(reordered, each[order], rtol=1e-6)
        np.testing.assert_allclose(
            _value(factory(), truth[order], logits[order]), _value(factory(), truth, logits), 1e-6
        )


def check_loss_shape(factory: Callable[..., Any]) -> None:
    """One value in all, and without reduction one per pixel or one per image; masks may have a last axis of 1."""
    for channels in LogitCounts:
        truth, logits = _truth(channels), _logits(channels)
        loss = factory(reduction=None)
        expected = (BATCH, HEIGHT, WIDTH) if loss.per_pixel else (BATCH,)
        values = _call(loss, truth, logits)
        assert tuple(values.shape) == expected, f"shape {tuple(values.shape)}, expected {expected}"
        np.testing.assert_array_equal(_array(_call(loss, truth[..., None], logits)), _array(values))
        value = _call(factory(), truth, logits)
        assert tuple(value.shape) == (), f"the reduced loss has shape {tuple(value.shape)}"


def check_loss_sample_weight(factory: Callable[..., Any]) -> None:
    """Weights per image multiply the values of that image, for every shape Keras may hand them over in."""
    weight = np.array([1.0, 2.0, 0.0, 0.5], "float32")
    for channels in LogitCounts:
        truth, logits = _truth(channels), _logits(channels)
        loss = factory(reduction=None)
        plain = _array(_call(loss, truth, logits))
        expected = plain * weight.reshape((-1,) + (1,) * (plain.ndim - 1))
        for shape in ((-1,), (-1, 1), (-1, 1, 1)):
            received = _array(loss(truth, logits, sample_weight=weight.reshape(shape)))
            np.testing.assert_allclose(received, expected, rtol=1e-6, err_msg=f"weights of shape {shape}")


def check_loss_config(factory: Callable[..., Any]) -> None:
    """The configuration is JSON, keeps the dtype, and builds a loss with the same value."""
    original = factory(ignore_class=IGNORED, dtype="float64")
    config = json.loads(json.dumps(keras.losses.serialize(original)))
    loss = keras.losses.deserialize(config)
    assert type(loss) is type(original), f"{type(loss)} instead of {type(original)}"
    # the name and the values in JSON: tuples become lists on the way
    assert json.dumps(loss.get_config()) == json.dumps(original.get_config())
    assert loss.dtype == "float64", f"dtype float64 became {loss.dtype}"
    assert config["registered_name"].startswith("kerazoo>") or not type(loss).__module__.startswith("kerazoo.")


def check_loss_precision(factory: Callable[..., Any]) -> None:
    """The loss is float32 under a mixed policy, and 16-bit logits give what the same numbers in float32 give."""
    policy = keras.config.dtype_policy()
    try:
        for name in ("mixed_float16", "mixed_bfloat16"):
            keras.config.set_dtype_policy(name)
            half = ops.cast(_logits(1), name.removeprefix("mixed_"))
            value = _call(factory(), _truth(1), half)
            assert keras.backend.standardize_dtype(value.dtype) == "float32", f"{name}: the loss is {value.dtype}"
            np.testing.assert_allclose(
                _array(value), _value(factory(), _truth(1), ops.cast(half, "float32")), rtol=1e-6
            )
    finally:
        keras.config.set_dtype_policy(policy)


def check_loss_sums(factory: Callable[..., Any]) -> None:
    """Sums and multiples are losses."""
    truth, logits = _truth(3), _logits(3)
    total = sum([factory(), 2 * factory(), factory() * 0.5])
    np.testing.assert_allclose(_value(total, truth, logits), 3.5 * _value(factory(), truth, logits), rtol=1e-6)
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(total))))
    np.testing.assert_allclose(_value(again, truth, logits), _value(total, truth, logits), rtol=1e-6)


def loss_and_gradient(loss: Any, truth: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Value at `logits` and the gradient there, on any backend: one step of a model that adds zeros to them."""
    inputs = keras.Input(batch_shape=logits.shape)
    model = keras.Model(inputs, _AddZeros(name="zeros")(inputs))
    model.compile(keras.optimizers.SGD(1.0), loss=loss, run_eagerly=True)
    value = model.train_on_batch(logits, truth, sample_weight=_weight(loss, truth))
    return float(value), -_array(model.get_layer("zeros").zeros)


class _AddZeros(keras.layers.Layer):
    """Adds a weight of the shape of its input, zero at first."""

    def build(self, input_shape: Any) -> None:
        self.zeros = self.add_weight(shape=input_shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return inputs + self.zeros


def _perfect(truth: np.ndarray, channels: int) -> np.ndarray:
    hits = truth[..., None] == (1 if channels == 1 else np.arange(channels))
    return np.where(hits, 30.0, -30.0).astype("float32")


def _truth(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, max(2, channels), (BATCH, HEIGHT, WIDTH))


def _logits(channels: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 2, (BATCH, HEIGHT, WIDTH, channels)).astype("float32")


def _masks(channels: int) -> Iterator[tuple[str, np.ndarray]]:
    shape = (BATCH, HEIGHT, WIDTH)
    yield "empty", np.zeros(shape, int)
    yield "full", np.ones(shape, int)
    yield "ignored", np.full(shape, IGNORED)
    mixed = _truth(channels)
    mixed[0], mixed[1], mixed[2, :3] = 0, IGNORED, IGNORED
    yield "mixed", mixed


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _value(loss: Any, truth: Any, logits: Any) -> float:
    return float(_array(_call(loss, truth, logits)))


def _call(loss: Any, truth: Any, logits: Any) -> Any:
    return loss(truth, logits, sample_weight=_weight(loss, truth))


def _weight(loss: Any, truth: Any) -> np.ndarray | None:
    """Weights of 1 for a loss, or a sum with a loss, that makes no sense without weights; else None."""
    terms = [term for _, term in getattr(loss, "terms", [(1.0, loss)])]
    needed = any(getattr(term, "needs_weight", None) for term in terms)
    return np.ones(len(truth), "float32") if needed else None


CHECKS: tuple[Callable[[Callable[..., Any]], None], ...] = (
    check_loss_finite,
    check_loss_perfect,
    check_loss_ignores,
    check_loss_order,
    check_loss_shape,
    check_loss_sample_weight,
    check_loss_config,
    check_loss_precision,
    check_loss_sums,
)
"""Every check; each raises AssertionError."""
