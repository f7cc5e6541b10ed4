"""Losses on logits, with a defined value and gradient on empty images; computed in float32. Sums are losses too."""

from kerazoo.losses._base import WeightedSum
from kerazoo.losses._deep_supervision import deep_supervision
from kerazoo.losses.balanced_cross_entropy import BalancedCrossEntropy
from kerazoo.losses.boundary_weighted import BoundaryWeighted
from kerazoo.losses.cross_entropy import CrossEntropy
from kerazoo.losses.cross_entropy_top_k import CrossEntropyTopK
from kerazoo.losses.focal import Focal
from kerazoo.losses.focal_tversky import FocalTversky
from kerazoo.losses.foreground_dice import ForegroundDice
from kerazoo.losses.generalized_dice import GeneralizedDice
from kerazoo.losses.jaccard import Jaccard
from kerazoo.losses.lovasz import Lovasz
from kerazoo.losses.mcc import MCC
from kerazoo.losses.soft_dice import SoftDice
from kerazoo.losses.tversky import Tversky
from kerazoo.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "balanced_cross_entropy": BalancedCrossEntropy,
        "boundary_weighted": BoundaryWeighted,
        "cross_entropy": CrossEntropy,
        "cross_entropy_top_k": CrossEntropyTopK,
        "focal": Focal,
        "focal_tversky": FocalTversky,
        "foreground_dice": ForegroundDice,
        "generalized_dice": GeneralizedDice,
        "jaccard": Jaccard,
        "lovasz": Lovasz,
        "mcc": MCC,
        "soft_dice": SoftDice,
        "tversky": Tversky,
    },
)

list = LOSSES.list
create = LOSSES.create

__all__ = [
    "LOSSES",
    "MCC",
    "BalancedCrossEntropy",
    "BoundaryWeighted",
    "CrossEntropy",
    "CrossEntropyTopK",
    "Focal",
    "FocalTversky",
    "ForegroundDice",
    "GeneralizedDice",
    "Jaccard",
    "Lovasz",
    "SoftDice",
    "Tversky",
    "WeightedSum",
    "create",
    "deep_supervision",
    "list",
]
