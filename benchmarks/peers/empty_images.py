"""Measure what losses and metrics of other libraries say about empty images; writes docs/empty_images_peers.csv.

Run in an environment of its own, with PyTorch as the backend of Keras:

    pip install torch keras segmentation-models-pytorch monai torchmetrics
    KERAS_BACKEND=torch python benchmarks/peers/empty_images.py

The images are those of tests/support/empty_record.py, which measures ours. Losses take one logit per pixel, or where it
says "2 channels" the softmax of (0, logit); gradients are by that logit. Metrics that take masks get p > 0.5.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import monai
import numpy as np
import segmentation_models_pytorch as smp
import torch
import torchmetrics.classification
import torchmetrics.segmentation
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import empty_record

PATH = empty_record.PATH.with_name("empty_images_peers.csv")
FIELDS = ("library", "version", "date", *empty_record.FIELDS)
DISTRIBUTIONS = {"smp": "segmentation-models-pytorch"}
TWO = ", 2 channels"

LOSSES: dict[tuple[str, str], Any] = {
    ("keras", "BinaryCrossentropy()"): keras.losses.BinaryCrossentropy(),
    ("keras", "BinaryFocalCrossentropy()"): keras.losses.BinaryFocalCrossentropy(),
    ("keras", "Dice()"): keras.losses.Dice(),
    ("keras", "Dice(axis=(1, 2, 3))"): keras.losses.Dice(axis=(1, 2, 3)),
    ("keras", "Dice(axis=(1, 2))" + TWO): keras.losses.Dice(axis=(1, 2)),
    ("keras", "Tversky()"): keras.losses.Tversky(),
    ("smp", "SoftBCEWithLogitsLoss()"): smp.losses.SoftBCEWithLogitsLoss(),
    ("smp", 'FocalLoss("binary")'): smp.losses.FocalLoss("binary"),
    ("smp", 'DiceLoss("binary")'): smp.losses.DiceLoss("binary"),
    ("smp", 'DiceLoss("binary", smooth=1)'): smp.losses.DiceLoss("binary", smooth=1.0),
    ("smp", 'DiceLoss("multiclass")' + TWO): smp.losses.DiceLoss("multiclass"),
    ("smp", 'JaccardLoss("binary")'): smp.losses.JaccardLoss("binary"),
    ("smp", 'TverskyLoss("binary")'): smp.losses.TverskyLoss("binary"),
    ("smp", 'LovaszLoss("binary")'): smp.losses.LovaszLoss("binary"),
    ("smp", "MCCLoss() of sigmoid"): lambda scores, truth: smp.losses.MCCLoss()(torch.sigmoid(scores), truth),
    ("monai", "FocalLoss()"): monai.losses.FocalLoss(),
    ("monai", "DiceLoss(sigmoid=True)"): monai.losses.DiceLoss(sigmoid=True),
    ("monai", "DiceLoss(sigmoid=True, smooth_nr=0)"): monai.losses.DiceLoss(sigmoid=True, smooth_nr=0.0),
    ("monai", "DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1)"): monai.losses.DiceLoss(
        sigmoid=True, smooth_nr=1.0, smooth_dr=1.0
    ),
    ("monai", "DiceLoss(sigmoid=True, batch=True)"): monai.losses.DiceLoss(sigmoid=True, batch=True),
    ("monai", "DiceLoss(softmax=True)" + TWO): monai.losses.DiceLoss(softmax=True),
    ("monai", "DiceLoss(softmax=True, include_background=False)" + TWO): monai.losses.DiceLoss(
        softmax=True, include_background=False
    ),
    ("monai", "DiceCELoss(sigmoid=True)"): monai.losses.DiceCELoss(sigmoid=True),
    ("monai", "DiceFocalLoss(sigmoid=True)"): monai.losses.DiceFocalLoss(sigmoid=True),
    ("monai", "GeneralizedDiceLoss(sigmoid=True)"): monai.losses.GeneralizedDiceLoss(sigmoid=True),
    ("monai", "GeneralizedDiceLoss(softmax=True)" + TWO): monai.losses.GeneralizedDiceLoss(softmax=True),
    ("monai", "TverskyLoss(sigmoid=True)"): monai.losses.TverskyLoss(sigmoid=True),
    ("monai", "MCCLoss(sigmoid=True)"): monai.losses.MCCLoss(sigmoid=True),
}


def channels_first(masks: np.ndarray, *, two: bool) -> torch.Tensor:
    """`(B, 1 or 2, H, W)` float32; of two channels the first is the background."""
    mask = torch.as_tensor(np.asarray(masks, "float32"))[:, None]
    return torch.cat([1 - mask, mask], dim=1) if two else mask


def loss_of(library: str, name: str, loss: Any) -> Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]:
    """Value of a loss and its gradient by the logits."""
    two = name.endswith(TWO)

    def measure(masks: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.tensor(logits, requires_grad=True)
        scores, truth = point[:, None], channels_first(masks, two=two)
        if two:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        if library == "keras":  # takes probabilities, channels last
            probabilities = functional.softmax(scores, dim=1) if two else torch.sigmoid(scores)
            value = loss(truth.movedim(1, -1), probabilities.movedim(1, -1))
        elif name.startswith('DiceLoss("multiclass")'):
            value = loss(scores, truth[:, 1].long())
        else:
            value = loss(scores, truth)
        (gradient,) = torch.autograd.grad(value, point, allow_unused=True)
        return float(value.detach()), np.zeros(logits.shape) if gradient is None else gradient.numpy()

    return measure


def keras_metric(build: Callable[[], Any]) -> Callable[[np.ndarray, np.ndarray], float]:
    """Of probabilities."""

    def measure(masks: np.ndarray, probabilities: np.ndarray) -> float:
        metric = build()
        metric.update_state(masks.astype("float32"), probabilities.astype("float32"))
        return float(metric.result())

    return measure


def keras_class_metric(build: Callable[[], Any]) -> Callable[[np.ndarray, np.ndarray], float]:
    """Of class ids."""
    measure = keras_metric(build)
    return lambda masks, probabilities: measure(masks, probabilities > 0.5)


def smp_metric(score: Callable[..., Any], **options: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    """Of the counts of masks."""

    def measure(masks: np.ndarray, probabilities: np.ndarray) -> float:
        found, truth = (channels_first(x, two=False).long() for x in (probabilities > 0.5, masks))
        return float(score(*smp.metrics.get_stats(found, truth, mode="binary"), **options))

    return measure


def monai_metric(build: Callable[[], Any], *, two: bool = False) -> Callable[[np.ndarray, np.ndarray], float]:
    """Of masks."""

    def measure(masks: np.ndarray, probabilities: np.ndarray) -> float:
        metric = build()
        metric(channels_first(probabilities > 0.5, two=two), channels_first(masks, two=two))
        return float(metric.aggregate())

    return measure


def torch_metric(build: Callable[[], Any], *, ids: bool) -> Callable[[np.ndarray, np.ndarray], float]:
    """Of masks of ids, or of probabilities."""

    def measure(masks: np.ndarray, probabilities: np.ndarray) -> float:
        metric = build()
        found = probabilities > 0.5 if ids else probabilities
        metric.update(
            torch.as_tensor(found.astype("int64" if ids else "float32")), torch.as_tensor(masks.astype("int64"))
        )
        return float(metric.compute())

    return measure


def or_error(measure: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float | str]:
    """What a metric gives, or "error" where it raises one."""

    def measured(masks: np.ndarray, probabilities: np.ndarray) -> float | str:
        try:
            return measure(masks, probabilities)
        except (RuntimeError, ValueError):
            return "error"

    return measured


def of_torchmetrics(name: str, **options: Any) -> tuple[tuple[str, str], Callable[[np.ndarray, np.ndarray], float]]:
    """A metric of torchmetrics.segmentation for class ids without background."""
    build = getattr(torchmetrics.segmentation, name)
    label = empty_record.label(name, options)
    base = {"num_classes": 2, "include_background": False, "input_format": "index"}
    return ("torchmetrics", label), torch_metric(lambda: build(**base, **options), ids=True)


METRICS: dict[tuple[str, str], Callable[[np.ndarray, np.ndarray], float]] = {
    ("keras", "BinaryIoU()"): keras_metric(keras.metrics.BinaryIoU),
    ("keras", "BinaryIoU(target_class_ids=[1])"): keras_metric(lambda: keras.metrics.BinaryIoU(target_class_ids=[1])),
    ("keras", "MeanIoU(num_classes=2)"): keras_class_metric(lambda: keras.metrics.MeanIoU(num_classes=2)),
    ("keras", "Precision()"): keras_metric(keras.metrics.Precision),
    ("keras", "Recall()"): keras_metric(keras.metrics.Recall),
    ("smp", 'iou_score(reduction="micro")'): smp_metric(smp.metrics.iou_score, reduction="micro"),
    ("smp", 'iou_score(reduction="micro", zero_division=0)'): smp_metric(
        smp.metrics.iou_score, reduction="micro", zero_division=0
    ),
    ("smp", 'iou_score(reduction="macro")'): smp_metric(smp.metrics.iou_score, reduction="macro"),
    ("smp", 'iou_score(reduction="micro-imagewise")'): smp_metric(smp.metrics.iou_score, reduction="micro-imagewise"),
    ("smp", 'f1_score(reduction="micro-imagewise")'): smp_metric(smp.metrics.f1_score, reduction="micro-imagewise"),
    ("smp", 'f1_score(reduction="micro-imagewise", zero_division=0)'): smp_metric(
        smp.metrics.f1_score, reduction="micro-imagewise", zero_division=0
    ),
    ("monai", "DiceMetric()"): monai_metric(monai.metrics.DiceMetric),
    ("monai", "DiceMetric(ignore_empty=False)"): monai_metric(lambda: monai.metrics.DiceMetric(ignore_empty=False)),
    ("monai", "MeanIoU()"): monai_metric(monai.metrics.MeanIoU),
    ("monai", "MeanIoU(ignore_empty=False)"): monai_metric(lambda: monai.metrics.MeanIoU(ignore_empty=False)),
    ("monai", "GeneralizedDiceScore()" + TWO): monai_metric(monai.metrics.GeneralizedDiceScore, two=True),
    ("monai", "HausdorffDistanceMetric()" + TWO): monai_metric(monai.metrics.HausdorffDistanceMetric, two=True),
    ("monai", "HausdorffDistanceMetric(percentile=95)" + TWO): monai_metric(
        lambda: monai.metrics.HausdorffDistanceMetric(percentile=95), two=True
    ),
    **dict(
        [
            of_torchmetrics("DiceScore"),
            of_torchmetrics("DiceScore", aggregation_level="global"),
            of_torchmetrics("MeanIoU"),
            of_torchmetrics("GeneralizedDiceScore"),
            of_torchmetrics("HausdorffDistance"),
        ]
    ),
    **{
        ("torchmetrics", f"{name}({text})"): torch_metric(
            lambda name=name, options=options: getattr(torchmetrics.classification, name)(**options), ids=False
        )
        for name in ("BinaryJaccardIndex", "BinaryF1Score")
        for text, options in (("", {}), ("zero_division=1", {"zero_division": 1}))
    },
}


def rows() -> Iterator[dict[str, str]]:
    """All rows of the file."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    measured = [
        *((key, empty_record.loss_rows(key[1], loss_of(*key, loss))) for key, loss in LOSSES.items()),
        *((key, empty_record.metric_rows(key[1], or_error(measure))) for key, measure in METRICS.items()),
    ]
    for (library, _), of_one in measured:
        version = metadata.version(DISTRIBUTIONS.get(library, library))
        yield from ({"library": library, "version": version, "date": date, **row} for row in of_one)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    empty_record.write(list(rows()), PATH, FIELDS)
