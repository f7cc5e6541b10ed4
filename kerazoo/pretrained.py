"""Weights and models from elsewhere."""

import importlib
from typing import TYPE_CHECKING, Any

_OBJECTS = {
    "Record": "kerazoo.checkpoints.record",
    "convolutionalise": "kerazoo.convert.convolutionalise",
    "fetch": "kerazoo.checkpoints.download",
    "find": "kerazoo.checkpoints.catalog",
    "from_smp": "kerazoo.convert.smp",
    "from_torchvision": "kerazoo.convert.torchvision",
    "imagenet_classes": "kerazoo.checkpoints.imagenet",
    "records": "kerazoo.checkpoints.catalog",
}

__all__ = [*_OBJECTS]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    pass


def __getattr__(name: str) -> Any:
    """Import on first use: the encoders import what reads tensors, and what assembles models imports the encoders."""
    if name not in _OBJECTS:
        raise AttributeError(f"module 'kerazoo.pretrained' has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_OBJECTS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
