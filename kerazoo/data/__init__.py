"""From files to batches: sources, splits, samplers, augmentation and the pipeline.

Sources, splits and samplers need neither TensorFlow nor Keras, `augment` and `PinEpoch` need Keras, and `pipeline`
imports TensorFlow when it is called.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from kerazoo.arguments import warn_renamed
from kerazoo.data import sources as sources
from kerazoo.data.batches import pixel_weights as pixel_weights
from kerazoo.data.batches import sampling as sampling
from kerazoo.data.batches.pipeline import pipeline as pipeline
from kerazoo.data.batches.service import connect as connect
from kerazoo.data.batches.service import serve as serve
from kerazoo.data.concat import concat as concat
from kerazoo.data.formats.images import read_image as read_image
from kerazoo.data.prepare import prepare as prepare
from kerazoo.data.sample import Sample as Sample
from kerazoo.data.source import Source as Source
from kerazoo.data.source import save_split as save_split
from kerazoo.data.verify import verify as verify  # the function, which hides its module

if TYPE_CHECKING:
    from kerazoo.data.batches import augment as augment
    from kerazoo.data.batches.pin_epoch import PinEpoch as PinEpoch

__all__ = [
    "PinEpoch",
    "Sample",
    "Source",
    "augment",
    "concat",
    "connect",
    "pipeline",
    "pixel_weights",
    "prepare",
    "read_image",
    "sampling",
    "save_split",
    "serve",
    "sources",
    "verify",
]

sys.modules |= {f"{__name__}.sampling": sampling, f"{__name__}.pixel_weights": pixel_weights}  # their dotted names


def __getattr__(name: str) -> Any:
    """Import on first use what needs Keras; and a former name, until 1.0."""
    if name == "PinEpoch":
        value = importlib.import_module("kerazoo.data.batches.pin_epoch").PinEpoch
    elif name == "augment":
        value = importlib.import_module("kerazoo.data.batches.augment")
    elif name == "weights":
        warn_renamed("kz.data.weights", "kz.data.pixel_weights")
        return pixel_weights
    else:
        raise AttributeError(f"module 'kerazoo.data' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
