"""Compare runs: recipes that differ in seeds alone are one experiment, reported with its spread and tested."""

import itertools
import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerazoo.training.run import read_run, require_file

RUNS_FOR_A_TEST = 8
"""Fewer runs are not tested: the approximate p of the Anderson-Darling test needs as many."""


class Spread(NamedTuple):
    """A metric over runs.

    Attributes:
        mean: Mean over the runs that define it.
        deviation: Sample standard deviation; None for a single run.
        median: Median.
        values: The values, in the order of the runs.
    """

    mean: float
    deviation: float | None
    median: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Spread of at least one finite number."""
        values = tuple(map(float, values))
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, statistics.median(values), values)

    def __str__(self) -> str:
        digits = 3 if abs(self.mean) < 10 else 1
        text = f"{self.mean:.{digits}f}"
        if self.deviation is not None:
            text += f" ± {self.deviation:.{digits}f}"
        return text if len(self.values) < 3 else f"{text} ({self.median:.{digits}f})"


class Experiment(NamedTuple):
    """Runs whose recipes differ in seeds alone.

    Attributes:
        name: Name of the recipe.
        runs: Directories of the runs.
        seeds: Their training seeds.
        metrics: Spread by name, of the metrics that a run defines.
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
        _check_evaluated_alike(members)
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
    """A `rich` table with one row per experiment: mean ± standard deviation over seeds (median, of three or more)."""
    from rich.table import Table

    what = "mean ± standard deviation"
    if any(len(spread.values) > 2 for experiment in experiments for spread in experiment.metrics.values()):
        what += " (median)"
    view = Table(title=f"{what} over runs of one recipe", title_justify="left")
    names = list(dict.fromkeys(name for experiment in experiments for name in experiment.metrics))
    view.add_column("recipe")
    view.add_column("seeds")
    for name in names:
        view.add_column(name.replace("_", " "), justify="right")
    for experiment in experiments:
        cells = [str(experiment.metrics.get(name, "–")) for name in names]
        view.add_row(experiment.name, " ".join(map(str, experiment.seeds)), *cells)
    return view


class Difference(NamedTuple):
    """Tests of whether two samples, such as a score over the seeds of two experiments, differ by more than chance.

    Attributes:
        medians: p of Mood's median test.
        means: p of Welch's t test; None where `normal` rejects a normal distribution, or there are too few values.
        normal: p of the Anderson-Darling test of each sample; None below 8 values, or where all are equal.
    """

    medians: float
    means: float | None
    normal: tuple[float | None, float | None]


def difference(first: Iterable[float], second: Iterable[float], *, level: float = 0.05) -> Difference:
    """Test two samples against each other: their medians and, if both look normally distributed, their means.

    Args:
        first: Finite numbers, one per seed.
        second: Likewise; not paired with `first`.
        level: Level at which the Anderson-Darling test rejects a normal distribution.

    Returns: the p values, two-sided and not corrected for several comparisons.

    Raises:
        ValueError: A sample is empty or not finite.
    """
    from scipy import stats

    first, second = _checked(first), _checked(second)
    normal = (normality(first), normality(second))
    means = None
    if all(p is not None and p >= level for p in normal):
        means = float(stats.ttest_ind(first, second, equal_var=False).pvalue)
    return Difference(median_test(first, second), means, normal)


def median_test(first: Iterable[float], second: Iterable[float]) -> float:
    """P of Mood's median test: do the samples lie above their common median equally often?

    χ² of the table of counts with Yates's correction. Values that are the median count as below it; if nothing is above
    it then as above, and if all values are equal p is 1.

    Raises:
        ValueError: A sample is empty or not finite.
    """
    from scipy import stats

    samples = [_checked(first), _checked(second)]
    median = statistics.median(itertools.chain(*samples))
    if min(map(min, samples)) == max(map(max, samples)):
        return 1.0
    ties = "below" if any(value > median for value in itertools.chain(*samples)) else "above"
    return float(stats.median_test(*samples, ties=ties).pvalue)


def normality(values: Iterable[float]) -> float | None:
    """P of the Anderson-Darling test for a normal distribution with the mean and variance of the sample.

    Returns: p; None for fewer than 8 values, for which its approximation does not hold, and where all are equal.

    Raises:
        ValueError: The sample is empty or not finite.
    """
    sample = np.array(_checked(values))
    if len(sample) < RUNS_FOR_A_TEST or np.ptp(sample) == 0:
        return None
    from statsmodels.stats.diagnostic import normal_ad

    with np.errstate(divide="ignore"):  # a far outlier has a tail probability of 0
        return float(normal_ad(sample)[1])


def differences(experiments: list[Experiment]) -> Any:
    """A `rich` table of tests of each experiment against the first, where both have enough runs; None if none has."""
    from rich.table import Table

    view = Table("recipe", "metric", "p of medians (Mood)", "p of means (Welch)", title_justify="left")
    view.title = f"against {experiments[0].name}"
    for other in experiments[1:]:
        for name, spread in other.metrics.items():
            first = experiments[0].metrics.get(name)
            if first is not None and min(len(first.values), len(spread.values)) >= RUNS_FOR_A_TEST:
                found = difference(first.values, spread.values)
                means = "–" if found.means is None else f"{found.means:.2g}"
                view.add_row(other.name, name.replace("_", " "), f"{found.medians:.2g}", means)
    return view if view.rows else None


def _checked(values: Iterable[float]) -> list[float]:
    numbers = [float(value) for value in values]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"A sample is one or more finite numbers, received {numbers}. Leave out what is undefined.")
    return numbers


def _check_evaluated_alike(members: list[tuple[Path, Any, dict[str, Any]]]) -> None:
    """Raise ValueError if runs of one recipe were evaluated with different settings, so that a mean makes no sense."""
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
            spreads[name] = Spread.of(values)
    return spreads


def _without_seeds(recipe: Any) -> str:
    """The recipe as text, without its name and seeds."""
    content = recipe.model_dump(mode="json", exclude={"name": True, "training": {"seed"}, "data": {"split": {"seed"}}})
    return json.dumps(content, sort_keys=True)
