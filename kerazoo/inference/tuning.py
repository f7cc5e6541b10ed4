"""Finding the decision rule that a metric likes best, on images that neither trained the model nor judge it."""

import csv
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from kerazoo.arguments import did_you_mean
from kerazoo.inference import scores
from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.evidence import Evidence
from kerazoo.inference.prediction import undecided

if TYPE_CHECKING:
    from kerazoo.data.source import Source

Metric = str | Callable[[scores.Counts], float]

RANKS = (1, 10, 100, 1000)
OVER = ("pixel_threshold", "image_threshold", "min_area")
_CHOICES = {"rank": RANKS, "score": ("pixel", "label"), "per_component": (False, True)}
_EQUAL = 1e-12  # values of a metric that differ by no more are a tie
_CUTS = 400  # image thresholds that are looked at, at most
_FIRST, _NEXT = 12, 3  # points along an axis at first, and on each side of the best one later


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was found.

    Attributes:
        rule: The best rule.
        value: Its metric on the images it was tuned on: no estimate of what other images will give.
        metric: Name of the metric.
        start: The rule that was there before, and that ties prefer.
        start_value: Its metric on the same images; NaN where that is not defined.
        split: What the caller calls these images.
        images: How many they are.
        surface: Every rule that was looked at: its fields, `value` (NaN where the metric is not defined), and `round`,
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
    source: "Source",
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

    The model runs once over the images. What any rule would count is known from then on (see `Evidence`), exactly, at
    199 pixel thresholds, at up to 400 image thresholds that tell images apart, and at areas that grow by a fifth; with
    `per_component` at 19 thresholds and areas that grow by two fifths. A coarse grid over all of them is refined around
    its best point. Of equal values the one with the settings of `start` is taken, else the middle of them.

    Args:
        model: As in `predict`.
        source: Images with masks; masks are compared at the size of the image.
        metric: Name of a metric of `kerazoo evaluate`, of which more is better; or a function of
            `kerazoo.inference.scores.Counts` of which more is better.
        over: The fields of the rule to choose: "pixel_threshold", "image_threshold", "min_area", "per_component",
            "score", and "rank" (of 1, 10, 100 and 1000).
        start: The other fields, and what ties prefer; None is `DecisionRule()`.
        split: Name of the split that `source` is, which is saved with the rule; not "test".
        batch_size: As in `predict`.
        image_size: As in `predict`.
        tile: As in `predict`.
        overlap: As in `predict`.
        tta: As in `predict`.
        progress: Called after each image with the number done and the number of all.

    Returns: the rule, its value, and the whole surface.

    Raises:
        ValueError: an argument is wrong, the metric is defined for no rule, or model and source do not fit.
        TypeError: `source` has no masks.
    """
    search = Search(source, metric=metric, over=over, start=start, split=split)
    outputs = undecided(
        model, source, batch_size=batch_size, image_size=image_size, tile=tile, overlap=overlap, tta=tta
    )
    for index, output in enumerate(outputs):
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
        source: "Source",
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
                "A rule is tuned on the validation split: on the test split it would have seen the answers."
            )
        if not hasattr(source, "mask"):
            raise TypeError(f"`source` must be a Source, images with masks; received {type(source).__name__}.")
        self.over, self.start, self.split = over, start or DecisionRule(), split
        self.names = tuple(source.class_names[1:] if source.num_classes > 1 else source.class_names)
        self.num_classes = source.num_classes
        self.metric = _named(metric, self.names) if isinstance(metric, str) else metric
        self.metric_name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
        self.evidence = Evidence(source.num_classes, ignore_class=source.ignore_class, rules=self._kinds())
        self._values: dict[DecisionRule, tuple[float, int]] = {}
        self._round = 0

    def add(
        self, name: str, truth: np.ndarray, small: np.ndarray, full: np.ndarray, label: np.ndarray | None = None
    ) -> None:
        """Look at one image; arguments and errors as in `Evidence.add`."""
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
        for kind in self._kinds():
            found = self._center(self._climb(kind))
            if self._value(found) > self._value(best) + _EQUAL:
                best = found
        if self._value(best) == -np.inf:
            raise ValueError(f"{self.metric_name!r} is defined for no rule on these {len(self.evidence)} images.")
        rows = [
            {**asdict(rule), "value": value if np.isfinite(value) else float("nan"), "round": when}
            for rule, (value, when) in self._values.items()
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

    def _kinds(self) -> list[DecisionRule]:
        """`start` with every choice of how images are scored and areas counted, its own first."""
        asked = {name: choices for name, choices in _CHOICES.items() if name in self.over}
        kinds = [
            replace(self.start, **dict(zip(asked, some, strict=True))) for some in itertools.product(*asked.values())
        ]
        kinds = [replace(kind, rank=1) if kind.score == "label" else kind for kind in kinds]
        return list(dict.fromkeys([self.start, *kinds]))

    def _value(self, rule: DecisionRule) -> float:
        """The metric of a rule, -inf where it is not defined."""
        if rule not in self._values:
            value = float(self.metric(self.evidence.counts(rule)))
            self._values[rule] = (-np.inf if np.isnan(value) else value, self._round)
        return self._values[rule][0]

    def _axes(self, kind: DecisionRule) -> dict[str, list]:
        """The values to choose from, in order, of each field that is a number."""
        evidence, largest = self.evidence, self.evidence.largest_area
        if kind.per_component:
            pixels, areas = evidence.component_thresholds, evidence.component_areas
        else:
            pixels = evidence.pixel_thresholds
            areas = sorted({0, self.start.min_area, *(round(2 ** (i / 4)) for i in range(4 * 24))})
        axes = {
            "pixel_threshold": pixels,
            "image_threshold": _between_scores(evidence.scores(kind), self.start.image_threshold),
            "min_area": [area for area in areas if area <= max(largest, self.start.min_area)],
        }
        return {name: values for name, values in axes.items() if name in self.over}

    def _climb(self, kind: DecisionRule) -> DecisionRule:
        """Best rule of a coarse grid that is refined around its best point until it has the finest steps."""
        axes = self._axes(kind)
        if not axes:
            return kind
        home = {name: values.index(getattr(self.start, name)) for name, values in axes.items()}
        steps = {name: -(-len(values) // _FIRST) for name, values in axes.items()}
        points = {name: sorted({*range(0, len(values), steps[name]), home[name]}) for name, values in axes.items()}
        self._round, best = 0, kind
        while True:
            rules = [best] + [
                replace(kind, **{name: axes[name][index] for name, index in zip(axes, place, strict=True)})
                for place in itertools.product(*points.values())
            ]
            before, best = best, max(rules, key=lambda rule: (self._value(rule), self._likeness(rule)))
            if max(steps.values()) == 1 and best == before:
                return best
            self._round += 1
            steps = {name: -(-step // _NEXT) for name, step in steps.items()}
            points = {
                name: _around(values.index(getattr(best, name)), steps[name], len(values))
                for name, values in axes.items()
            }

    def _likeness(self, rule: DecisionRule) -> int:
        """How many fields are as in `start`."""
        return sum(getattr(rule, name) == getattr(self.start, name) for name in OVER)

    def _center(self, rule: DecisionRule) -> DecisionRule:
        """Of the rules that are as good, one with the fields of `start`, or in the middle along each axis."""
        self._round += 1
        least = self._value(rule) - _EQUAL
        for name, values in reversed(self._axes(rule).items()):
            home = replace(rule, **{name: getattr(self.start, name)})
            if self._value(home) >= least:
                rule = home
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
            f"`metric` {metric!r} is best where nothing is ever found, so it chooses no rule. Tune by per_image_dice, "
            "which counts images with foreground too."
        )
    return lambda counts: scores.metrics(counts, names)[metric]


def _between_scores(values: np.ndarray, start: float | None) -> list[float | None]:
    """Image thresholds that divide images with different scores, in order: None, which calls none empty, to all."""
    ordered = np.unique(values)
    gaps = list(zip(ordered, [*ordered[1:], np.float32(2)], strict=True))
    chosen = np.unique(np.linspace(0, len(gaps) - 1, min(_CUTS, len(gaps))).round().astype(int))
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
    return [i for i in range(index - _NEXT * step, index + _NEXT * step + 1, step) if 0 <= i < length]
