"""Figures of a run: learning curves and galleries, written as PNG without global matplotlib state."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kerazoo.report.colors import (
    ERROR_COLORS,
    as_mask,
    class_color,
    dilate,
    error_kinds,
    error_map,
    outline_width,
    overlay,
    paint_errors,
    to_rgb,
)
from kerazoo.report.figures import INK, check_rows, draw_rows, save, scale_colors, shorten, tiles

__all__ = ["curves", "error_map", "gallery", "heat_maps", "overlay", "rule_surface", "tiles"]

_CLASSES_PER_LINE = 6
_GRID = "#DDDDDD"
_TRAIN, _VALIDATION = "#0072B2", "#D55E00"
_SETTINGS = {
    "pixel_threshold": "pixel threshold",
    "image_threshold": "image threshold",
    "min_area": "smallest area, px",
}


def curves(metrics_csv: str | Path, path: str | Path) -> Path:
    """Plot learning curves: every quantity of a Keras `CSVLogger` file, training beside validation.

    Args:
        metrics_csv: File with a column `epoch` (from 0) and any other columns; `val_x` is drawn in the panel of `x`.
            Cells that are empty or no number are gaps; of an epoch written twice (after a resume) the last row counts.
        path: PNG to write; missing directories are made.

    Returns: `path`.
    Raises: FileNotFoundError if `metrics_csv` is missing; ValueError if it has no epoch or no quantity to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs, columns = read_metrics(metrics_csv)
    names = list(dict.fromkeys(column.removeprefix("val_") for column in columns))
    names.sort(key=lambda name: (name != "loss", name == "learning_rate"))  # loss first, learning rate last
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 3.1 * down), dpi=110, layout="constrained", facecolor="white")
    for position, name in enumerate(names):
        axes = figure.add_subplot(down, across, position + 1)
        both = name in columns and f"val_{name}" in columns
        for column, label, color in ((name, "training", _TRAIN), (f"val_{name}", "validation", _VALIDATION)):
            if column in columns:
                marker = "o" if np.isfinite(columns[column]).sum() < 15 else None
                shown = np.isfinite(columns[column])  # a line across the epochs that were not measured
                axes.plot(
                    epochs[shown], columns[column][shown], color=color, label=label, marker=marker, ms=3.5, lw=1.8
                )
        axes.set_title(_words(name), loc="left", fontsize=11, color=INK, parse_math=False)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "learning_rate" and np.nanmin(columns[name]) > 0:
            axes.set_yscale("log")
        if both or name not in columns:
            axes.legend(frameon=False, fontsize=9)
        axes.grid(color=_GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    return save(figure, path)


def gallery(
    rows: Sequence[Mapping],
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    ignore_class: int | None = None,
    title: str | None = None,
) -> Path:
    """Draw cases one under the other: image, truth, prediction and error map, and the probability if every row has one.

    Args:
        rows: One mapping per case, at most 64: `image` `(H, W)` or `(H, W, C)` of any numeric dtype; `truth` and
            `prediction` `(H, W)` class ids; optionally `probability`, float `(H, W)` of the foreground or `(H, W, C)`
            of the classes; and `title` (or `id`), to which the Dice coefficient is added. Sizes and channels may differ
            from row to row.
        path: PNG to write; missing directories are made.
        class_names: Names of all classes from id 0, the background, on; shown in the legend if there are several
            foreground classes.
        ignore_class: Id in the truth of pixels that count nowhere, drawn as background; None if there are none.
        title: Line above the pictures, or None.

    Returns: `path`.
    Raises: ValueError if there is no row or too many, or if the sizes inside a row differ.
    """
    check_rows(rows)
    with_probability = all(row.get("probability") is not None for row in rows)
    headings = ["image", "truth", "prediction", "errors"] + ["probability"] * with_probability
    masks = [_masks(row, ignore_class) for row in rows]
    classes = sorted({int(i) for pair in masks for mask in pair for i in np.unique(mask) if i > 0})
    legend = _legend_lines(classes, list(class_names or ()), with_probability)
    drawn = [
        (f"{shorten(_name(row))}    {describe(truth, prediction)}", _panels(row, truth, prediction, with_probability))
        for row, (truth, prediction) in zip(rows, masks, strict=True)
    ]
    return draw_rows(drawn, path, headings=headings, legend=legend, title=title)


def heat_maps(
    rows: Sequence[Mapping],
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    ignore_class: int | None = None,
    title: str | None = None,
) -> Path:
    """Draw class activation maps, case by case: image, truth if every row has one, heat map, thresholded map.

    Args:
        rows: One mapping per case, at most 64: `image` `(H, W)` or `(H, W, C)` of any numeric dtype; `heat`, float in
            [0, 1], `(H, W)` of the foreground or `(H, W, C)` of the classes, of which the highest of the foreground is
            drawn; `mask` `(H, W)` class ids; optionally `truth` `(H, W)`; and `title` (or `id`), to which the Dice
            coefficient is added where there is a truth.
        path: PNG to write; missing directories are made.
        class_names: Names of all classes from id 0, the background, on; shown in the legend if there are several
            foreground classes.
        ignore_class: Id in the truth of pixels that count nowhere, drawn as background; None if there are none.
        title: Line above the pictures, or None.

    Returns: `path`.
    Raises: ValueError if there is no row or too many, or if the sizes inside a row differ.
    """
    check_rows(rows)
    with_truth = all(row.get("truth") is not None for row in rows)
    drawn, shown = [], set()
    for row in rows:
        truth, mask = _masks({**row, "prediction": row["mask"], "truth": row.get("truth", row["mask"])}, ignore_class)
        heat = _foreground(np.asarray(row["heat"], "float32"))
        if heat.shape != mask.shape:
            raise ValueError(f"`heat` and `mask` of a row must be alike in size; received {heat.shape}, {mask.shape}.")
        shown |= {int(i) for i in np.union1d(np.unique(truth), np.unique(mask)) if i > 0}
        pictures = [to_rgb(row["image"]), overlay(row["image"], truth), heat, overlay(row["image"], mask)]
        caption = f"{shorten(_name(row))}    {describe(truth, mask)}" if with_truth else shorten(_name(row))
        drawn.append((caption, pictures if with_truth else [pictures[0], *pictures[2:]]))
    headings = ["image", *["truth"] * with_truth, "heat map", "thresholded map"]
    legend = [[("heat map:", None), *scale_colors()], *_class_lines(sorted(shown), list(class_names or ()))]
    return draw_rows(drawn, path, headings=headings, legend=legend, title=title)


def rule_surface(surface_csv: str | Path, rule_json: str | Path, path: str | Path) -> Path:
    """Plot a metric over the settings of a decision rule, with the chosen ones marked.

    For every setting that was varied the metric over its values, each with the best of the others; and for pixel and
    image threshold together, with the best smallest area. The lines are the grid of the search, the marks the chosen
    rule and the one before.

    Args:
        surface_csv: File that `kerazoo.inference.Tuning.save` wrote.
        rule_json: File with the `rule`, the `start` rule, their `value` and `start_value`, `metric` and `split`.
        path: PNG to write; missing directories are made.

    Returns: `path`.
    Raises: FileNotFoundError if a file is missing; ValueError if no setting was varied.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    facts = json.loads(Path(rule_json).read_text(encoding="utf-8"))
    grid = _grid(surface_csv, facts["rule"])
    varied = [name for name in _SETTINGS if len({row[name] for row in grid}) > 1]
    if not varied:
        raise ValueError(f"`surface_csv` {Path(surface_csv).name!r} varies no setting, so there is nothing to draw.")
    both = varied[:2] == ["pixel_threshold", "image_threshold"]
    figure = Figure(figsize=(4.2 * (len(varied) + both), 3.6), dpi=110, layout="constrained", facecolor="white")
    panels = list(figure.subplots(1, len(varied) + both, squeeze=False)[0])
    if both:
        _draw_plane(figure, panels.pop(0), grid, facts)
    marks = [("chosen", "*", _VALIDATION, facts["rule"], facts["value"])]
    if facts["start_value"] is not None:
        marks.insert(0, ("before", "o", _TRAIN, facts["start"], facts["start_value"]))
    for axes, name in zip(panels, varied, strict=True):
        values, best = _envelope(grid, name)
        places = {value: place for place, value in enumerate(values)} if name == "image_threshold" else None
        axes.plot(
            [place if places is None else places[place] for place in values], best, color=INK, lw=1.6, label="grid"
        )
        for label, marker, color, rule, value in marks:
            x = rule[name] if places is None else _place(values, rule[name])
            axes.plot([x], [value], marker, color=color, ms=13 if marker == "*" else 8, mec="white", label=label)
        if places is not None:
            _tick_thresholds(axes.xaxis, values)
        elif name == "min_area":
            axes.set_xscale("symlog", linthresh=1)
            axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel(_SETTINGS[name])
        axes.grid(color=_GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    panels[0].set_ylabel(f"{_words(facts['metric'])}, best of the other settings", parse_math=False)
    panels[0].legend(frameon=False, fontsize=9)
    title = f"{_words(facts['metric'])} on the {facts['split'] or 'tuning'} images"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK, parse_math=False)
    return save(figure, path)


def describe(truth: np.ndarray, prediction: np.ndarray) -> str:
    """Caption of a case: its Dice coefficient, or the false-positive pixels of an empty image.

    With several foreground classes it is the mean over those of the truth or the prediction.
    """
    truth, prediction = as_mask(truth, "truth"), as_mask(prediction, "prediction")
    false_pixels = int(np.count_nonzero(prediction))
    if not truth.any():
        return f"empty, {false_pixels} false-positive px" if false_pixels else "empty, nothing found"
    classes = [i for i in np.union1d(np.unique(truth), np.unique(prediction)) if i > 0]
    overlap = [2 * np.count_nonzero((truth == i) & (prediction == i)) for i in classes]
    total = [np.count_nonzero(truth == i) + np.count_nonzero(prediction == i) for i in classes]
    return f"Dice {np.mean(np.divide(overlap, total)):.2f}"


def read_metrics(metrics_csv: str | Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Epochs, counted from 1, and the columns of a `CSVLogger` file that hold at least one finite number.

    Raises: FileNotFoundError, or ValueError if there is nothing in it.
    """
    path = Path(metrics_csv)
    if not path.is_file():
        raise FileNotFoundError(f"`metrics_csv` {path.name!r} does not exist. It is written during training.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["epoch"]: row for row in csv.DictReader(file) if row.get("epoch") not in (None, "", "epoch")}
    names = list(dict.fromkeys(name for row in rows.values() for name in row if name and name != "epoch"))
    columns = {name: np.array([_number(row.get(name)) for row in rows.values()]) for name in names}
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if not columns:
        raise ValueError(f"`metrics_csv` {path.name!r} has no finished epoch, so there is nothing to draw.")
    return np.array([int(float(epoch)) + 1 for epoch in rows]), columns


def _grid(surface_csv: str | Path, rule: Mapping) -> list[dict[str, float]]:
    """The first grid of the search, for rules with the score, rank and kind of area of `rule`.

    A missing image threshold is -inf: no image is called empty.
    """
    kind = {name: str(rule[name]) for name in ("per_component", "score", "rank")}
    with Path(surface_csv).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["round"] == "0" and kind.items() <= row.items()]
    return [{name: float(row[name] or "-inf") for name in (*_SETTINGS, "value")} for row in rows]


def _envelope(grid: Sequence[Mapping], *names: str) -> tuple[list, list[float]]:
    """Sorted values (tuples for several names), and the best metric at each."""
    best: dict = {}
    for row in grid:
        key = row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)
        best[key] = max(best.get(key, -np.inf), -np.inf if np.isnan(row["value"]) else row["value"])
    order = sorted(best)
    return order, [best[key] if np.isfinite(best[key]) else np.nan for key in order]


def _draw_plane(figure, axes, grid: Sequence[Mapping], facts: Mapping) -> None:
    """Heat map of the metric over pixel threshold and image threshold, each cell with the best smallest area."""
    cells, best = _envelope(grid, "pixel_threshold", "image_threshold")
    across, up = (sorted({cell[i] for cell in cells}) for i in range(2))
    plane = np.full((len(up), len(across)), np.nan)
    for (x, y), value in zip(cells, best, strict=True):
        plane[up.index(y), across.index(x)] = value
    picture = axes.pcolormesh(range(len(across)), range(len(up)), plane, cmap="viridis", shading="nearest")
    figure.colorbar(picture, ax=axes, pad=0.02).ax.tick_params(labelsize=8)
    for marker, color, rule in (("o", _TRAIN, facts["start"]), ("*", _VALIDATION, facts["rule"])):
        x, y = _place(across, rule["pixel_threshold"]), _place(up, rule["image_threshold"])
        axes.plot([x], [y], marker, color=color, ms=13 if marker == "*" else 8, mec="white")
    _tick_thresholds(axes.xaxis, across)
    _tick_thresholds(axes.yaxis, up)
    axes.set_xlabel(_SETTINGS["pixel_threshold"])
    axes.set_ylabel(_SETTINGS["image_threshold"])


def _place(values: Sequence[float], value: float | None) -> float:
    """Position of a value on an axis whose `values` are evenly spaced; None is the first, "none"."""
    if value is None or value <= values[0]:
        return 0.0
    first = 1 if values[0] == -np.inf else 0
    return float(np.interp(value, values[first:], range(first, len(values))))


def _tick_thresholds(axis, values: Sequence[float]) -> None:
    """Label about six of the thresholds."""
    places = np.unique(np.linspace(0, len(values) - 1, min(6, len(values))).round().astype(int))
    axis.set_ticks(places, ["none" if values[i] == -np.inf else f"{values[i]:.3g}" for i in places])


def _panels(row: Mapping, truth: np.ndarray, prediction: np.ndarray, with_probability: bool) -> list[np.ndarray]:
    image = row["image"]
    kinds = dilate(error_kinds(truth, prediction), outline_width(truth.shape) - 1)  # single pixels survive a thumbnail
    panels = [to_rgb(image), overlay(image, truth), overlay(image, prediction), paint_errors(kinds, image)]
    if with_probability:
        panels.append(_foreground(np.asarray(row["probability"], "float32")))
    return panels


def _foreground(probability: np.ndarray) -> np.ndarray:
    """`(H, W)` largest foreground probability from `(H, W)`, `(H, W, 1)` or, with the background first, `(H, W, C)`."""
    if probability.ndim == 2:
        return probability
    return probability[..., 0] if probability.shape[-1] == 1 else probability[..., 1:].max(axis=-1)


def _legend_lines(
    classes: list[int], class_names: list[str], with_probability: bool
) -> list[list[tuple[str, str | None]]]:
    """Lines of the legend: names with their colors, headings without."""
    errors = [(kind, color) for kind, color in ERROR_COLORS.items() if len(classes) > 1 or kind != "wrong class"]
    lines: list[list[tuple[str, str | None]]] = [[("errors:", None), *errors], *_class_lines(classes, class_names)]
    if with_probability:
        lines.append([("probability:", None), *scale_colors()])
    return lines


def _class_lines(classes: list[int], class_names: list[str]) -> list[list[tuple[str, str | None]]]:
    """Lines with the colors of the foreground classes, where there are several."""
    lines = []
    for start in range(0, len(classes) if len(classes) > 1 else 0, _CLASSES_PER_LINE):
        some = classes[start : start + _CLASSES_PER_LINE]
        named = [(class_names[i] if i < len(class_names) else str(i), class_color(i)) for i in some]
        lines.append([("" if start else "classes:", None), *named])
    return lines


def _masks(row: Mapping, ignore_class: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of a row, background where the truth is to be ignored."""
    truth, prediction = as_mask(row["truth"], "truth"), as_mask(row["prediction"], "prediction")
    if not truth.shape == prediction.shape == np.shape(row["image"])[:2]:
        raise ValueError(
            f"`image`, `truth` and `prediction` of a row must have the same height and width; received "
            f"{np.shape(row['image'])}, {truth.shape} and {prediction.shape}."
        )
    counted = 1 if ignore_class is None else truth != ignore_class
    return truth * counted, prediction * counted


def _name(row: Mapping) -> str:
    return str(row.get("title") or row.get("id") or "")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(cell: str | None) -> float:
    try:
        return float(cell) if cell is not None else np.nan
    except ValueError:  # CSVLogger writes NA for what was not measured in an epoch
        return np.nan
