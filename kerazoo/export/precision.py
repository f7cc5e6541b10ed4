"""Rebuild a model in float32, for formats without precision policies."""

from collections.abc import Mapping
from typing import Any

import keras

_LOW = {"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself if all its layers compute in float32, else a float32 copy with the same weights.

    Args:
        model: Functional model; it is not changed.

    Raises:
        ValueError: the model computes in lower precision and cannot be rebuilt from its config.
    """
    config = model.get_config()
    raised = _raised(config)
    if raised == config:
        return model
    policy = keras.config.dtype_policy()  # models take theirs from here, and not from their config
    keras.config.set_dtype_policy("float32")
    try:
        copy = type(model).from_config(raised)
        copy.set_weights([keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")) for v in model.variables])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Model {model.name!r} computes in lower precision than float32 and cannot be rebuilt from its config: "
            f"{error} Every custom layer needs `get_config` and `keras.saving.register_keras_serializable`."
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    return copy


def _raised(config: Any, key: str = "") -> Any:
    """Config with every dtype and policy of lower precision replaced by float32."""
    if isinstance(config, Mapping):
        inside_policy = "DTypePolicy" in str(config.get("class_name", ""))
        entries = {name: _raised(value, name) for name, value in config.items()}
        if inside_policy and config["config"].get("name") in _LOW:
            entries["config"] = {**config["config"], "name": "float32"}
        return entries
    if isinstance(config, list | tuple):
        return type(config)(_raised(value, key) for value in config)
    return "float32" if key.endswith("dtype") and config in _LOW else config
