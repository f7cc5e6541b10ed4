"""Leaf layers of a layer or model."""

from collections.abc import Iterator

import keras


def leaf_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Layers without sublayers, each once: of a model, or of a layer that keeps layers as attributes."""
    visited = set()
    pending = [layer]
    while pending:
        candidate = pending.pop()
        if id(candidate) in visited:
            continue
        visited.add(id(candidate))
        children = list(_children(candidate))
        pending.extend(children)
        if not children:
            yield candidate


def _children(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    if isinstance(layer, keras.Model):
        yield from layer.layers
        return
    for value in vars(layer).values():
        members = value if isinstance(value, (list, tuple)) else [value]
        yield from (member for member in members if isinstance(member, keras.layers.Layer))
