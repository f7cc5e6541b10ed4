"""The decision rule of a run: tuned on its validation split, and then used by whatever decides with the run.

rule.json                the rule, the metric and the split it was tuned by, and of which epoch of which checkpoint
rule_surface.csv         every rule that was evaluated
plots/rule_surface.png   the same as a picture
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.tuning import Search
from kerazoo.report import plots
from kerazoo.training.callbacks import read_state
from kerazoo.training.recipe import Recipe
from kerazoo.training.run import require_file

if TYPE_CHECKING:
    from kerazoo.data.source import Source

SPLIT = "val"
RULE, SURFACE = "rule.json", "rule_surface.csv"


class Choice(NamedTuple):
    """A rule and where it comes from.

    Attributes:
        rule: The rule.
        tuned_by: The metric it was tuned by, or None.
        note: What a person should know about it, or None.
    """

    rule: DecisionRule
    tuned_by: str | None = None
    note: str | None = None


def choose(run: str | Path, recipe: Recipe, checkpoint: str | None = None, *, threshold: float | None = None) -> Choice:
    """Choose the rule: of a given threshold, else the one tuned for this checkpoint, else the recipe's.

    Args:
        run: Run directory.
        recipe: Its recipe.
        checkpoint: "best" or "last"; None takes the recipe's.
        threshold: `pixel_threshold` that somebody asked for, or None.

    Raises:
        ValueError: rule.json is damaged.
        FileNotFoundError: the run has no such checkpoint yet.
    """
    path = Path(run) / RULE
    if threshold is not None or not path.is_file():
        return Choice(DecisionRule(pixel_threshold=recipe.evaluation.threshold if threshold is None else threshold))
    rule, facts = DecisionRule.load(path), json.loads(path.read_text(encoding="utf-8"))
    checkpoint = recipe.evaluation.checkpoint if checkpoint is None else checkpoint
    epoch = epoch_of(run, checkpoint)
    if (facts.get("checkpoint"), facts.get("epoch")) != (checkpoint, epoch):
        return Choice(
            DecisionRule(pixel_threshold=recipe.evaluation.threshold),
            note=f"{RULE} was tuned for the {facts.get('checkpoint')} epoch, {facts.get('epoch')}, and this is the "
            f"{checkpoint} epoch, {epoch}: the threshold of the recipe is used. Tune anew with kerazoo evaluate "
            f"--tune-rule.",
        )
    metric = facts.get("metric")
    return Choice(rule, metric, f"{rule} ({RULE}, tuned on {facts.get('split')} by {metric})")


def announce(choice: Choice, console: Any, *, tiled: bool = False) -> DecisionRule:
    """Print the note on a rule, and a warning if its smallest area is applied to tiled images; return the rule."""
    notes = [] if choice.note is None else [choice.note]
    if tiled and choice.rule.min_area > 0:
        pixels = choice.rule.min_area
        notes.append(f"with tiles its {pixels} pixels are those of the image, and not of the recipe's image size")
    for note in notes:
        console.print(f"rule: {note}", highlight=False, soft_wrap=True)
    return choice.rule


def tune(
    run: str | Path,
    recipe: Recipe,
    checkpoint: str,
    source: "Source",
    outputs: Iterable[tuple[np.ndarray, ...]],
    *,
    metric: str,
) -> Choice:
    """Tune the rule of a run on its validation split, and write it, its surface, and the picture of that.

    Args:
        run: Run directory.
        recipe: Its recipe, whose threshold ties prefer.
        checkpoint: "best" or "last", whose outputs these are.
        source: The validation split.
        outputs: Batches of images, truths, probabilities and label probabilities (or None), in the order of `source`.
        metric: Name of the metric, of which more is better.

    Raises:
        ValueError: the metric is unknown, or defined for no rule, or the outputs do not fit the source.
    """
    run = Path(run)
    start = DecisionRule(pixel_threshold=recipe.evaluation.threshold)
    search, names = Search(source, metric=metric, start=start, split=SPLIT), iter(source.ids)
    for _, truths, probabilities, labels in outputs:
        for index, (truth, probability) in enumerate(zip(truths, probabilities, strict=True)):
            label = None if labels is None else labels[index]
            search.add(next(names), truth, probability, probability, label)
    tuning = search.result()
    tuning.save(run / SURFACE)
    place = {"checkpoint": checkpoint, "epoch": epoch_of(run, checkpoint), "image_size": list(recipe.data.image_size)}
    tuning.save_rule(run / RULE, start=asdict(start), **place)
    plots.rule_surface(run / SURFACE, run / RULE, run / "plots" / "rule_surface.png")
    gain = f"{tuning.metric} {tuning.start_value:.3f} before, {tuning.value:.3f} with it"
    note = f"{tuning.rule} ({gain}, on the {len(source)} {SPLIT} images it was tuned on)"
    return Choice(tuning.rule, tuning.metric, note)


def epoch_of(run: str | Path, checkpoint: str) -> int:
    """The epoch, counted from 1, of a checkpoint of a run."""
    return len(read_state(require_file(run, f"checkpoints/{checkpoint}.keras"))["rows"])
