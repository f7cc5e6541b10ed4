"""Compare runs: the same recipe with other seeds is one experiment, and its spread is part of the result."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kerazoo.training.run import read_run, require_file


class Spread(NamedTuple):
    """Mean over runs, sample standard deviation (None for a single run), and the number of runs it is defined in."""

    mean: float
    deviation: float | None
    runs: int


class Experiment(NamedTuple):
    """Runs whose recipes differ in nothing but seeds.

    Attributes:
        name: Name of the recipe.
        runs: Directories of the runs.
        seeds: Their training seeds.
        metrics: Name to spread; a metric that no run defines is left out.
    """

    name: str
    runs: list[Path]
    seeds: list[int]
    metrics: dict[str, Spread]


def compare(runs: Iterable[str | Path]) -> list[Experiment]:
    """Group evaluated runs by recipe, in the order given.

    Args:
        runs: Run directories with an evaluation.json.

    Raises:
        FileNotFoundError: A directory is not a run, or not evaluated.
        ValueError: No run is given, one is given twice, they were evaluated on different splits, or runs of one recipe
            with different thresholds or checkpoints, or with rules that were tuned by different metrics.
    """
    paths = [Path(run) for run in runs]
    if not paths:
        raise ValueError("Give at least one run directory.")
    twice = sorted({str(path) for path in paths if [other.resolve() for other in paths].count(path.resolve()) > 1})
    if twice:
        raise ValueError(f"A run counts once; {', '.join(twice)} is given several times.")
    found: dict[str, list[tuple[Path, Any, dict[str, Any]]]] = {}
    splits = {}
    for path in paths:
        recipe, _ = read_run(path)
        evaluation = json.loads(require_file(path, "evaluation.json").read_text(encoding="utf-8"))
        splits[evaluation["split"]] = path
        found.setdefault(_without_seeds(recipe), []).append((path, recipe, evaluation))
    if len(splits) > 1:
        said = " and ".join(f"{path} on {split!r}" for split, path in splits.items())
        raise ValueError(f"The runs were evaluated on different splits: {said}. Evaluate them on the same one.")
    for members in found.values():
        _judged_alike(members)
    return [
        Experiment(
            name=members[0][1].name,
            runs=[path for path, _, _ in members],
            seeds=[recipe.training.seed for _, recipe, _ in members],
            metrics=_spreads([evaluation["metrics"] for _, _, evaluation in members]),
        )
        for members in found.values()
    ]


def table(experiments: list[Experiment]) -> Any:
    """A `rich` table with one row per experiment: mean ± standard deviation over seeds."""
    from rich.table import Table

    view = Table(title="mean ± standard deviation over runs of one recipe", title_justify="left")
    names = list(dict.fromkeys(name for experiment in experiments for name in experiment.metrics))
    view.add_column("recipe")
    view.add_column("seeds")
    for name in names:
        view.add_column(name.replace("_", " "), justify="right")
    for experiment in experiments:
        cells = [_cell(experiment.metrics.get(name)) for name in names]
        view.add_row(experiment.name, " ".join(map(str, experiment.seeds)), *cells)
    return view


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    digits = 3 if abs(spread.mean) < 10 else 1
    text = f"{spread.mean:.{digits}f}"
    return text if spread.deviation is None else f"{text} ± {spread.deviation:.{digits}f}"


def _judged_alike(members: list[tuple[Path, Any, dict[str, Any]]]) -> None:
    """Raise ValueError if runs of one recipe cannot share a mean: `kerazoo evaluate` takes other settings than its."""
    for setting in ("checkpoint", "tuned_by", "threshold"):
        if setting == "threshold" and members[0][2].get("tuned_by"):
            continue  # each run has the rule that was tuned for it
        runs = {evaluation.get(setting): path for path, _, evaluation in members}
        if len(runs) > 1:
            said = " and ".join(f"{path} with {value}" for value, path in runs.items())
            raise ValueError(
                f"Runs of one recipe were evaluated with different values of {setting}: {said}. Evaluate them alike."
            )


def _spreads(runs: list[dict[str, Any]]) -> dict[str, Spread]:
    spreads = {}
    for name in dict.fromkeys(name for metrics in runs for name in metrics):
        values = [metrics[name]["value"] for metrics in runs if metrics.get(name, {}).get("value") is not None]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            spreads[name] = Spread(statistics.fmean(values), deviation, len(values))
    return spreads


def _without_seeds(recipe: Any) -> str:
    """The recipe as text, less its name, its seeds, and what does not change the model."""
    content = recipe.model_dump(mode="json", exclude={"name": True, "training": {"seed"}, "data": {"split": {"seed"}}})
    return json.dumps(content, sort_keys=True)
