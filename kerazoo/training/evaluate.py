"""Evaluate a run: one of its checkpoints on one split, beside trivial predictors."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerazoo.inference import DecisionRule, Predictor, borders, scores
from kerazoo.report import html, plots
from kerazoo.training import rules
from kerazoo.training.build import make_batches, plain_data_errors
from kerazoo.training.recipe import Recipe
from kerazoo.training.run import SPLITS, load_model, open_source, read_run, read_split, write_counts, write_json

if TYPE_CHECKING:
    from kerazoo.data.source import Source

LESS_IS_BETTER = ("empty_false_positive_pixels", "hausdorff_95")


def evaluate(
    run_directory: str | Path,
    split: str = "test",
    data: "str | Path | Source | None" = None,
    *,
    threshold: float | None = None,
    checkpoint: str | None = None,
    surface: bool | None = None,
    tune_rule: bool = False,
    metric: str | None = None,
    console: Any = None,
) -> dict[str, Any]:
    """Measure a run on one split, and write evaluation.json, the curves, the gallery and the report.

    Masks are compared at the recipe's image size. Foreground that is too small to survive resizing is not in them: such
    an image counts as empty here, and `vanished_foreground` says how many there are.

    Args:
        run_directory: Directory that `train` wrote.
        split: "train", "val" or "test".
        data: Directory of the data or a `Source`; None takes the place the run was trained from.
        threshold: `pixel_threshold` of `kerazoo.inference.DecisionRule`; None takes the rule that was tuned for this
            checkpoint, else the recipe's threshold.
        checkpoint: "best" or "last"; None takes the recipe's.
        surface: Whether to compare borders too, `boundary_iou` and `hausdorff_95` (in mm if the recipe has
            `evaluation.spacing`, else in pixels); None takes the recipe's.
        tune_rule: Whether to tune the rule on the validation split first. It is written to rule.json, its surface to
            rule_surface.csv and into the report, and it is the rule of the run from then on.
        metric: Name of the metric that the rule is tuned by; None is per_image_dice.
        console: A `rich.console.Console` to print the table on, or None.

    Returns: A dict with `split`, `checkpoint`, `epoch`, `threshold`, `rule`, `decision` (the rule in words), `tuned_by`
        (a metric, or None), `image_size`, `images`, `foreground_images` and `vanished_foreground` (at this size),
        `class_names`; `metrics`: name to `value`, `low`, `high` (bounds only if the recipe asks for intervals);
        `trivial`: name to the better value of the predictors in `trivial_predictors`, which holds each one's metrics;
        `per_image`: rows of `id`, `true_pixels`, `predicted_pixels`,
        `false_positives`, `false_negatives`, `dice`, with `surface` also its two metrics, the worst first.

    Raises:
        FileNotFoundError: The directory is not a run, or has no checkpoint yet, or the data are gone.
        ValueError: An argument is wrong, or the data are not those of the run.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}; received {split!r}.")
    run = Path(run_directory)
    recipe, facts = read_run(run)
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"`threshold` is a probability between 0 and 1; received {threshold}.")
    if tune_rule and (threshold is not None or split == rules.SPLIT):
        raise ValueError(
            f"A rule is tuned on the split {rules.SPLIT!r}, measured on another, and chooses its own threshold; "
            f"received split={split!r}, threshold={threshold}."
        )
    if metric is not None and not tune_rule:
        raise ValueError(f"`metric` is what the rule is tuned by: give tune_rule with it; received {metric!r}.")
    checkpoint = recipe.evaluation.checkpoint if checkpoint is None else checkpoint
    surface = recipe.evaluation.surface if surface is None else surface
    predictor = _RunPredictor(recipe, load_model(run, checkpoint), channels=facts["channels"])
    source = open_source(recipe, facts["data"] if data is None else data)
    splits = read_split(run, source)
    if tune_rule:
        validation = splits[rules.SPLIT]
        outputs = predictor.probabilities(validation)
        choice = rules.tune(run, recipe, checkpoint, validation, outputs, metric=metric or "per_image_dice")
    else:
        choice = rules.choose(run, recipe, checkpoint, threshold=threshold)
    rule, samples = choice.rule, splits[split]
    counts, edges = _count(predictor, samples, rule, surface=surface)
    vanished = int((samples.foreground & ~counts.foreground).sum())
    result = {
        "split": split,
        "checkpoint": checkpoint,
        "epoch": rules.epoch_of(run, checkpoint),
        "threshold": rule.pixel_threshold,
        "rule": asdict(rule),
        "decision": str(rule),
        "tuned_by": choice.tuned_by,
        "image_size": list(recipe.data.image_size),
        "images": len(samples),
        "foreground_images": int(counts.foreground.sum()),
        "vanished_foreground": vanished,
        "class_names": list(source.class_names),
        **_summary(recipe, counts, edges, foreground_names(source.class_names, source.num_classes)),
        "per_image": _rows(samples.ids, counts, edges),
    }
    write_counts(run, samples.ids, counts)
    write_json(run / "evaluation.json", result)
    _draw(run, predictor, samples, rule, counts)
    if console is not None:
        rules.announce(choice, console)
        console.print(table(result))
        if vanished:
            height, width = recipe.data.image_size
            console.print(
                f"warning: {vanished} of {int(samples.foreground.sum())} images with foreground have an empty mask at "
                f"{height}x{width} and count as empty; a larger data.image_size keeps small foreground.",
                highlight=False,
                soft_wrap=True,
            )
        console.print(f"report: {run / 'report.html'}", highlight=False, soft_wrap=True)
    return result


def foreground_names(class_names: tuple[str, ...], num_classes: int) -> tuple[str, ...]:
    """Names of the classes that are not background."""
    return tuple(class_names) if num_classes == 1 else tuple(class_names[1:])


def table(result: dict[str, Any]) -> Any:
    """Lay out an evaluation as a `rich` table: the trivial predictors, the model, its intervals."""
    from rich.table import Table

    images = f"{result['images']} {result['split']} images, {result['foreground_images']} with foreground"
    model = f"{result['checkpoint']} epoch, {result['epoch']}, {result['decision']}"
    view = Table(title=f"{images}; {model}", title_justify="left")
    view.add_column("metric", no_wrap=True)
    predictors = result["trivial_predictors"]
    for name in predictors:
        view.add_column(name.replace("_", " "), justify="right")
    view.add_column("model", justify="right", style="bold")
    bounded = any(entry.get("low") is not None for entry in result["metrics"].values())
    if bounded:
        view.add_column(f"{result['confidence']:.0%} interval", justify="right")
    for name, entry in result["metrics"].items():
        cells = [_number(predictor[name]) for predictor in predictors.values()] + [_number(entry["value"])]
        if bounded:
            cells.append(f"{_number(entry['low'])}–{_number(entry['high'])}")
        view.add_row(name.replace("_", " "), *cells)
    return view


def _number(value: float | None) -> str:
    if value is None or value != value:  # NaN
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


class _RunPredictor:
    """The model of a run, on images and masks as the recipe's pipeline prepares them, in the order of the samples."""

    def __init__(self, recipe: Recipe, model: keras.Model, *, channels: int):
        self.recipe, self._predictor, self._channels = recipe, Predictor(model), channels

    def probabilities(self, samples: "Source") -> Iterator[tuple]:
        """Batches of images, truths, probabilities and label probabilities (or None)."""
        with plain_data_errors():
            for images, truth in make_batches(self.recipe, samples, channels=self._channels, train=False):
                images = np.asarray(images)
                yield images, np.asarray(truth), *self._predictor.predict_on_batch(images)

    def masks(self, samples: "Source", rule: DecisionRule) -> Iterator[tuple]:
        """Batches of images, truths, masks and probabilities."""
        for images, truth, probability, label in self.probabilities(samples):
            masks, _ = rule(probability, label=label)
            yield images, truth, keras.ops.convert_to_numpy(masks), probability


def _count(
    predictor: _RunPredictor, samples: "Source", rule: DecisionRule, *, surface: bool
) -> tuple[scores.Counts, np.ndarray | None]:
    """Pixels of each image, and with `surface` the metrics of its borders by `borders.measure`."""
    classes = {"num_classes": samples.num_classes, "ignore_class": samples.ignore_class}
    spacing = predictor.recipe.evaluation.spacing
    counts, edges = [], []
    for _, truth, masks, _ in predictor.masks(samples, rule):
        counts.append(scores.count(truth, masks, **classes))
        if surface:
            edges.append(borders.measure(truth, masks, spacing=spacing, **classes))
    return scores.concatenate(counts), np.concatenate(edges) if surface else None


def _summary(recipe: Recipe, counts: scores.Counts, edges: np.ndarray | None, names: tuple[str, ...]) -> dict[str, Any]:
    """Metrics with intervals, and the trivial predictors'."""
    settings = recipe.evaluation
    values = scores.metrics(counts, names)
    predictors = {name: scores.metrics(trivial, names) for name, trivial in scores.trivial(counts).items()}
    resample = {"resamplings": settings.bootstrap, "confidence": settings.confidence}
    bounds = scores.intervals(counts, names, **resample) if settings.bootstrap else {}
    if edges is not None:
        values |= borders.metrics(edges[:, 0])
        bounds |= borders.intervals(edges[:, 0], **resample) if settings.bootstrap else {}
        for name, trivial in borders.trivial(edges, counts).items():
            predictors[name] |= borders.metrics(trivial)
    measured = {name: {"value": value} for name, value in values.items()}
    for name, (low, high) in bounds.items():
        measured[name] |= {"low": low, "high": high}
    better = {}
    for name in measured:
        defined = [values[name] for values in predictors.values() if not np.isnan(values[name])]
        better[name] = (min(defined) if name in LESS_IS_BETTER else max(defined)) if defined else float("nan")
    return {
        "metrics": measured,
        "trivial": better,
        "trivial_predictors": predictors,
        "bootstrap": {"resamplings": settings.bootstrap, "of": "images", "method": "percentile"},
        "confidence": settings.confidence,
    }


def _rows(ids: list[str], counts: scores.Counts, edges: np.ndarray | None) -> list[dict[str, Any]]:
    pixels = {
        "true_pixels": counts.true.sum(axis=1),
        "predicted_pixels": counts.predicted.sum(axis=1),
        "false_positives": counts.false_positives,
        "false_negatives": counts.false_negatives,
    }
    shares = {"dice": counts.dice} | (borders.per_image(edges[:, 0]) if edges is not None else {})
    return [
        {
            "id": ids[i],
            **{name: int(values[i]) for name, values in pixels.items()},
            **{name: float(values[i]) for name, values in shares.items()},
        }
        for i in _worst_first(counts)
    ]


def _worst_first(counts: scores.Counts) -> np.ndarray:
    """Indices of the images, lowest Dice first and among equals most wrong pixels first."""
    return np.lexsort((-(counts.false_positives + counts.false_negatives), counts.dice))


def _examples(counts: scores.Counts, number: int) -> np.ndarray:
    """Indices of up to `number` images that show the range: two thirds with foreground, by Dice, one third empty."""
    order = _worst_first(counts)
    foreground = order[counts.foreground[order]][::-1]
    empty = order[~counts.foreground[order]][::-1]
    from_empty = min(len(empty), max(number // 3, number - len(foreground)))

    def spread(indices: np.ndarray, size: int) -> np.ndarray:
        return indices[np.unique(np.linspace(0, len(indices) - 1, min(size, len(indices))).round().astype(int))]

    return np.concatenate([spread(foreground, number - from_empty), spread(empty, from_empty)])


def _draw(run: Path, predictor: _RunPredictor, samples: "Source", rule: DecisionRule, counts: scores.Counts) -> None:
    """Write the curves, the galleries `worst` and `examples`, and the report."""
    if (run / "metrics.csv").is_file():
        plots.curves(run / "metrics.csv", run / "plots" / "curves.png")
    number, names = predictor.recipe.evaluation.gallery, tuple(samples.class_names)
    names = ("background", *names) if samples.num_classes == 1 else names
    chosen = {"worst": _worst_first(counts)[:number], "examples": _examples(counts, number)} if number else {}
    for name, indices in chosen.items():
        picked, rows = samples.subset(indices.tolist()), []
        for batch in predictor.masks(picked, rule):
            for image, truth, mask, probability in zip(*batch, strict=True):
                truth = np.where(truth == samples.ignore_class, 0, truth)
                row = {"image": image, "truth": truth, "prediction": mask, "probability": probability}
                rows.append({**row, "title": picked.ids[len(rows)]})
        plots.gallery(rows, run / "gallery" / f"{name}.png", class_names=names, ignore_class=samples.ignore_class)
    html.write(run)
