"""Faults of the model and its optimizer that need no data."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from kerazoo.doctor.facts import DatasetFacts
from kerazoo.findings import Finding, error, warning
from kerazoo.layers.leaves import leaf_layers

_16_BIT = ("float16", "bfloat16")
# Learning rates above these make training diverge, or nearly so, whatever the data.
_HIGHEST_RATE, _HIGHEST_RATE_SGD, _LOWEST_RATE = 0.1, 10.0, 1e-7
_RATES = ("learning_rate", "initial_learning_rate", "warmup_target")


def check_compiled(model: keras.Model) -> Iterator[Finding]:
    """Check that the model is compiled, with a loss."""
    if not model.compiled:
        yield error(
            "not-compiled",
            "the model is not compiled, or kerazoo.freeze or unfreeze has changed it since.",
            "Call model.compile(optimizer, loss=…, metrics=…), after the last freeze or unfreeze.",
        )
        return
    if model.loss is None:
        yield error(
            "no-loss",
            "the model was compiled without a loss, so that fit has nothing to minimize.",
            "Pass `loss` to compile, such as kerazoo.losses.CrossEntropy() + 0.1 * kerazoo.losses.ForegroundDice().",
        )


def check_trainable(model: keras.Model) -> Iterator[Finding]:
    """Check that something is trained, and that what is frozen has been trained before."""
    if not model.trainable_variables:
        yield error(
            "nothing-trainable",
            "no variable of the model is trainable: fit would change nothing.",
            "Train a part of it: kerazoo.unfreeze(model, 'decoder'), or set layer.trainable = True; then compile.",
        )
        return
    frozen = [layer for layer in leaf_layers(model) if layer.weights and not layer.trainable]
    vectors = [variable for layer in frozen for variable in layer.weights if len(variable.shape) == 1]
    kernels = any(len(variable.shape) > 1 for layer in frozen for variable in layer.weights)
    if kernels and vectors and all(_is_constant(variable) for variable in vectors):
        part = next((repr(each.name) for each in model.layers if each.weights and not each.trainable_variables), None)
        yield warning(
            "frozen-random",
            f"{part or _some([layer.name for layer in frozen])} is frozen with random weights: every bias, scale and "
            "moving statistic still has the value it starts with.",
            'Load weights before freezing (weights="imagenet" in kerazoo.segmenter), or train it too.',
        )


def _is_constant(variable: keras.Variable) -> bool:
    values = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variable.value, "float32")))
    return bool((values == values[:1]).all())


def check_batchnorm(model: keras.Model, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that batch norm does not learn from batches of one image."""
    sizes = {facts.shape[0] for facts in dataset.images if len(facts.shape) == 4}
    if sizes != {1}:
        return
    norms = [layer for layer in leaf_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    learning = [layer.name for layer in norms if layer.trainable]
    if learning:
        yield warning(
            "batchnorm-one-image",
            f"batches have one image, and {len(learning)} batch norm layers take the statistics of it alone; where a "
            "map is pooled to one pixel its variance is 0, and nothing passes.",
            'Use larger batches, freeze the layers (kerazoo.freeze(model, "encoder", batchnorm="frozen")), or use '
            "group normalization.",
        )


def check_precision(model: keras.Model) -> Iterator[Finding]:
    """Check that 16-bit numbers are used only where they are safe."""
    leaves = [layer for layer in leaf_layers(model) if layer.weights]
    stored = [layer.name for layer in leaves if layer.variable_dtype in _16_BIT]
    if stored:
        yield warning(
            "weights-16-bit",
            f"the weights of {_some(stored)} have 16 bits: updates smaller than a thousandth of a weight are lost.",
            'Build the model under "mixed_float16" or "mixed_bfloat16", which keep weights in float32.',
        )
    half = [layer.name for layer in leaves if layer.compute_dtype == "float16" and layer.trainable]
    optimizer = model.optimizer if model.compiled else None
    if half and optimizer is not None and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        yield warning(
            "no-loss-scaling",
            f"{_some(half)} compute in float16 and the optimizer does not scale the loss: small gradients become 0.",
            "Wrap it: keras.optimizers.LossScaleOptimizer(optimizer); or use mixed_bfloat16, which needs none.",
        )


def check_learning_rate(model: keras.Model) -> Iterator[Finding]:
    """Check that the learning rate is in the range in which models learn."""
    for optimizer in _optimizers(model.optimizer if model.compiled else None):
        rate = _peak_rate(optimizer)
        if rate is None:
            continue
        kind = type(optimizer).__name__
        highest = _HIGHEST_RATE_SGD if kind == "SGD" else _HIGHEST_RATE
        if rate <= 0 or not np.isfinite(rate):
            yield error(
                "learning-rate-zero",
                f"the learning rate of {kind} is {rate:g}: nothing is learned.",
                "Give a positive learning rate, such as 1e-3 for Adam.",
            )
        elif kind not in ("Adadelta", "Adafactor", "Ftrl") and rate > highest:
            yield warning(
                "learning-rate-high",
                f"the learning rate of {kind} is {rate:g}; above {highest:g} it diverges.",
                "Try 1e-3 (Adam, RAdam), or 1e-2 to 1e-1 (SGD with momentum).",
            )
        elif rate < _LOWEST_RATE:
            yield warning(
                "learning-rate-low",
                f"the learning rate of {kind} is {rate:g}: float32 weights hardly move by it.",
                "Try 1e-4 to fine-tune, 1e-3 otherwise.",
            )


def _optimizers(optimizer: Any) -> Iterator[Any]:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        yield from _optimizers(optimizer.inner_optimizer)
    elif isinstance(optimizer, keras.optimizers.MultiOptimizer):
        for each in optimizer.optimizers:
            yield from _optimizers(each)
    elif optimizer is not None:
        yield optimizer


def _peak_rate(optimizer: Any) -> float | None:
    """The learning rate, or the highest that the config of a schedule names; None if it cannot be read."""
    try:
        given = optimizer.get_config().get("learning_rate")
    except NotImplementedError:
        return None
    if isinstance(given, Mapping):
        config = given.get("config", {})
        numbers = [config[name] for name in _RATES if isinstance(config.get(name), int | float)]
        return float(max(numbers)) if numbers else None
    return float(given) if isinstance(given, int | float) else None


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return (
        f"{shown} and {len(names) - 3} more layers"
        if len(names) > 3
        else f"{'layer' if len(names) == 1 else 'layers'} {shown}"
    )
