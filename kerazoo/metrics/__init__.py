"""Streaming metrics of logits against class ids; each says over what it averages, none depends on the batches.

Beside them two functions of single masks, for evaluation: `boundary_iou` and `hausdorff_distance`.
"""

from kerazoo.metrics._surface import boundary_iou, hausdorff_distance
from kerazoo.metrics.accuracy import Accuracy
from kerazoo.metrics.calibration_error import CalibrationError
from kerazoo.metrics.dice import Dice
from kerazoo.metrics.empty_false_positive_pixels import EmptyFalsePositivePixels
from kerazoo.metrics.image_auc import ImageAUC
from kerazoo.metrics.image_balanced_accuracy import ImageBalancedAccuracy
from kerazoo.metrics.image_multiclass_accuracy import ImageMulticlassAccuracy
from kerazoo.metrics.iou import IoU
from kerazoo.metrics.mcc import MCC
from kerazoo.metrics.per_image_dice import PerImageDice
from kerazoo.metrics.precision import Precision
from kerazoo.metrics.recall import Recall
from kerazoo.registry import Registry

METRICS = Registry(
    "metric",
    {
        "accuracy": Accuracy,
        "calibration_error": CalibrationError,
        "dice": Dice,
        "empty_false_positive_pixels": EmptyFalsePositivePixels,
        "image_auc": ImageAUC,
        "image_balanced_accuracy": ImageBalancedAccuracy,
        "image_multiclass_accuracy": ImageMulticlassAccuracy,
        "iou": IoU,
        "mcc": MCC,
        "per_image_dice": PerImageDice,
        "precision": Precision,
        "recall": Recall,
    },
)

list = METRICS.list
create = METRICS.create

__all__ = [
    "MCC",
    "METRICS",
    "Accuracy",
    "CalibrationError",
    "Dice",
    "EmptyFalsePositivePixels",
    "ImageAUC",
    "ImageBalancedAccuracy",
    "ImageMulticlassAccuracy",
    "IoU",
    "PerImageDice",
    "Precision",
    "Recall",
    "boundary_iou",
    "create",
    "hausdorff_distance",
    "list",
]
