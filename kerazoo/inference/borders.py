"""How near the borders of predicted masks are to the true ones, over the images of an evaluation, with intervals.

Measured image by image and class by class, and averaged over the classes of an image and then over the images that have
any. Empty images take no part.
"""

from collections.abc import Sequence

import numpy as np

from kerazoo.inference import scores
from kerazoo.metrics import boundary_iou, hausdorff_distance

METRICS = {"boundary_iou": boundary_iou, "hausdorff_95": hausdorff_distance}
PREDICTORS = ("model", "all_background", "all_foreground")


def measure(
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    num_classes: int,
    ignore_class: int | None = None,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Compute the border metrics of a batch.

    Ignored pixels are background in truth and prediction, so that both end at the same place where they meet them.

    Args:
        truth: `(B, H, W)` or `(B, H, W, 1)` class ids.
        prediction: `(B, H, W)` class ids.
        num_classes: 1 for ids {0, 1}, else the number of classes with the background.
        ignore_class: Id in the truth of pixels that count nowhere, or None.
        spacing: Size of a pixel, (row, column), or None for distances in pixels.

    Returns: `(B, 3, F, 2)` for each of `PREDICTORS`, foreground class and metric; NaN where the image does not have the
        class. "all_foreground" is every class predicted everywhere.
    """
    prediction = np.asarray(prediction)
    truth = np.asarray(truth).reshape(prediction.shape)
    valid = np.ones(truth.shape, bool) if ignore_class is None else truth != ignore_class
    ids = range(1, max(num_classes, 2))
    result = np.full((len(truth), len(PREDICTORS), len(ids), len(METRICS)), np.nan)
    for image, (true_ids, predicted_ids, counted) in enumerate(zip(truth, prediction, valid, strict=True)):
        for index, class_id in enumerate(ids):
            true_mask = (true_ids == class_id) & counted
            if true_mask.any():
                masks = ((predicted_ids == class_id) & counted, np.zeros_like(counted), counted)
                for predictor, mask in enumerate(masks):
                    values = [metric(true_mask, mask, spacing=spacing) for metric in METRICS.values()]
                    result[image, predictor, index] = values
    return result


def trivial(measured: np.ndarray, counts: scores.Counts) -> dict[str, np.ndarray]:
    """`(n, F, 2)` of the trivial predictors, those of `scores.trivial`."""
    nothing, everything = measured[:, 1], measured[:, 2]
    most = np.zeros((1, nothing.shape[1], 1), bool)
    most[0, int(counts.true.sum(axis=0).argmax())] = True
    return {"all_background": nothing, "all_foreground": np.where(most, everything, nothing)}


def per_image(values: np.ndarray) -> dict[str, np.ndarray]:
    """`(n,)` means over the classes of each image, from `(n, F, 2)`; NaN for empty images."""
    return {name: scores.mean(values[..., index]) for index, name in enumerate(METRICS)}


def metrics(values: np.ndarray) -> dict[str, float]:
    """`boundary_iou` and `hausdorff_95` over all images, from `(n, F, 2)`; NaN if no image has foreground."""
    return {name: float(scores.mean(each[None])[0]) for name, each in per_image(values).items()}


def intervals(
    values: np.ndarray, *, resamplings: int, confidence: float, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of `metrics`, with the images that `scores.intervals` draws."""
    each = np.stack(list(per_image(values).values()), axis=1)
    defined = np.isfinite(each)
    table = np.concatenate([np.where(defined, each, 0.0), defined], axis=1)
    total, number = np.split(scores.resampled_sums(table, resamplings=resamplings, seed=seed), 2, axis=1)
    means = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return {name: scores.interval(means[:, index], confidence) for index, name in enumerate(METRICS)}
