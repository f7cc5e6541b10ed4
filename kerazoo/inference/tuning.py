"""Tuning a decision rule by a metric, on images that were neither trained on nor will be evaluated on."""

import csv
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerazoo.arguments import did_you_mean
from kerazoo.data.source import Source
from kerazoo.inference import scores
from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.evidence import Evidence
from kerazoo.inference.predictor import Predictor

Metric = str | Callable[[scores.Counts], float]

RANKS = (1, 10, 100, 1000)
OVER = ("pixel_threshold", "image_threshold", "min_area")
_CHOICES = {"rank": RANKS, "score": ("pixel", "label"), "per_component": (False, True)}
_TIE = 1e-12  # values of a metric that differ by no more
_MAX_IMAGE_THRESHOLDS = 400
_COARSE, _FINE = 12, 3  # points along an axis of the coarse grid, and on each side of the best point when refining


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The result of tuning.

    Attributes:
        rule: The best rule.
        value: Its metric on the images it was tuned on: no estimate of what other images will give.
        metric: Name of the metric.
        start: The rule before tuning, which ties prefer.
        start_value: Its metric on the same images; NaN where that is not defined.
        split: What the caller calls these images.
        images: How many they are.
        surface: Every rule that was evaluated: its fields, `value` (NaN where the metric is not defined), and `round`,
            0 for the grid and 1, 2, … for the refinements.
    """

    rule: DecisionRule
    value: float
    metric: str
    start: DecisionRule
    start_value: float
    split: str | None
    images: int
    surface: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """Where the rule comes from, as it is saved with it; None is a value that is not defined."""
        facts = {name: getattr(self, name) for name in ("metric", "value", "start_value", "split", "images")}
        return {**facts, "start_value": None if np.isnan(self.start_value) else self.start_value}  # JSON has no NaN

    def save(self, path: str | Path) -> Path:
        """Write the surface as CSV, with metric and split as columns. A rule without image threshold has none there.

        Returns: `path`.
        """
        path = Path(path)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*self.surface[0], "metric", "split"])
            writer.writeheader()
            writer.writerows({**row, "metric": self.metric, "split": self.split} for row in self.surface)
        return path

    def save_rule(self, path: str | Path, **facts: Any) -> Path:
        """Write the rule as JSON for `DecisionRule.load`, with the metric, the split, and further facts.

        Returns: `path`.
        """
        self.rule.save(path, **self.facts, **facts)
        return Path(path)


def tune(
    model: keras.Model,
    source: Source,
    *,
    metric: Metric = "per_image_dice",
    over: Collection[str] = OVER,
    start: DecisionRule | None = None,
    split: str | None = None,
    batch_size: int = 8,
    image_size: tuple[int, int] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    tta: Literal["flip"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Find the rule with the best metric on the images of `source`.

    Use the validation split. A rule that was tuned on the test split has seen its answers: what is then measured there
    is too good, and nothing is left to measure it by.

    The model runs once over the images. From then on it is known exactly what any rule would count, at 199 pixel
    thresholds, at up to 400 image thresholds that tell images apart, and at areas that grow by a fifth; with
    `per_component` at 19 thresholds and areas that grow by two fifths. A coarse grid over all of them is refined around
    its best point. Of equal values the one with the settings of `start` is taken, else the middle of them.

    Args:
        model: Segmenter, as `predict` takes it.
        source: Images with masks; masks are compared at the size of the image.
        metric: Name of a metric of `kerazoo evaluate`, of which more is better; or a function of
            `kerazoo.inference.scores.Counts` of which more is better.
        over: The fields of the rule to choose: "pixel_threshold", "image_threshold", "min_area", "per_component",
            "score", and "rank" (of 1, 10, 100 and 1000).
        start: The other fields, and what ties prefer; None is `DecisionRule()`.
        split: Name of the split that `source` is, which is saved with the rule; not "test".
        batch_size: Images (or tiles) in a batch.
        image_size: `(height, width)` the model was trained at; None works at the size of the image.
        tile: Height and width of overlapping tiles, or None.
        overlap: Pixels that tiles share; None is a quarter of the tile.
        tta: "flip" averages over the image and its left-right mirror image.
        progress: Called after each image with the number done and the number of all.

    Returns: the rule, its value, and the whole surface.

    Raises:
        ValueError: an argument is wrong, the metric is defined for no rule, or model and source do not fit.
        TypeError: `source` has no masks.
    """
    search = Search(source, metric=metric, over=over, start=start, split=split)
    predictor = Predictor(model, batch_size=batch_size, image_size=image_size, tile=tile, overlap=overlap, tta=tta)
    for index, output in enumerate(predictor.probabilities(source)):
        search.add(output.id, source.mask(index), output.small, output.full, output.label)
        if progress is not None:
            progress(index + 1, len(source))
    return search.result()


class Search:
    """`tune` for whoever runs the model: `add` every image, then ask for the `result`.

    Args:
        source: Images with masks, for their classes.
        metric: As in `tune`.
        over: As in `tune`.
        start: As in `tune`.
        split: As in `tune`.

    Raises:
        ValueError: an argument is wrong.
        TypeError: `source` has no masks.
    """

    def __init__(
        self,
        source: Source,
        *,
        metric: Metric = "per_image_dice",
        over: Collection[str] = OVER,
        start: DecisionRule | None = None,
        split: str | None = None,
    ):
        known = (*OVER, *_CHOICES)
        if isinstance(over, str) or not over or not set(over) <= set(known):
            raise ValueError(f"`over` must name some of {', '.join(known)}; received {over!r}.")
        if split == "test":
            raise ValueError(
                "A rule is tuned on the validation split: on the test split it could no longer be measured."
            )
        if not isinstance(source, Source):
            raise TypeError(f"`source` must be a Source, images with masks; received {type(source).__name__}.")
        self.over, self.start, self.split = over, start or DecisionRule(), split
        self.names = tuple(source.class_names[1:] if source.num_classes > 1 else source.class_names)
        self.num_classes = source.num_classes
        self.metric = _named(metric, self.names) if isinstance(metric, str) else metric
        self.metric_name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
        self.evidence = Evidence(source.num_classes, ignore_class=source.ignore_class, rules=self._variants())
        self._values: dict[DecisionRule, tuple[float, int]] = {}
        self._round = 0

    def add(
        self, name: str, truth: np.ndarray, small: np.ndarray, full: np.ndarray, label: np.ndarray | None = None
    ) -> None:
        """Count one image; arguments and errors as in `Evidence.add`."""
        if small.shape[-1] != self.num_classes:
            raise ValueError(
                f"`model` gives {small.shape[-1]} classes, and `source` has {self.num_classes}. Tune on data that the "
                f"model was made for."
            )
        self.evidence.add(name, truth, small, full, label)

    def result(self) -> Tuning:
        """The best rule for what was added.

        Raises:
            ValueError: nothing was added, or the metric is defined for no rule.
        """
        if not len(self.evidence):
            raise ValueError("`source` has no image: there is nothing to tune on.")
        self._values.clear()
        self._round, best = 0, self.start
        start_value = self._value(best)
        for variant in self._variants():
            candidate = self._middle_of_ties(self._grid_search(variant))
            if self._value(candidate) > self._value(best) + _TIE:
                best = candidate
        if self._value(best) == -np.inf:
            raise ValueError(f"{self.metric_name!r} is defined for no rule on these {len(self.evidence)} images.")
        rows = [
            {**asdict(rule), "value": value if np.isfinite(value) else float("nan"), "round": number}
            for rule, (value, number) in self._values.items()
        ]
        return Tuning(
            rule=best,
            value=self._value(best),
            metric=self.metric_name,
            start=self.start,
            start_value=start_value if np.isfinite(start_value) else float("nan"),
            split=self.split,
            images=len(self.evidence),
            surface=tuple(rows),
        )

    def _variants(self) -> list[DecisionRule]:
        """`start` with every choice of how images are scored and areas counted, its own first."""
        over = {name: choices for name, choices in _CHOICES.items() if name in self.over}
        variants = [
            replace(self.start, **dict(zip(over, values, strict=True))) for values in itertools.product(*over.values())
        ]
        variants = [replace(variant, rank=1) if variant.score == "label" else variant for variant in variants]
        return list(dict.fromkeys([self.start, *variants]))

    def _value(self, rule: DecisionRule) -> float:
        """The metric of a rule, -inf where it is not defined."""
        if rule not in self._values:
            value = float(self.metric(self.evidence.counts(rule)))
            self._values[rule] = (-np.inf if np.isnan(value) else value, self._round)
        return self._values[rule][0]

    def _axes(self, variant: DecisionRule) -> dict[str, list]:
        """The values to choose from, in order, of each field that is a number."""
        evidence, largest = self.evidence, self.evidence.largest_area
        if variant.per_component:
            pixels, areas = evidence.component_thresholds, evidence.component_areas
        else:
            pixels = evidence.pixel_thresholds
            areas = sorted({0, self.start.min_area, *(round(2 ** (i / 4)) for i in range(4 * 24))})
        axes = {
            "pixel_threshold": pixels,
            "image_threshold": _between_scores(evidence.scores(variant), self.start.image_threshold),
            "min_area": [area for area in areas if area <= max(largest, self.start.min_area)],
        }
        return {name: values for name, values in axes.items() if name in self.over}

    def _grid_search(self, variant: DecisionRule) -> DecisionRule:
        """Best rule of a coarse grid that is refined around its best point until it has the finest steps."""
        axes = self._axes(variant)
        if not axes:
            return variant
        start = {name: values.index(getattr(self.start, name)) for name, values in axes.items()}
        steps = {name: -(-len(values) // _COARSE) for name, values in axes.items()}
        points = {name: sorted({*range(0, len(values), steps[name]), start[name]}) for name, values in axes.items()}
        self._round, best = 0, variant
        while True:
            rules = [best] + [
                replace(variant, **{name: axes[name][index] for name, index in zip(axes, indices, strict=True)})
                for indices in itertools.product(*points.values())
            ]
            before, best = best, max(rules, key=lambda rule: (self._value(rule), self._fields_of_start(rule)))
            if max(steps.values()) == 1 and best == before:
                return best
            self._round += 1
            steps = {name: -(-step // _FINE) for name, step in steps.items()}
            points = {
                name: _around(values.index(getattr(best, name)), steps[name], len(values))
                for name, values in axes.items()
            }

    def _fields_of_start(self, rule: DecisionRule) -> int:
        """How many fields are as in `start`."""
        return sum(getattr(rule, name) == getattr(self.start, name) for name in OVER)

    def _middle_of_ties(self, rule: DecisionRule) -> DecisionRule:
        """Of the rules that are as good, one with the fields of `start`, or in the middle along each axis."""
        self._round += 1
        least = self._value(rule) - _TIE
        for name, values in reversed(self._axes(rule).items()):
            as_start = replace(rule, **{name: getattr(self.start, name)})
            if self._value(as_start) >= least:
                rule = as_start
                continue
            low = high = values.index(getattr(rule, name))
            while low > 0 and self._value(replace(rule, **{name: values[low - 1]})) >= least:
                low -= 1
            while high < len(values) - 1 and self._value(replace(rule, **{name: values[high + 1]})) >= least:
                high += 1
            rule = replace(rule, **{name: values[(low + high) // 2]})
        return rule


def _named(metric: str, names: Sequence[str]) -> Callable[[scores.Counts], float]:
    """The function that a name stands for."""
    nothing = np.zeros((1, len(names)), int)
    known = [*scores.metrics(scores.Counts(nothing, nothing, nothing, np.ones(1, int)), names)]
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise ValueError(f"`metric` must be one of {', '.join(known)}, or a function; received {metric!r}.{hint}")
    if metric == "empty_false_positive_pixels":
        raise ValueError(
            f"`metric` {metric!r} is best where nothing is ever predicted, so it chooses no rule. Tune by "
            "per_image_dice, which counts images with foreground too."
        )
    return lambda counts: scores.metrics(counts, names)[metric]


def _between_scores(values: np.ndarray, start: float | None) -> list[float | None]:
    """Image thresholds that divide images with different scores, in order: None, which calls none empty, to all."""
    ordered = np.unique(values)
    gaps = list(zip(ordered, [*ordered[1:], np.float32(2)], strict=True))
    chosen = np.unique(np.linspace(0, len(gaps) - 1, min(_MAX_IMAGE_THRESHOLDS, len(gaps))).round().astype(int))
    thresholds = {_short(*gaps[index]) for index in chosen}
    return [None, *sorted(thresholds.union([] if start is None else [start]))]


def _short(low: np.float32, high: np.float32) -> float:
    """A number of few digits in [low, high) and at most 1."""
    middle = (float(low) + min(1.0, float(high))) / 2
    for digits in range(1, 9):
        if low <= np.float32(round(middle, digits)) < high:
            return round(middle, digits)
    return float(low)


def _around(index: int, step: int, length: int) -> list[int]:
    """Indices in steps around one of them, inside of an axis."""
    return [i for i in range(index - _FINE * step, index + _FINE * step + 1, step) if 0 <= i < length]
