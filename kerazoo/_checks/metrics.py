"""What every metric must do, whatever it counts.

A check takes a factory: `factory(**kwargs)` builds the metric, `ignore_class` among its arguments and `num_classes` if
it has to know it. A metric says with `higher_is_better` which way is up.
"""

import inspect
import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.losses import CrossEntropy

IGNORED = 255
IMAGES, HEIGHT, WIDTH = 8, 6, 5
LogitCounts = (1, 3)


def check_metric_batches(factory: Callable[..., Any]) -> None:
    """The result does not depend on how images are batched, nor on their order."""
    for channels in LogitCounts:
        truth, logits = _truth(channels), _logits(channels)
        whole = _result(_build(factory, channels), (truth, logits))
        for cuts in ([4], range(1, IMAGES)):
            parts = zip(np.split(truth, cuts), np.split(logits, cuts), strict=True)
            received = _result(_build(factory, channels), *parts)
            np.testing.assert_allclose(received, whole, rtol=1e-6, err_msg=f"cut at {list(cuts)}")
        backwards = _result(_build(factory, channels), (truth[::-1], logits[::-1]))
        np.testing.assert_allclose(backwards, whole, rtol=1e-6, err_msg="images in reverse order")


def check_metric_perfect(factory: Callable[..., Any]) -> None:
    """A perfect prediction is the best there is; the opposite is worse."""
    for channels in LogitCounts:
        truth = _truth(channels)
        metric = _build(factory, channels)
        hits = truth[..., None] == (1 if channels == 1 else np.arange(channels))
        perfect = np.where(hits, 30.0, -30.0).astype("float32")
        best, worst = (np.mean(_result(metric, (truth, logits))) for logits in (perfect, -perfect))
        ideal = float(metric.higher_is_better)
        assert abs(best - ideal) < 1e-6, f"{channels} logits: a perfect prediction gives {best}, expected {ideal}"
        assert (worst < best) == metric.higher_is_better, f"{channels} logits: the opposite gives {worst}"


def check_metric_finite(factory: Callable[..., Any]) -> None:
    """The result is finite on empty, full and ignored masks, for logits of ±1e4, and before any data."""
    for channels in LogitCounts:
        assert np.isfinite(_array(_build(factory, channels).result())).all(), "before any data: not finite"
        for name, value in {"empty": 0, "full": 1, "ignored": IGNORED}.items():
            for sign in (1, -1):
                truth = np.full((IMAGES, HEIGHT, WIDTH), value)
                logits = np.full((IMAGES, HEIGHT, WIDTH, channels), sign * 1e4, "float32")
                result = _result(_build(factory, channels, ignore_class=IGNORED), (truth, logits))
                assert np.isfinite(result).all(), f"{name} mask, {channels} logits of {sign}e4: {result}"


def check_metric_ignores(factory: Callable[..., Any]) -> None:
    """Logits at ignored pixels do not matter, and an image that is ignored is as one that is not there."""
    for channels in LogitCounts:
        truth, logits = _truth(channels), _logits(channels)
        truth[1:4, 1:4], truth[4:] = IGNORED, IGNORED
        changed = logits.copy()
        changed[truth == IGNORED] *= -5
        metric = _build(factory, channels, ignore_class=IGNORED)
        expected = _result(metric, (truth, logits))
        np.testing.assert_array_equal(_result(metric, (truth, changed)), expected)
        np.testing.assert_array_equal(_result(metric, (truth[:4], logits[:4])), expected, "an ignored image counts")


def check_metric_outside(factory: Callable[..., Any]) -> None:
    """Ids outside of the classes make the result NaN: a mask of 0 and 255 must not pass for an empty one."""
    for channels in LogitCounts:
        truth, logits = _truth(channels), _logits(channels)
        truth[0, 0, 0] = IGNORED
        assert np.isnan(_result(_build(factory, channels), (truth, logits))).all(), "id 255 went unnoticed"


def check_metric_reset(factory: Callable[..., Any]) -> None:
    """After `reset_state` the metric is as new."""
    truth, logits = _truth(1), _logits(1)
    metric = _build(factory, 1)
    _result(metric, (truth[:3], -logits[:3]))
    metric.reset_state()
    assert not any(_array(variable).any() for variable in metric.variables), "a count is left"


def check_metric_config(factory: Callable[..., Any]) -> None:
    """The configuration is JSON and builds the same metric."""
    chosen = {"threshold": 0.3} if "threshold" in inspect.signature(factory).parameters else {}
    original = _build(factory, 1, ignore_class=IGNORED, **chosen)
    metric = keras.metrics.deserialize(json.loads(json.dumps(keras.metrics.serialize(original))))
    assert type(metric) is type(original), f"{type(metric)} instead of {type(original)}"
    assert metric.get_config() == original.get_config()
    batch = (_truth(1), _logits(1))
    np.testing.assert_array_equal(_result(metric, batch), _result(original, batch))


def check_metric_compiled(factory: Callable[..., Any]) -> None:
    """In `evaluate`, compiled with XLA where the backend has it, the result is that of the eager metric."""
    truth, logits = _truth(3), _logits(3)
    metric = _build(factory, 3)
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile(loss=CrossEntropy(), metrics=[metric], jit_compile=keras.backend.backend() != "torch")
    received = model.evaluate(logits, truth, batch_size=4, verbose=0, return_dict=True)[metric.name]
    np.testing.assert_allclose(received, _result(_build(factory, 3), (truth, logits)), rtol=1e-6)


def check_metric_precision(factory: Callable[..., Any]) -> None:
    """16-bit logits give what the same numbers in float32 give, and masks may be of any dtype and have a last axis."""
    truth = _truth(3)
    for dtype in ("float16", "bfloat16"):
        half = ops.cast(_logits(3), dtype)
        expected = _result(_build(factory, 3), (truth, ops.cast(half, "float32")))
        for mask in (truth.astype("uint8"), truth.astype("float32"), truth[..., None]):
            np.testing.assert_array_equal(_result(_build(factory, 3), (mask, half)), expected, f"{dtype}, {mask.dtype}")


def _build(factory: Callable[..., Any], channels: int, **kwargs: Any) -> Any:
    if "num_classes" in inspect.signature(factory).parameters:
        kwargs["num_classes"] = channels
    return factory(**kwargs)


def _result(metric: Any, *batches: tuple[Any, Any]) -> np.ndarray:
    metric.reset_state()
    for truth, logits in batches:
        metric.update_state(truth, logits)
    return _array(metric.result())


def _truth(channels: int) -> np.ndarray:
    """Ids; images 1 and 4 are empty."""
    truth = np.random.default_rng(0).integers(0, max(2, channels), (IMAGES, HEIGHT, WIDTH))
    truth[[1, 4]] = 0
    return truth


def _logits(channels: int) -> np.ndarray:
    """Images 2 and 4 predict nothing."""
    logits = np.random.default_rng(1).normal(0, 2, (IMAGES, HEIGHT, WIDTH, channels)).astype("float32")
    logits[[2, 4]] = -5.0
    if channels > 1:
        logits[[2, 4], ..., 0] = 5.0
    return logits


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


CHECKS: tuple[Callable[[Callable[..., Any]], None], ...] = (
    check_metric_batches,
    check_metric_perfect,
    check_metric_finite,
    check_metric_ignores,
    check_metric_outside,
    check_metric_reset,
    check_metric_config,
    check_metric_compiled,
    check_metric_precision,
)
"""Every check; each raises AssertionError."""
