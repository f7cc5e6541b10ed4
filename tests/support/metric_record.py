"""What every metric says of a fixed stream of batches, under each of its settings, as plain lists for a golden file.

python -m support.metric_record FILE      (in tests/)
"""

import inspect
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import kerazoo as kz

SHAPE = (6, 5, 7)
KINDS = ("random", "near", "empty", "full", "ignored", "all ignored", "outside")
GRID: dict[str, tuple[Any, ...]] = {
    "images": ("non_empty", "all"),
    "average": ("foreground", None),
    "empty": ("skip", "one", "penalize"),
    "min_area": (1, 4),
    "bins": (2, 15),
}


def stream(kind: str, channels: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Truth and float32 logits."""
    rng = np.random.default_rng([seed, channels, KINDS.index(kind)])
    ids = max(2, channels)
    truth = rng.integers(0, ids, shape)
    truth[: len(truth) // 3] = 0
    logits = rng.normal(0, 2, (*shape, channels))
    if kind == "near":
        logits = logits / 2 + 3 * (2 * (truth[..., None] == (1 if channels == 1 else np.arange(channels))) - 1)
    if kind in ("empty", "full"):
        truth[:] = 0 if kind == "empty" else ids - 1
    if kind == "ignored":
        truth[rng.random(shape) < 0.4], truth[-1] = 255, 255
    if kind == "all ignored":
        truth[:] = 255
    if kind == "outside":
        truth[0].flat[0] = ids
    return truth, logits.astype("float32")


def settings(name: str, channels: int) -> Iterator[dict[str, Any]]:
    """Every combination of what the metric takes, each with one threshold; of `empty` those that it has."""
    parameters = inspect.signature(kz.metrics.METRICS[name]).parameters
    fixed = {"num_classes": channels} if "num_classes" in parameters else {}
    choices = {key: values for key, values in GRID.items() if key in parameters}
    if "empty" in choices:
        choices["empty"] = getattr(kz.metrics.METRICS[name], "policies", choices["empty"])
    thresholds = itertools.cycle((0.5, 0.05, 0.9) if channels == 1 else (0.5,))
    for chosen in itertools.product(*choices.values()):
        own = {"threshold": next(thresholds)} if "threshold" in parameters else {}
        yield {**fixed, **dict(zip(choices, chosen, strict=True)), **own, "ignore_class": 255}


def plain(value: Any) -> Any:
    """Nested lists; JSON keeps float32 and float64 exactly."""
    return np.asarray(ops.convert_to_numpy(value)).tolist()


def measured(metric: keras.metrics.Metric, batches: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Result and exact counts after the batches."""
    metric.reset_state()
    for truth, logits in batches:
        metric.update_state(truth, logits)
    found = {"result": plain(metric.result())}
    for name in ("per_class", "counts", "curve"):
        known = name != "per_class" or "average" in metric.get_config()
        if known and hasattr(metric, name) and not isinstance(metric, kz.metrics.ImageAUC):
            found[name] = plain(getattr(metric, name)())
    return found


def record() -> dict[str, Any]:
    """Name and settings to state, configuration and what is measured."""
    rows = {}
    for name, kind in kz.metrics.METRICS.items():
        plain_arguments = {"num_classes": 3} if "num_classes" in inspect.signature(kind).parameters else {}
        metric = kind(**plain_arguments)
        variables = {variable.path.partition("/")[2]: list(variable.shape) for variable in metric.variables}
        rows[name] = {"config": metric.get_config(), "variables": variables}
        for channels in (1, 3):
            for arguments in settings(name, channels):
                metric = kz.metrics.create(name, **arguments)
                batches = [stream(case, channels) for case in ("random", "near", "ignored")]
                empty = [stream(case, channels) for case in ("empty", "all ignored")]
                key = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
                rows[key] = {"all": measured(metric, batches + empty), "empty": measured(metric, empty)}
    return rows


def text(rows: dict[str, Any]) -> str:
    """JSON, a line for each row."""
    lines = (f"{json.dumps(key)}:{json.dumps(row, separators=(',', ':'))}" for key, row in rows.items())
    return "{" + ",\n".join(lines) + "}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(record()))
