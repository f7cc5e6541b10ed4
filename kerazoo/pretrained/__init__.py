"""Weights and models from elsewhere."""

import importlib
from typing import TYPE_CHECKING, Any

_OBJECTS = {
    "Record": "kerazoo.pretrained.record",
    "convolutionalise": "kerazoo.pretrained.convolutionalise",
    "fetch": "kerazoo.pretrained.download",
    "find": "kerazoo.pretrained.catalog",
    "from_smp": "kerazoo.pretrained.convert.smp",
    "from_torchvision": "kerazoo.pretrained.convert.torchvision",
    "records": "kerazoo.pretrained.catalog",
}

__all__ = [*_OBJECTS]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from kerazoo.pretrained.catalog import find, records
    from kerazoo.pretrained.convert.smp import from_smp
    from kerazoo.pretrained.convert.torchvision import from_torchvision
    from kerazoo.pretrained.convolutionalise import convolutionalise
    from kerazoo.pretrained.download import fetch
    from kerazoo.pretrained.record import Record


def __getattr__(name: str) -> Any:
    """Import on first use: the encoders import what reads tensors, and what assembles models imports the encoders."""
    if name not in _OBJECTS:
        raise AttributeError(f"module 'kerazoo.pretrained' has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_OBJECTS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
