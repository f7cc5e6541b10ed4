"""Segmentation from labels of images: class activation maps, thresholds without masks, pseudo-masks."""

from kerazoo.explain import activation_maximization, first_filters, grad_cam  # their former place
from kerazoo.outputs import segmenter_of
from kerazoo.weak.cam import cam_alpha, cam_beta
from kerazoo.weak.evaluation import evaluate
from kerazoo.weak.maps import ClassMaps, class_maps
from kerazoo.weak.pooling import POOLINGS
from kerazoo.weak.pseudo_masks import pseudo_masks
from kerazoo.weak.refinement import random_walk
from kerazoo.weak.thresholds import Threshold, choose_threshold

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
