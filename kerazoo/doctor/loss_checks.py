"""Faults between outputs, losses and metrics; the losses are tried on the first images, metrics on copies."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from kerazoo.doctor.batches import arrays_by_name
from kerazoo.doctor.compiled import Compiled, LossTerm, config_of
from kerazoo.doctor.facts import UNNAMED, DatasetFacts
from kerazoo.doctor.outputs import EXAMPLE_IMAGES, Output, first_line
from kerazoo.doctor.target_checks import targets_of
from kerazoo.findings import Finding, error, warning

_ONE_SIDED = ("elu", "leakyrelu", "leaky_relu", "prelu", "relu", "relu6", "softplus", "tanh")


def check_names(outputs: tuple[Output, ...], compiled: Compiled) -> Iterator[Finding]:
    """Check that losses and metrics say which output they are for, and that every output has a loss."""
    names = ", ".join(output.name for output in outputs)
    for argument, key in compiled.unknown:
        yield error(
            "unknown-output",
            f"compile was given {argument} for {key!r}, and the outputs are {names or 'one, without a name'}.",
            f"Use these names: {argument}={{…}} by output; or leave the name out for a single output.",
        )
    for argument in compiled.ambiguous:
        yield error(
            f"{argument}-unnamed",
            f"the model has the outputs {names}, and `{argument}` does not say which of them it is for.",
            f'Name it: compile(…, {argument}={{"{outputs[0].name}": …}}).',
        )
    lacking = [output.name for output in outputs if not output.terms]
    if lacking and len(lacking) < len(outputs):
        yield warning(
            "output-without-loss",
            f"no loss for {', '.join(lacking)}: what only they need is not trained.",
            "Give each output a loss (kerazoo.losses.deep_supervision for auxiliary maps), or build the model without.",
        )


def check_activation(output: Output) -> Iterator[Finding]:
    """Check that losses of logits get logits, and losses of probabilities get probabilities."""
    if output.activation == "softmax" and output.channels == 1:
        yield error(
            "softmax-of-one",
            f"{output.description} is a softmax over one channel, which is 1 whatever the image.",
            "Leave the activation out, and use a loss of logits such as kerazoo.losses.CrossEntropy().",
        )
        return
    for term in output.terms:
        fault = _mismatch(output, term)
        if fault is not None:
            yield fault
            return


def _mismatch(output: Output, term: LossTerm) -> Finding | None:
    """The finding if an output does not fit a term of its loss, or None."""
    function, activation = output.probability_function, output.activation
    if term.compares_channels and output.channels == 1:
        return error(
            "one-channel-softmax",
            f"{output.description} has one channel, and {term.name} compares channels: there is nothing to learn.",
            "Use kerazoo.losses.CrossEntropy() or keras.losses.BinaryCrossentropy(from_logits=True), or num_classes=2.",
        )
    if term.takes_logits and function:
        return error(
            "double-activation",
            f"{output.description} has gone through a {function}, and {term.name} applies its own to it: no "
            "probability comes near 0 or 1 any more, and gradients are far too small.",
            "Leave the activation out of the last layer"
            + ("." if term.from_kerazoo else ", or set from_logits=False in the loss."),
        )
    if term.takes_logits and activation in _ONE_SIDED:
        return error(
            "bounded-logits",
            f"{output.description} ends with {activation}, which cuts off logits: {term.name} needs both signs.",
            "Leave the activation out of the last layer.",
        )
    if term.takes_logits is False and not function and (activation is not None or _outside_of_probabilities(output)):
        flag = "Set from_logits=True in the loss" if "from_logits" in config_of(term.loss) else "Add the activation"
        return error(
            "logits-for-probabilities",
            f"{output.description} are logits, and {term.name} takes probabilities: it clips them, and many pixels get "
            "no gradient.",
            f"{flag}, or use a loss of kerazoo, which takes logits.",
        )
    return None


def _outside_of_probabilities(output: Output) -> bool:
    values = output.values
    return values is not None and bool(((values < 0) | (values > 1)).any())


def check_values(output: Output) -> Iterator[Finding]:
    """Check that what the model returns is finite, and in float32."""
    if output.values is not None and not np.isfinite(output.values).all():
        yield error(
            "outputs-not-finite",
            f"{output.description} has NaN or infinite values for finite images.",
            "Check the weights that were loaded; under float16, let the last layers be float32.",
        )
    if output.dtype in ("float16", "bfloat16") and output.terms:
        yield warning(
            "logits-16-bit",
            f"{output.description} is {output.dtype}: close logits become equal, and large sums overflow.",
            'Give the last layer dtype="float32".',
        )


def check_weights(output: Output, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that sample weights are there where a loss needs them, and make sense."""
    facts = _of_output(output, dataset.sample_weights) or []
    for term in output.terms:
        if term.needs_weight and not facts:
            yield error(
                "weights-missing",
                f"{term.name} needs `sample_weight`, and the batches have none.",
                f"They are {term.needs_weight}, or training.weights in a recipe.",
            )
    if any(not each.low >= 0 or np.isinf(each.high) for each in facts):
        yield error(
            "weights-negative",
            f"sample weights of {output.description} are negative, infinite or NaN.",
            "Weights are finite and at least 0.",
        )
    elif facts and all(each.high == 0 for each in facts):
        yield error(
            "weights-zero",
            f"all sample weights of {output.description} are 0.",
            "Check what makes them; 0 leaves a pixel out.",
        )


def check_loss(output: Output, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that the loss of the first images can be computed, and is finite."""
    example = _example(output, dataset)
    if example is None or output.values is None or not np.isfinite(output.values).all():
        return
    target, weight = example
    for term in output.terms:
        try:
            value = _try(term, target, output.values, weight)
        except Exception as failure:  # the loss says itself what it takes
            yield error("loss-fails", f"{term.name} fails on {output.description}: {first_line(failure)}", _FITS)
            continue
        if not np.isfinite(value).all():
            yield error(
                "loss-not-finite",
                f"{term.name} of the first images is {value.sum():g} on {output.description}.",
                "Check masks for ids that the model does not have, and images for extreme values.",
            )


_FITS = "Change the loss, the number of classes or the targets so that they fit each other."


def _try(term: LossTerm, target: np.ndarray, values: Any, weight: np.ndarray | None) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(term.loss(target, values, sample_weight=weight)))


def check_metrics(output: Output, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that metrics fit the output, and ignore what the loss ignores."""
    example = _example(output, dataset)
    values = set().union(*(each or () for facts in targets_of(output, dataset) for each in facts.values))
    ignored = {term.ignore_class for term in output.terms if term.ignore_class is not None}
    for metric in output.metrics:
        misread = _misread(metric, output)
        if misread:
            yield misread
            continue
        if isinstance(metric, str):
            continue
        config = config_of(metric)
        other = ignored - {config.get("ignore_class")}
        if "ignore_class" in config and other & values:
            yield warning(
                "metric-ignore-class",
                f"the loss ignores id {min(other):g}, and {type(metric).__name__} does not.",
                f"Pass ignore_class={min(other):g} to it.",
            )
            continue
        if example is None:
            continue
        try:
            metric.update_state(example[0], output.values)
            metric.result()
        except Exception as failure:  # the metric says itself what it takes
            yield error(
                "metric-fails",
                f"{type(metric).__name__} fails on {output.description}: {first_line(failure)}",
                "Change the metric so that it fits the output, or name the output that it is for.",
            )


def _misread(metric: Any, output: Output) -> Finding | None:
    """The finding if a metric of Keras takes logits for probabilities or for ids, or None."""
    logits = output.probability_function is None and any(term.takes_logits for term in output.terms)
    if isinstance(metric, str):
        name, config = metric, {}
        thresholds = logits and output.channels == 1 and metric in ("accuracy", "acc", "binary_accuracy")
    elif type(metric).__module__.partition(".")[0] == "keras":
        name, config = type(metric).__name__, config_of(metric)
        thresholds = logits and (
            config.get("from_logits") is False
            or ("from_logits" not in config and {"threshold", "thresholds"} & {*config})
        )
        thresholds = thresholds and config.get("threshold") != 0 and config.get("thresholds") in (None, 0.5)
    else:
        return None
    if config.get("sparse_y_pred"):
        return error(
            "metric-wants-ids",
            f"{name} takes predicted ids, and {output.description} has a score per class: it cuts scores to whole "
            "numbers.",
            "Use kerazoo.metrics.IoU(num_classes), or sparse_y_pred=False for several classes.",
        )
    if thresholds:
        return warning(
            "metric-on-logits",
            f"{name} takes probabilities and compares them with 0.5, and {output.description} are logits.",
            "Use a metric of kerazoo, which takes logits; or threshold=0, or from_logits=True where it has that.",
        )
    return None


def _of_output(output: Output, entries: Mapping[str, Any]) -> Any:
    """The entry of an output by name; for the only output, the only entry."""
    if output.name in entries:
        return entries[output.name]
    return next(iter(entries.values())) if len(entries) == 1 and UNNAMED in (output.name, *entries) else None


def _example(output: Output, dataset: DatasetFacts) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Targets and weights of the images that the model was called on."""
    if dataset.first_batch is None or output.values is None:
        return None
    target, weight = (_of_output(output, arrays_by_name(part)) for part in dataset.first_batch[1:])
    if target is None:
        return None
    return target[:EXAMPLE_IMAGES], None if weight is None else weight[:EXAMPLE_IMAGES]
