"""Losses on logits: float32 inside, with a defined value and gradient where an image is empty; sums are losses too."""

from kerazoo.losses._base import WeightedSum
from kerazoo.losses.cross_entropy import CrossEntropy
from kerazoo.losses.focal import Focal
from kerazoo.losses.foreground_dice import ForegroundDice
from kerazoo.losses.soft_dice import SoftDice
from kerazoo.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "cross_entropy": CrossEntropy,
        "focal": Focal,
        "foreground_dice": ForegroundDice,
        "soft_dice": SoftDice,
    },
)

list = LOSSES.list
create = LOSSES.create

__all__ = ["LOSSES", "CrossEntropy", "Focal", "ForegroundDice", "SoftDice", "WeightedSum", "create", "list"]
