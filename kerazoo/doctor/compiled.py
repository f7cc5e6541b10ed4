"""The losses and metrics that a model was compiled with, output by output."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras

from kerazoo.doctor.facts import UNNAMED
from kerazoo.doctor.graph import output_names
from kerazoo.losses import WeightedSum
from kerazoo.losses._base import Loss

TargetFormat = Literal["ids", "one_hot", "per_channel", "anything"]

_KERAS: dict[type, TargetFormat] = {
    keras.losses.BinaryCrossentropy: "per_channel",
    keras.losses.BinaryFocalCrossentropy: "per_channel",
    keras.losses.CategoricalCrossentropy: "one_hot",
    keras.losses.CategoricalFocalCrossentropy: "one_hot",
    keras.losses.CategoricalGeneralizedCrossEntropy: "ids",
    keras.losses.Dice: "per_channel",
    keras.losses.SparseCategoricalCrossentropy: "ids",
    keras.losses.Tversky: "per_channel",
}
"""Targets of those losses of Keras that take logits or probabilities; the others may be used for anything."""

_FUNCTIONS = {kind.__name__.lower(): kind for kind in _KERAS}


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss of an output.

    Attributes:
        loss: The loss; a function as a loss.
        name: What messages call it.
        from_kerazoo: Whether it is a loss of kerazoo.
        takes_logits: Whether it takes logits (True) or probabilities (False); None if that is not known.
        targets: What its targets are: ids, one-hot, one value per channel, or anything.
        ignore_class: Id of pixels that do not count, or None.
        needs_weight: What `sample_weight` is, if the loss makes no sense without; else None.
    """

    loss: keras.losses.Loss
    name: str
    from_kerazoo: bool
    takes_logits: bool | None
    targets: TargetFormat
    ignore_class: int | None
    needs_weight: str | None = None

    @property
    def compares_channels(self) -> bool:
        """Whether it compares channels with each other, so that one alone has nothing to say."""
        return not self.from_kerazoo and self.name.lower().startswith(("categorical", "sparse"))


@dataclass(frozen=True)
class Compiled:
    """Losses and metrics by output, and what fits no output.

    Attributes:
        losses: Terms by output.
        metrics: Metrics by output.
        unknown: Keys of losses or metrics that no output has, as (argument, key).
        ambiguous: Arguments of a model with several outputs that do not say which output is meant.
    """

    losses: dict[str, tuple[LossTerm, ...]]
    metrics: dict[str, tuple[Any, ...]]
    unknown: tuple[tuple[str, str], ...]
    ambiguous: tuple[str, ...]


def read_compiled(model: keras.Model, names: list[str]) -> Compiled:
    """What `compile` was given, by the names of the outputs."""
    aliases = _aliases(model, names)
    unknown: list[tuple[str, str]] = []
    ambiguous: list[str] = []

    def assign(argument: str, given: Any) -> dict[str, Any]:
        if given is None:
            return {}
        if isinstance(given, Mapping):
            known = {aliases.get(str(key), str(key)): value for key, value in given.items()}
            unknown.extend((argument, key) for key in known if key not in names)
            return {key: value for key, value in known.items() if key in names and value is not None}
        if len(names) == 1:
            return {names[0]: given}
        if argument == "loss" and not isinstance(given, list | tuple):
            return dict.fromkeys(names, given)  # as Keras does
        if isinstance(given, list | tuple) and len(given) == len(names) and "0" in names:
            return dict(zip(names, given, strict=True))
        ambiguous.append(argument)
        return {}

    losses = assign("loss", model.loss)
    metrics = assign("metrics", _metrics(model))
    return Compiled(
        {name: tuple(_terms(loss)) for name, loss in losses.items()},
        {name: tuple(filter(_is_metric, keras.tree.flatten(given))) for name, given in metrics.items()},
        tuple(unknown),
        tuple(ambiguous),
    )


def _aliases(model: keras.Model, names: list[str]) -> dict[str, str]:
    """Names of layers, which `compile` takes too, for outputs without a key."""
    plain = names == [UNNAMED] or names == [str(place) for place in range(len(names))]
    return dict(zip(output_names(model), names, strict=False)) if plain else {}


def _metrics(model: keras.Model) -> Any:
    """Fresh copies of the metrics, as `compile` was given them; those of the model keep their state."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of functions, which are only copied here
            config = model.get_compile_config() or {}
            return keras.saving.deserialize_keras_object(config.get("metrics"))
    except Exception:  # a metric of the user's own that cannot be copied is not looked at
        return None


def _is_metric(value: Any) -> bool:
    """Whether this is a metric or the name of one, and not a function, of which Keras makes one."""
    return isinstance(value, keras.metrics.Metric | str)


def _terms(loss: Any) -> list[LossTerm]:
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
        return [LossTerm(loss, type(loss).__name__, True, True, "ids", loss.ignore_class, loss.needs_weight)]
    name = getattr(loss, "__name__", type(loss).__name__)
    if not isinstance(loss, keras.losses.Loss):
        kind = _FUNCTIONS.get(name.replace("_", "")) if _is_keras(loss) else None
        loss = _OfFunction(loss) if kind is None else kind()
    targets, config = _KERAS.get(type(loss)), config_of(loss)
    takes_logits = None if targets is None else bool(config.get("from_logits", False))
    return [LossTerm(loss, name, False, takes_logits, targets or "anything", config.get("ignore_class"))]


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


def config_of(part: keras.losses.Loss | keras.metrics.Metric) -> dict[str, Any]:
    """The config of a loss or metric, empty if it has none."""
    try:
        return part.get_config()
    except NotImplementedError:
        return {}
