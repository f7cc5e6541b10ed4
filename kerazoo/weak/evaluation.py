"""Evaluation of class maps: pixels against masks, and images against labels, side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerazoo.data import Source
from kerazoo.metrics import MCC, Accuracy, Dice, IoU, Precision, Recall
from kerazoo.report import html, plots
from kerazoo.report.figures import MAX_ROWS
from kerazoo.weak.maps import check_classes, class_maps
from kerazoo.weak.pseudo_masks import mask_of
from kerazoo.weak.thresholds import Threshold

METRICS = (Accuracy, MCC, IoU, Dice, Precision, Recall)
CLS = "cls_"
RESULT, PICTURE = "weak.json", "gallery/heat_maps.png"
_CHOSEN = {
    "image_labels": "chosen with image labels; no mask was opened for it",
    "maximum": "a fraction of the maximum of each map; nothing was opened for it",
    "masks": "chosen WITH MASKS, so this does not compare with methods that know image labels alone",
    "argument": "given by hand",
}


def evaluate(
    model: keras.Model,
    source: Source,
    *,
    threshold: float | Threshold,
    labels: Literal["model", "maps"] = "model",
    to: str | Path | None = None,
    pictures: int = 8,
    batch_size: int = 8,
    **options: Any,
) -> dict[str, Any]:
    """Compare thresholded maps with masks, which are opened here and nowhere else, and image labels with labels.

    Pixels of all images are counted together. With several foreground classes precision, recall, IoU and Dice are
    means over them, MCC is R_K; of images all six are means over the foreground classes.

    Args:
        model: Of `cam_alpha` or `cam_beta`, or any segmenter.
        source: Images with masks: those of the test split.
        threshold: Of `choose_threshold`, or a number for maps of "sigmoid". It was not chosen on these images.
        labels: What says that an image shows a class. "model": its label logit is above 0 (a probability of 0.5), or
            "maps" if the model has no labels. "maps": the maximum of the map is above the threshold.
        to: Directory to write `weak.json`, `gallery/heat_maps.png` and `report.html` to, such as that of a run; None
            writes nothing.
        pictures: Images in the gallery, at most 64: from the worst to the best Dice in even steps, of those that have
            foreground or where some was found (of all, if there is none).
        batch_size: Images in a batch.
        **options: `scales`, `tta` and `image_size` of `class_maps`; by default those of the threshold.

    Returns: a dict of `images`; `threshold`, as `Threshold.to_dict`; `chosen`, where that comes from, in words;
        `labels`, what said that an image shows a class, in words; `class_names`; and `metrics`: "accuracy", "mcc",
        "iou", "dice", "precision" and "recall" of pixels, and the same with "cls_" before it of images.

    Raises:
        ValueError: the source has no masks or other classes than the model, or an argument is unknown or does not fit
            the model.
    """
    if not source.has_masks:
        raise ValueError("`source` has image labels alone, and pixels are compared with masks. Give one that has them.")
    check_classes(model, source)
    if labels not in ("model", "maps"):
        raise ValueError(f"`labels` must be 'model' or 'maps', received {labels!r}.")
    if not 1 <= pictures <= MAX_ROWS:
        raise ValueError(f"`pictures` must be 1 to {MAX_ROWS}, received {pictures}.")
    if not isinstance(threshold, Threshold):
        threshold = Threshold(value=float(threshold), normalize="sigmoid", using="argument")
    settings = {"normalize": threshold.normalize, "batch_size": batch_size, **threshold.options, **options}
    pixels, foreground = _Scores(source.num_classes, source.ignore_class), source.foreground
    dice, predicted, any_foreground, by_model = [], [], [], labels == "model"
    for index, image in enumerate(class_maps(model, source, **settings)):
        truth, mask = source.mask(index), _thresholded(image.maps, threshold.value)
        pixels.add(truth, mask)
        dice.append(_dice(truth, mask, source.ignore_class))
        any_foreground.append(bool(mask.any()) or bool(foreground[index]))
        label = image.label if by_model else None
        by_model = label is not None
        classes = image.maps.max(axis=(0, 1)) > threshold.value if label is None else label > 0.5
        predicted.append(classes if source.num_classes == 1 else classes[1:])
    result = {
        "images": len(source),
        "threshold": asdict(threshold),
        "chosen": _CHOSEN[threshold.using],
        "labels": "label logit above 0" if by_model else "maximum of the map above the threshold",
        "class_names": list(source.class_names),
        "metrics": {**pixels.result(), **_of_images(source, np.stack(predicted))},
    }
    if to is not None:
        order = np.argsort(dice, kind="stable")
        order = order[np.array(any_foreground)[order]] if any(any_foreground) else order
        shown = order[np.unique(np.linspace(0, len(order) - 1, min(pictures, len(order))).round().astype(int))]
        _write(Path(to), result, model, source.subset(shown), threshold, settings)
    return result


class _Scores:
    """The metrics of masks, image by image."""

    def __init__(self, num_classes: int, ignore_class: int | None = None):
        self.num_classes = num_classes
        self.metrics = [metric(num_classes, images="all", ignore_class=ignore_class) for metric in METRICS]

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Update the metrics with class ids `(H, W)`."""
        if self.num_classes == 1:
            logits = np.where(prediction > 0, 1, -1)[..., None]
        else:
            logits = prediction[..., None] == np.arange(self.num_classes)
        for metric in self.metrics:
            metric.update_state(truth[None], logits[None].astype("float32"))

    def result(self, prefix: str = "") -> dict[str, float]:
        return {prefix + metric.name: float(keras.ops.convert_to_numpy(metric.result())) for metric in self.metrics}


def _of_images(source: Source, predicted: np.ndarray) -> dict[str, float]:
    """The metrics of images, mean over the foreground classes; `predicted` is `(n, F)` bool."""
    labels = source.labels if source.num_classes == 1 else source.labels[:, 1:]
    results = []
    for truth, prediction in zip(labels.T, predicted.T, strict=True):
        scores = _Scores(1)
        scores.add(truth[:, None].astype(np.uint8), prediction[:, None])
        results.append(scores.result(CLS))
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


def _thresholded(maps: np.ndarray, threshold: float) -> np.ndarray:
    return mask_of(maps if maps.shape[-1] == 1 else maps[..., 1:], threshold)


def _dice(truth: np.ndarray, mask: np.ndarray, ignore_class: int | None) -> float:
    """Of the foreground as a whole; 1 if there is none in either."""
    valid = np.ones(truth.shape, bool) if ignore_class is None else truth != ignore_class
    true, predicted = (truth > 0) & valid, (mask > 0) & valid
    total = np.count_nonzero(true) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(true & predicted & (truth == mask)) / total if total else 1.0


def _write(
    to: Path, result: dict[str, Any], model: keras.Model, shown: Source, threshold: Threshold, settings: dict[str, Any]
) -> None:
    to.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, output in enumerate(class_maps(model, shown, **settings)):
        image, truth, mask = shown.image(index), shown.mask(index), _thresholded(output.maps, threshold.value)
        rows.append({"id": output.id, "image": image, "truth": truth, "heat": output.maps, "mask": mask})
    plots.heat_maps(rows, to / PICTURE, class_names=shown.class_names, ignore_class=shown.ignore_class)
    (to / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    html.write(to)
