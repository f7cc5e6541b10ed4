"""What losses and metrics say about empty images: the images, and the files that docs/empty_images.md is made of.

docs/empty_images.csv holds what `tests/test_empty_images.py` measures on ours; run as a script this writes it:
`PYTHONPATH=tests python -m support.empty_record`. docs/empty_images_peers.csv holds what
`benchmarks/peers/empty_images.py` measures on other libraries. This module needs NumPy alone until it measures.
"""

import csv
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from support.source_tree import REPOSITORY

PATH = REPOSITORY / "docs" / "empty_images.csv"
FIELDS = ("kind", "name", "truth", "prediction", "value", "gradient_norm", "gradient_direction")
SIZE = 256
NO_GRADIENT = 1e-15  # of the largest pixel; where predictions are certain there are traces
CERTAIN = 50.0  # a logit whose sigmoid is 1, or less than any loss's smoothing


def square(side: int, corner: tuple[int, int]) -> np.ndarray:
    """`(SIZE, SIZE)` probabilities, 1 in a square."""
    image = np.zeros((SIZE, SIZE))
    image[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 1
    return image


def scenes() -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Names of truth and prediction, masks `(B, SIZE, SIZE)` uint8 and probabilities of the foreground."""
    nothing, everything = np.zeros((SIZE, SIZE)), np.ones((SIZE, SIZE))
    unsure = {f"p = {p}": np.full((SIZE, SIZE), p) for p in (0.01, 0.5)}
    thing, spot = square(64, (96, 128)), square(8, (40, 24))
    half = thing * (np.arange(SIZE) < 160)
    answers = {"nothing": nothing, **unsure}
    for name, p in {**answers, "64 px": spot, "everything": everything}.items():
        yield "empty", name, nothing[None].astype("uint8"), p[None]
    for name, p in {**answers, "half": half, "the object": thing, "everything": everything}.items():
        yield "object", name, thing[None].astype("uint8"), p[None]
    for name, p in {"the object; nothing": nothing, "the object; 64 px": spot}.items():
        yield "object; empty", name, np.stack([thing, nothing]).astype("uint8"), np.stack([thing, p])


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """Float32 logits, ±`CERTAIN` where a probability is 1 or 0."""
    inner = np.clip(probabilities, 1e-9, 1 - 1e-9)
    soft = np.log(inner / (1 - inner))
    return np.select([probabilities <= 0, probabilities >= 1], [-CERTAIN, CERTAIN], soft).astype("float32")


def loss_rows(name: str, measure: Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]) -> Iterator[dict[str, str]]:
    """Rows of a loss. `measure(masks, logits)`, both `(B, H, W)`, gives its value and the gradient by the logits."""
    for truth, prediction, masks, probabilities in scenes():
        value, gradient = measure(masks, logits_of(probabilities))
        gradient = np.asarray(gradient, "float64")
        yield {
            **_row("loss", name, truth, prediction, value),
            "gradient_norm": f"{np.linalg.norm(gradient):.4g}",
            "gradient_direction": direction(gradient),
        }


def metric_rows(name: str, measure: Callable[[np.ndarray, np.ndarray], Any]) -> Iterator[dict[str, str]]:
    """Rows of a metric. `measure(masks, probabilities)`, both `(B, H, W)`, gives its value, or a word."""
    for truth, prediction, masks, probabilities in scenes():
        yield _row("metric", name, truth, prediction, measure(masks, probabilities))


def direction(gradient: np.ndarray) -> str:
    """Where a step of gradient descent moves the logits: "none", "down", "up" or "both"."""
    largest = np.abs(gradient).max()
    if largest < NO_GRADIENT:
        return "none"
    down, up = (bool((sign * gradient > 1e-3 * largest).any()) for sign in (1, -1))
    return {(False, False): "none", (True, False): "down", (False, True): "up", (True, True): "both"}[down, up]


def _row(kind: str, name: str, truth: str, prediction: str, value: Any) -> dict[str, str]:
    text = value if isinstance(value, str) else f"{float(value):.5g}"
    return {"kind": kind, "name": name, "truth": truth, "prediction": prediction, "value": text}


def read(path: Path = PATH) -> list[dict[str, str]]:
    """Rows of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[dict[str, str]], path: Path = PATH, fields: tuple[str, ...] = FIELDS) -> None:
    """Make a file anew."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


# Ours -----------------------------------------------------------------------------------------------------------------


def policies(part: Callable[..., Any]) -> Iterator[dict[str, str]]:
    """All combinations of what a part takes as `images` and `empty`, its defaults first."""
    parameters = inspect.signature(part).parameters
    choices = {}
    for name in ("images", "empty"):
        if name in parameters:
            default = parameters[name].default
            options = get_args(parameters[name].annotation)
            if name == "images" and default is None:  # metrics of a confusion matrix say both in class attributes
                default, options = part.default_images, get_args(options[0])
            elif name == "empty":
                options = getattr(part, "policies", options)
            choices[name] = sorted(options, key=lambda option, default=default: option != default)
    yield from (dict(zip(choices, chosen, strict=True)) for chosen in itertools.product(*choices.values()))


def label(name: str, options: dict[str, Any]) -> str:
    """`soft_dice(empty="one")`."""
    inside = ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f'{key}="{value}"' for key, value in options.items()
    )
    return f"{name}({inside})" if inside else name


def our_losses() -> dict[str, Any]:
    """Every loss under every policy, and what is made of them."""
    from kerazoo.losses import LOSSES, CrossEntropy, ForegroundDice

    extra = {"soft_dice": [{"empty": "one", "smooth": 1.0}]}
    named = {
        label(name, options): LOSSES.create(name, **options)
        for name, kind in LOSSES.items()
        for options in (*policies(kind), *extra.get(name, ()))
    }
    return {**named, "cross_entropy + 0.1 foreground_dice": CrossEntropy() + 0.1 * ForegroundDice()}


def our_metrics() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Every metric under every policy: what it makes of masks and probabilities."""
    from kerazoo.metrics import METRICS, boundary_iou, hausdorff_distance

    measures = {}
    for name, kind in METRICS.items():
        classes = {"num_classes": 1} if "num_classes" in inspect.signature(kind).parameters else {}
        for options in policies(kind):
            measures[label(name, options)] = _streaming(kind(**classes, **options))
    for function in (boundary_iou, hausdorff_distance):
        for options in policies(function):
            measures[label(function.__name__, options)] = _mean_of(function, options)
    return measures


def our_rows() -> Iterator[dict[str, str]]:
    """What docs/empty_images.csv has to say, on whichever backend this runs."""
    from support.backend import value_and_gradient

    for name, loss in our_losses().items():
        yield from loss_rows(name, _loss_measure(loss, value_and_gradient))
    for name, measure in our_metrics().items():
        yield from metric_rows(name, measure)


def _loss_measure(loss: Any, value_and_gradient: Callable[..., Any]) -> Callable[[np.ndarray, np.ndarray], Any]:
    def measure(masks: np.ndarray, logits: np.ndarray) -> tuple[Any, Any]:
        weight = np.ones(len(masks), "float32") if getattr(loss, "needs_weight", None) else None
        return value_and_gradient(lambda x: loss(masks, x, sample_weight=weight), logits[..., None])

    return measure


def _streaming(metric: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    def measure(masks: np.ndarray, probabilities: np.ndarray) -> float:
        metric.reset_state()
        metric.update_state(masks, logits_of(probabilities)[..., None])
        return float(metric.result())

    return measure


def _mean_of(function: Callable[..., float], options: dict[str, str]) -> Callable[[np.ndarray, np.ndarray], float]:
    """Mean over the images that take part, as `kerazoo evaluate` takes it."""

    def measure(masks: np.ndarray, probabilities: np.ndarray) -> float:
        each = [function(mask, p > 0.5, **options) for mask, p in zip(masks, probabilities, strict=True)]
        defined = [value for value in each if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.nan

    return measure


if __name__ == "__main__":
    write(list(our_rows()))
