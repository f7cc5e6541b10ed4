"""Finding a layer in a model and its sub-models by name or path."""

from collections.abc import Iterator
from typing import Any

import keras

from kerazoo.arguments import did_you_mean


def walk(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and layers of a model and of its sub-models, each sub-model before what is in it."""
    for layer in model.layers:
        yield prefix + layer.name, layer
        if isinstance(layer, keras.Model):
            yield from walk(layer, f"{prefix}{layer.name}/")


def find_layer(model: keras.Model, name: str) -> Any:
    """The layer of a model or of its sub-models with a name or path.

    Raises:
        ValueError: there is none, or several of that name.
    """
    paths = list(walk(model))
    found = {path: layer for path, layer in paths if path == name or path.endswith(f"/{name}")}
    if name in found or len(found) == 1:
        return found.get(name) or next(iter(found.values()))
    if found:
        raise ValueError(f"`layer` {name!r} may be any of {sorted(found)}. Give the path.")
    names = {known for path, _ in paths for known in (path, path.rpartition("/")[2])}
    meant = did_you_mean(name, sorted(names))
    raise ValueError(
        f"There is no layer {name!r} in what {model.name!r} gives.{meant} Its sub-models and layers are "
        f"{[layer.name for layer in model.layers]}."
    )
