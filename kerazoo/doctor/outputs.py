"""The outputs of a model, and what it gives for the first images."""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerazoo.doctor.compiled import LossTerm
from kerazoo.doctor.facts import UNNAMED
from kerazoo.doctor.graph import last_activations
from kerazoo.outputs import symbolic_output

EXAMPLE_IMAGES = 2
"""Number of images that the model is called on."""


@dataclass(frozen=True)
class Output:
    """One output of a model.

    Attributes:
        name: Its key, or `UNNAMED`.
        values: What the model gives for the first images, float32; None if it could not be called.
        shape: Shape of what it gives, None where sizes vary.
        dtype: Dtype of what it gives.
        activation: The activation it ends with: "linear", a name such as "sigmoid", or None where that is not known.
        terms: Of its loss; empty if it has none.
        metrics: Fresh copies of its metrics.
    """

    name: str
    values: np.ndarray | None
    shape: tuple[int | None, ...]
    dtype: str
    activation: str | None
    terms: tuple[LossTerm, ...] = ()
    metrics: tuple[keras.metrics.Metric | str, ...] = ()

    @property
    def description(self) -> str:
        """What messages call it."""
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
    def probability_function(self) -> str | None:
        """What turned logits into probabilities, such as "sigmoid"; None for logits, and where that is not known."""
        if self.activation is not None:
            return self.activation if self.activation in ("sigmoid", "softmax", "hardsigmoid", "hard_sigmoid") else None
        values = self.values
        if values is None or not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            return None
        if values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1, atol=1e-3):
            return "softmax"
        return "sigmoid" if values.max() > values.min() else None


def call_on_examples(model: keras.Model, batch: tuple[Any, Any, Any] | None) -> tuple[tuple[Output, ...], str | None]:
    """The outputs of a model for the first images of a batch, without a change of its state.

    Args:
        model: A built model.
        batch: A batch, as arrays; None if the model cannot be called on it.

    Returns: the outputs, and the reason why the model could not be called on the images, or None.
    """
    failure, outputs = None, None
    if batch is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Keras has to say of the graph, the checks say
                outputs = _call(model, batch[0])
        except Exception as error:  # whatever layers raise on images they were not made for
            failure = first_line(error)
    symbolic = symbolic_output(model)
    activations, order = last_activations(model), _by_name(symbolic)
    found, tensors = [], _by_name(symbolic if outputs is None else outputs)
    for name in [name for name in order if name in tensors] or tensors:
        tensor = tensors[name]
        values = None if isinstance(tensor, keras.KerasTensor) else _as_float32(tensor)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        found.append(Output(name, values, tuple(tensor.shape), dtype, activations.get(name)))
    return tuple(found), failure


def _call(model: keras.Model, inputs: Any) -> Any:
    few = keras.tree.map_structure(lambda array: array[:EXAMPLE_IMAGES], inputs)
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
    return {UNNAMED if len(tensors) == 1 else str(place): tensor for place, tensor in enumerate(tensors)}


def first_line(error: Exception) -> str:
    """The first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
