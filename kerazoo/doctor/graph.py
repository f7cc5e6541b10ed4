"""What a model says of its inputs and outputs, and which activation each output ends with.

Activations are read from the config, which changes nothing in the model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

LINEAR = "linear"

# Layers and operations that leave values in the range in which they were.
_RANGE_PRESERVING = {
    "CropLike", "Cropping2D", "Cast", "Dropout", "Flatten", "GetItem", "Identity", "Permute", "Reshape", "Resize",
    "Resizing", "Squeeze", "Transpose", "UpSampling2D",
}  # fmt: skip
# Those whose outputs have no bounds.
_UNBOUNDED = {"Add", "BatchNormalization", "Concatenate", "GroupNormalization", "LayerNormalization", "Subtract"}
_ACTIVATIONS = {
    "Elu", "ELU", "HardSigmoid", "LeakyReLU", "LeakyRelu", "PReLU", "ReLU", "Relu", "Relu6", "Sigmoid", "Softmax",
    "Softplus", "Tanh",
}  # fmt: skip


def symbolic_inputs(model: keras.Model) -> list[Any]:
    """The input tensors of a model; none for a model of the user's own, which may not know them."""
    return getattr(model, "inputs", None) or []


def output_names(model: keras.Model) -> list[str]:
    """Names of the layers that the outputs of a model come from; none for a model of the user's own."""
    return getattr(model, "output_names", None) or []


def last_activations(model: keras.Model) -> dict[str, str | None]:
    """The activation that each output of a model ends with.

    Args:
        model: Any model.

    Returns: by key of the output, or by position in a list, or "" for a single one: "linear", the name of an
        activation such as "sigmoid", or None where the config does not tell. Empty if the model has no such config.
    """
    try:
        config = model.get_config()
    except Exception:  # a model of the user's own may raise anything here
        return {}
    if isinstance(model, keras.Sequential):
        return {"": _sequential_activation(config)}
    outputs = config.get("output_layers") if isinstance(config, Mapping) else None
    if outputs is None:
        return {}
    if isinstance(outputs, Mapping):
        return {str(name): _tensor_activation(config, place) for name, place in outputs.items()}
    if _is_reference(outputs):
        return {"": _tensor_activation(config, outputs)}
    single = len(outputs) == 1
    return {"" if single else str(place): _tensor_activation(config, each) for place, each in enumerate(outputs)}


def _is_reference(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and isinstance(value[0], str)


def _tensor_activation(config: Mapping[str, Any], reference: Any) -> str | None:
    """The activation before the tensor at `[layer, call, index]` in a functional config."""
    if not _is_reference(reference):
        return None
    name, call, index = reference
    layer = next((each for each in config["layers"] if each.get("name", each["config"].get("name")) == name), None)
    if layer is None:
        return None
    inner = layer["config"]
    if "output_layers" in inner:
        outputs = inner["output_layers"]
        outputs = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
        places = [outputs] if _is_reference(outputs) else outputs
        return _tensor_activation(inner, places[index]) if index < len(places) else None
    own = _layer_activation(layer)
    if own is not None or layer["class_name"] not in _RANGE_PRESERVING | {"Activation"}:
        return own
    calls = layer.get("inbound_nodes", ())
    return _tensor_activation(config, _first_argument(calls[min(call, len(calls) - 1)])) if calls else None


def _sequential_activation(config: Any) -> str | None:
    layers = config["layers"] if isinstance(config, Mapping) else config
    for layer in reversed(layers):
        own = _layer_activation(layer)
        if own is not None or layer["class_name"] not in _RANGE_PRESERVING | {"Activation"}:
            return own
    return None


def _layer_activation(layer: Mapping[str, Any]) -> str | None:
    """The activation that a layer or operation applies itself; None if it applies none, or that is not known."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "Sequential":
        return _sequential_activation(config)
    if kind in _ACTIVATIONS:
        return kind.lower()
    if kind in _UNBOUNDED:
        return LINEAR
    if "activation" not in config:
        return None
    activation = config["activation"]
    if isinstance(activation, Mapping):  # a function or layer, as Keras serializes it
        inner = activation.get("config")
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    if kind == "Activation" and activation == LINEAR:
        return None
    return LINEAR if activation is None else str(activation).lower()


def _first_argument(call: Any) -> Any:
    """Where the first tensor among the arguments of a call comes from."""
    if isinstance(call, Mapping):
        if call.get("class_name") == "__keras_tensor__":
            return call["config"]["keras_history"]
        call = list(call.values())
    if isinstance(call, Sequence) and not isinstance(call, str):
        found = (_first_argument(each) for each in call)
        return next((each for each in found if each is not None), None)
    return None
