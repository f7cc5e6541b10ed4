"""Arms of a study beside the first: over seeds, and over the images that all runs were judged on."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerazoo.inference.scores import Counts, interval, resampled_metrics
from kerazoo.training.evaluate import LESS_IS_BETTER, foreground_names
from kerazoo.training.experiments import Difference, Spread, difference
from kerazoo.training.run import read_counts, read_run

Values = Mapping[str, Mapping[int, float]]
"""Of one metric: by arm and seed."""


class Comparison(NamedTuple):
    """One metric of one arm, beside the first arm.

    Attributes:
        metric: Name of the metric.
        arm: Name of the arm.
        reference: Name of the first arm.
        spread: Of the arm, over its seeds.
        of_reference: Of the first arm.
        tests: Over seeds, as `kerazoo compare` does; None with fewer than two seeds of either.
        effect: Hedges's g, the difference of the means in standard deviations corrected for few seeds; None where those
            are not defined or 0.
        interval: Of the difference of the means, over images drawn with replacement, the same for both arms; None for
            metrics that are not sums over images, or without the counts of the runs.
        verdict: What may be said, in words.
    """

    metric: str
    arm: str
    reference: str
    spread: Spread
    of_reference: Spread
    tests: Difference | None
    effect: float | None
    interval: tuple[float, float] | None
    verdict: str


def compare_arms(
    values: Mapping[str, Values],
    runs: Mapping[str, Mapping[int, Path]],
    *,
    resamplings: int = 2000,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compare each arm with the first, metric by metric.

    Args:
        values: By metric, arm and seed; arms and seeds without a value are left out.
        runs: Directory of each run by arm and seed, whose counts the bootstrap takes.
        resamplings: Of the bootstrap.
        confidence: Coverage of its intervals; one minus it is the level of the tests.
    """
    found = []
    for metric, by_arm in values.items():
        (first, reference), *others = by_arm.items()
        for arm, of_arm in others:
            if not reference or not of_arm:
                continue
            mine, theirs = list(of_arm.values()), list(reference.values())
            several = min(len(mine), len(theirs)) > 1
            tests = difference(theirs, mine, level=1 - confidence) if several else None
            places = [[runs[name][seed] for seed in by_arm[name]] for name in (first, arm)]
            interval = _over_images(metric, *places, resamplings=resamplings, confidence=confidence)
            spreads = Spread.of(mine), Spread.of(theirs)
            verdict = _verdict(metric, *spreads, tests, interval, level=1 - confidence)
            effect = _effect(mine, theirs) if several else None
            found.append(Comparison(metric, arm, first, *spreads, tests, effect, interval, verdict))
    return found


def _effect(mine: list[float], theirs: list[float]) -> float | None:
    from statsmodels.stats.meta_analysis import effectsize_smd

    deviations = [float(np.std(sample, ddof=1)) for sample in (mine, theirs)]
    if max(deviations) == 0:
        return None
    sizes = (len(mine), len(theirs))
    means = (float(np.mean(mine)), float(np.mean(theirs)))
    effect, _ = effectsize_smd(means[0], deviations[0], sizes[0], means[1], deviations[1], sizes[1])
    return float(effect)


def _over_images(
    metric: str, theirs: list[Path], mine: list[Path], *, resamplings: int, confidence: float
) -> tuple[float, float] | None:
    """Paired bootstrap of the images: the difference of the metric's means over the seeds of two arms."""
    places = [*theirs, *mine]
    if not all((place / "counts.npz").is_file() for place in places):
        return None
    found = [read_counts(place) for place in places]
    if any(sorted(ids) != sorted(found[0][0]) for ids, _ in found):
        return None
    _, facts = read_run(places[0])
    names = foreground_names(facts["class_names"], facts["num_classes"])
    draws = [resampled_metrics(_by_id(ids, counts), names, resamplings=resamplings) for ids, counts in found]
    if metric not in draws[0]:
        return None
    of_each = np.stack([draw[metric] for draw in draws])
    low, high = interval(of_each[len(theirs) :].mean(axis=0) - of_each[: len(theirs)].mean(axis=0), confidence)
    return None if math.isnan(low) else (low, high)


def _by_id(ids: list[str], counts: Counts) -> Counts:
    order = np.argsort(np.array(ids))
    return Counts(**{name: values[order] for name, values in vars(counts).items()})


def _verdict(
    metric: str,
    mine: Spread,
    theirs: Spread,
    tests: Difference | None,
    over_images: tuple[float, float] | None,
    *,
    level: float,
) -> str:
    """What seeds and images say together; a single seed says nothing."""
    if tests is None:
        return "no verdict: one seed is chance, train more"
    if tests.medians >= level:
        return f"not told apart over seeds (p = {tests.medians:.2g})"
    if over_images is not None and over_images[0] <= 0 <= over_images[1]:
        return "not told apart over images (the interval holds 0)"
    better = (mine.median > theirs.median) != (metric in LESS_IS_BETTER)
    return f"{'better' if better else 'worse'}{'' if over_images is not None else ', over seeds alone'}"


def write_comparison(
    name: str, values: Mapping[str, Values], comparisons: list[Comparison], directory: Path, *, console: Any = None
) -> Path:
    """Write study.md and plots of all seeds, and print the same.

    Args:
        name: Of the study.
        values: As in `compare_arms`.
        comparisons: What it gave.
        directory: Where the files go.
        console: A `rich.console.Console`, or None to print nothing.

    Returns: Path of study.md.
    """
    from kerazoo.report.dots import dots

    lines = [f"# {name}", ""]
    for metric, by_arm in values.items():
        words = metric.replace("_", " ")
        shown = {arm: list(of_arm.values()) for arm, of_arm in by_arm.items() if of_arm}
        if not shown:
            continue
        less = "; less is better" if metric in LESS_IS_BETTER else ""
        lines += [f"## {words}", "", f"Mean ± standard deviation over seeds (median, of three or more){less}.", ""]
        rows = _rows(metric, by_arm, comparisons)
        lines += ["| " + " | ".join(row) + " |" for row in (HEADINGS, ["---"] * len(HEADINGS), *rows)]
        picture = dots(shown, directory / "plots" / f"{metric}.png", title=f"{name}: {words}", axis=words)
        lines += ["", f"![{words}, a dot per seed]({picture.relative_to(directory).as_posix()})", ""]
        if console is not None:
            console.print(_rich_table(words, rows))
    path = directory / "study.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    if console is not None:
        console.print(f"comparison: {path}", highlight=False, soft_wrap=True)
    return path


HEADINGS = [
    "arm",
    "seeds",
    "value",
    "p of medians (Mood)",
    "p of means (Welch)",
    "Hedges's g",
    "over images",
    "verdict",
]


def _rows(metric: str, by_arm: Values, comparisons: list[Comparison]) -> list[list[str]]:
    beside = {found.arm: found for found in comparisons if found.metric == metric}
    rows = []
    for arm, of_arm in by_arm.items():
        seeds = " ".join(map(str, sorted(of_arm)))
        value = str(Spread.of(of_arm.values())) if of_arm else "–"
        found = beside.get(arm)
        if found is None:
            rows.append([arm, seeds, value, *["–"] * 4, "what the others are compared with" if of_arm else "no run"])
            continue
        tests, effect, over_images = found.tests, found.effect, found.interval
        rows.append(
            [
                arm,
                seeds,
                value,
                "–" if tests is None else f"{tests.medians:.2g}",
                "–" if tests is None or tests.means is None else f"{tests.means:.2g}",
                "–" if effect is None else f"{effect:+.2f}",
                "–" if over_images is None else f"{over_images[0]:+.3f} to {over_images[1]:+.3f}",
                found.verdict,
            ]
        )
    return rows


def _rich_table(title: str, rows: list[list[str]]) -> Any:
    from rich.table import Table

    view = Table(*HEADINGS, title=title, title_justify="left")
    for row in rows:
        view.add_row(*row)
    return view
