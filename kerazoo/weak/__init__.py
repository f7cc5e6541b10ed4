"""Segmentation from labels of images: class activation maps, thresholds without masks, pseudo-masks."""

import importlib
from typing import TYPE_CHECKING, Any

from kerazoo.weak.cam import cam_alpha, cam_beta, segmenter_of
from kerazoo.weak.evaluation import evaluate
from kerazoo.weak.maps import ClassMaps, class_maps
from kerazoo.weak.pooling import POOLINGS
from kerazoo.weak.pseudo_masks import pseudo_masks
from kerazoo.weak.refinement import random_walk
from kerazoo.weak.thresholds import Threshold, choose_threshold

if TYPE_CHECKING:
    from kerazoo.explain import activation_maximization, first_filters, grad_cam

__all__ = [
    "POOLINGS",
    "ClassMaps",
    "Threshold",
    "activation_maximization",
    "cam_alpha",
    "cam_beta",
    "choose_threshold",
    "class_maps",
    "evaluate",
    "first_filters",
    "grad_cam",
    "pseudo_masks",
    "random_walk",
    "segmenter_of",
]


def __getattr__(name: str) -> Any:
    """Import the functions of `kerazoo.explain`, which keep their old names here, on first use."""
    if name not in ("activation_maximization", "first_filters", "grad_cam"):
        raise AttributeError(f"module 'kerazoo.weak' has no attribute {name!r}")
    return getattr(importlib.import_module("kerazoo.explain"), name)
