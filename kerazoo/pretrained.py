"""Weights and models from elsewhere."""

from kerazoo.checkpoints.catalog import find, records
from kerazoo.checkpoints.download import fetch
from kerazoo.checkpoints.imagenet import imagenet_classes
from kerazoo.checkpoints.record import Record
from kerazoo.convert.convolutionalise import convolutionalise
from kerazoo.convert.smp import from_smp
from kerazoo.convert.torchvision import from_torchvision

__all__ = [
    "Record",
    "convolutionalise",
    "fetch",
    "find",
    "from_smp",
    "from_torchvision",
    "imagenet_classes",
    "records",
]
