"""What a model puts out and what it was compiled with, output by output."""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np

from kerazoo.doctor.graph import last_activations
from kerazoo.doctor.looking import ALONE
from kerazoo.losses import WeightedSum
from kerazoo.losses._base import Loss

IMAGES = 2
"""Images that are shown to the model."""

Reads = Literal["ids", "one_hot", "same", "anything"]

_KERAS: dict[type, Reads] = {
    keras.losses.BinaryCrossentropy: "same",
    keras.losses.BinaryFocalCrossentropy: "same",
    keras.losses.CategoricalCrossentropy: "one_hot",
    keras.losses.CategoricalFocalCrossentropy: "one_hot",
    keras.losses.CategoricalGeneralizedCrossEntropy: "ids",
    keras.losses.Dice: "same",
    keras.losses.SparseCategoricalCrossentropy: "ids",
    keras.losses.Tversky: "same",
}
"""What those losses of Keras read that take logits or probabilities; the others may be used for anything."""

_FUNCTIONS = {kind.__name__.lower(): kind for kind in _KERAS}


@dataclass(frozen=True)
class Term:
    """One term of the loss of an output.

    Attributes:
        loss: The loss; a function as a loss.
        name: How messages call it.
        ours: Whether it is a loss of kerazoo.
        logits: Whether it takes logits (True) or probabilities (False); None if that is not known.
        reads: What its targets are.
        ignore_class: Id of pixels that do not count, or None.
    """

    loss: keras.losses.Loss
    name: str
    ours: bool
    logits: bool | None
    reads: Reads
    ignore_class: int | None

    @property
    def softmax(self) -> bool:
        """Whether it compares channels with each other, so that one alone has nothing to say."""
        return not self.ours and self.name.lower().startswith(("categorical", "sparse"))


@dataclass(frozen=True)
class Output:
    """One output of a model.

    Attributes:
        name: Its key, or `ALONE`.
        values: What the model gives for the first images, float32; None if it could not be asked.
        shape: Shape of what it gives, None where sizes vary.
        dtype: Dtype of what it gives.
        activation: Its last activation, see `last_activations`.
        terms: Of its loss; empty if it has none.
        metrics: Fresh copies of its metrics.
    """

    name: str
    values: np.ndarray | None
    shape: tuple[int | None, ...]
    dtype: str
    activation: str | None
    terms: tuple[Term, ...] = ()
    metrics: tuple[keras.metrics.Metric | str, ...] = ()

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"the output {self.name!r}" if self.name else "the model's output"

    @property
    def is_mask(self) -> bool:
        """Whether it scores pixels."""
        return len(self.shape) == 4

    @property
    def channels(self) -> int | None:
        """Size of the last axis."""
        return self.shape[-1] if self.shape else None

    @property
    def probabilities(self) -> str | None:
        """What made probabilities of the logits: "sigmoid", "softmax"; None if they are logits, or not known to be."""
        if self.activation is not None:
            return self.activation if self.activation in ("sigmoid", "softmax", "hardsigmoid", "hard_sigmoid") else None
        values = self.values
        if values is None or not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            return None
        if values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1, atol=1e-3):
            return "softmax"
        return "sigmoid" if values.max() > values.min() else None


def ask(model: keras.Model, first: tuple[Any, Any, Any] | None) -> tuple[tuple[Output, ...], str | None]:
    """The outputs of a model for the first images of a batch, without a change of its state.

    Args:
        model: A built model.
        first: The first batch, as arrays; None if the model cannot be asked.

    Returns: the outputs, and the reason why the model could not be called on the images, or None.
    """
    fault, given = None, None
    if first is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Keras has to say of the graph, the checks say
                given = _call(model, first[0])
        except Exception as failure:  # whatever layers raise on images they were not made for
            fault = next((line for line in str(failure).splitlines() if line.strip()), type(failure).__name__)
    if given is None:
        given = getattr(model, "output", None)  # a model of the user's own has none
    activations, order = last_activations(model), _by_name(getattr(model, "output", None))
    outputs, tensors = [], _by_name(given)
    for name in [name for name in order if name in tensors] or tensors:
        tensor = tensors[name]
        values = None if isinstance(tensor, keras.KerasTensor) else _as_float32(tensor)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        outputs.append(Output(name, values, tuple(tensor.shape), dtype, activations.get(name)))
    return tuple(outputs), fault


def _call(model: keras.Model, inputs: Any) -> Any:
    few = keras.tree.map_structure(lambda array: array[:IMAGES], inputs)
    state = [
        [variable.value for variable in kind] for kind in (model.trainable_variables, model.non_trainable_variables)
    ]
    mode = {"training": False} if "training" in inspect.signature(model.call).parameters else {}
    outputs, _ = model.stateless_call(*state, few, **mode)
    return outputs


def _as_float32(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.stop_gradient(tensor), "float32")))


def _by_name(outputs: Any) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return {str(name): tensor for name, tensor in outputs.items()}
    tensors = [] if outputs is None else keras.tree.flatten(outputs)
    return {ALONE if len(tensors) == 1 else str(place): tensor for place, tensor in enumerate(tensors)}


@dataclass(frozen=True)
class Compiled:
    """Losses and metrics by output, and what fits no output.

    Attributes:
        losses: Terms by output.
        metrics: Metrics by output.
        strange: Keys of losses or metrics that no output has, as (argument, key).
        unnamed: Arguments of a model with several outputs that do not say which output is meant.
    """

    losses: dict[str, tuple[Term, ...]]
    metrics: dict[str, tuple[Any, ...]]
    strange: tuple[tuple[str, str], ...]
    unnamed: tuple[str, ...]


def compiled(model: keras.Model, outputs: tuple[Output, ...]) -> Compiled:
    """What `compile` was given, output by output."""
    names = [output.name for output in outputs]
    aliases = _aliases(model, names)
    strange: list[tuple[str, str]] = []
    unnamed: list[str] = []

    def assign(argument: str, given: Any) -> dict[str, Any]:
        if given is None:
            return {}
        if isinstance(given, Mapping):
            known = {aliases.get(str(key), str(key)): value for key, value in given.items()}
            strange.extend((argument, key) for key in known if key not in names)
            return {key: value for key, value in known.items() if key in names and value is not None}
        if len(names) == 1:
            return {names[0]: given}
        if argument == "loss" and not isinstance(given, list | tuple):
            return dict.fromkeys(names, given)  # as Keras does
        if isinstance(given, list | tuple) and len(given) == len(names) and ALONE + "0" in names:
            return dict(zip(names, given, strict=True))
        unnamed.append(argument)
        return {}

    losses = assign("loss", getattr(model, "loss", None))
    metrics = assign("metrics", _metrics(model))
    return Compiled(
        {name: tuple(_terms(loss)) for name, loss in losses.items()},
        {name: tuple(keras.tree.flatten(given)) for name, given in metrics.items()},
        tuple(strange),
        tuple(unnamed),
    )


def with_compiled(outputs: tuple[Output, ...], found: Compiled) -> tuple[Output, ...]:
    """The outputs with their losses and metrics."""
    return tuple(
        replace(output, terms=found.losses.get(output.name, ()), metrics=found.metrics.get(output.name, ()))
        for output in outputs
    )


def _aliases(model: keras.Model, names: list[str]) -> dict[str, str]:
    """Names of layers, which `compile` takes too, for outputs without a key."""
    layers = getattr(model, "output_names", None) or ()
    plain = names == [ALONE] or names == [str(place) for place in range(len(names))]
    return dict(zip(layers, names, strict=False)) if plain else {}


def _metrics(model: keras.Model) -> Any:
    """Fresh copies of the metrics, as `compile` was given them; those of the model keep their state."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of functions, which are only copied here
            config = model.get_compile_config() or {}
            return keras.saving.deserialize_keras_object(config.get("metrics"))
    except Exception:  # a metric of the user's own that cannot be copied is not looked at
        return None


def _terms(loss: Any) -> list[Term]:
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:  # Keras itself says so in fit
            return []
    if isinstance(loss, list | tuple):
        return [term for each in loss for term in _terms(each)]
    if isinstance(loss, WeightedSum):
        return [term for _, each in loss.terms for term in _terms(each)]
    if isinstance(loss, Loss):
        return [Term(loss, type(loss).__name__, True, True, "ids", loss.ignore_class)]
    name = getattr(loss, "__name__", type(loss).__name__)
    if not isinstance(loss, keras.losses.Loss):
        kind = _FUNCTIONS.get(name.replace("_", "")) if _is_keras(loss) else None
        loss = _OfFunction(loss) if kind is None else kind()
    reads, config = _KERAS.get(type(loss)), _config(loss)
    logits = None if reads is None else bool(config.get("from_logits", False))
    return [Term(loss, name, False, logits, reads or "anything", config.get("ignore_class"))]


def _is_keras(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "keras"


class _OfFunction(keras.losses.Loss):
    """A function of targets and outputs as a loss, the targets with the rank of the outputs."""

    def __init__(self, function: Any):
        super().__init__(name="function")
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The function's values."""
        if len(y_true.shape) == len(y_pred.shape) - 1 and y_pred.shape[-1] == 1:
            y_true = keras.ops.expand_dims(y_true, -1)
        return self._function(y_true, y_pred)


def _config(loss: keras.losses.Loss) -> dict[str, Any]:
    try:
        return loss.get_config()
    except NotImplementedError:
        return {}
