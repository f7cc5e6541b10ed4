"""Streaming metrics of logits against class ids; each says over what it averages, none depends on the batches."""

from kerazoo.metrics.dice import Dice
from kerazoo.metrics.empty_false_positive_pixels import EmptyFalsePositivePixels
from kerazoo.metrics.image_balanced_accuracy import ImageBalancedAccuracy
from kerazoo.metrics.iou import IoU
from kerazoo.registry import Registry

METRICS = Registry(
    "metric",
    {
        "dice": Dice,
        "empty_false_positive_pixels": EmptyFalsePositivePixels,
        "image_balanced_accuracy": ImageBalancedAccuracy,
        "iou": IoU,
    },
)

list = METRICS.list
create = METRICS.create

__all__ = ["METRICS", "Dice", "EmptyFalsePositivePixels", "ImageBalancedAccuracy", "IoU", "create", "list"]
