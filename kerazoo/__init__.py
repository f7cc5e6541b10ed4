"""Semantic segmentation by transfer learning with Keras 3: any encoder, any decoder, any head."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "data",
    "decoders",
    "doctor",
    "encoders",
    "explain",
    "export",
    "heads",
    "inference",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "pairs",
    "pretrained",
    "report",
    "testing",
    "training",
    "weak",
)
_OBJECTS = {
    "classifier": "kerazoo.compose",
    "segmenter": "kerazoo.compose",
    "freeze": "kerazoo.transfer",
    "unfreeze": "kerazoo.transfer",
    "trainable_table": "kerazoo.transfer",
}

__all__ = ["__version__", *_SUBPACKAGES, *_OBJECTS]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from kerazoo import (
        data,
        decoders,
        encoders,
        explain,
        export,
        heads,
        inference,
        layers,
        losses,
        metrics,
        optimizers,
        pairs,
        pretrained,
        report,
        testing,
        training,
        weak,
    )
    from kerazoo.compose import classifier, segmenter
    from kerazoo.doctor import doctor
    from kerazoo.transfer import freeze, trainable_table, unfreeze


def __getattr__(name: str) -> Any:
    """Import a subpackage or object on first use."""
    if name in _OBJECTS:
        value = getattr(importlib.import_module(_OBJECTS[name]), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f"kerazoo.{name}")
    else:
        raise AttributeError(f"module 'kerazoo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:  # so that keras.models.load_model finds what a saved model may hold; 25 ms
    for _name in ("layers", "losses", "metrics", "optimizers"):
        __getattr__(_name)
