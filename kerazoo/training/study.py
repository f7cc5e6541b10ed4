"""Studies: one recipe, named arms that change fields of it, and seeds; every run a row of one table."""

import csv
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import pydantic
from pydantic import BeforeValidator, Field

from kerazoo.training.comparison import Comparison, compare_arms, write_comparison
from kerazoo.training.faults import validated
from kerazoo.training.overrides import read_mapping
from kerazoo.training.parts import Section, near
from kerazoo.training.recipe import Recipe

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from kerazoo.data.source import Source

TABLE = "results.csv"
_FIXED = ("arm", "seed", "recipe", "checkpoint", "epoch", "images", "minutes", "backend", "date")


def seeds_of(text: str) -> list[int]:
    """Whole numbers of a text such as `0-9` or `0,3,5-7`.

    Raises:
        ValueError: The text is none of that kind.
    """
    parts = [re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part) for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"seeds read 0-9 or 0,3,5-7; received {text!r}.")
    return [seed for part in parts if part for seed in range(int(part[1]), int(part[2] or part[1]) + 1)]


def _seeds(value: Any) -> Any:
    return seeds_of(str(value)) if isinstance(value, int | str) else value


class Study(Section):
    """What is compared.

    Args:
        name: What tables and plots call the study; the file's name if the file does not say.
        recipe: Path of the recipe, from the directory of the study's file.
        seeds: Training seeds of every arm: a list, or a text such as 0-9.
        metrics: What is compared, of evaluation.json, each by itself.
        set: Fields of the recipe with their values, for every arm: {training.batch_size: 8}.
        arms: Name of each arm to the fields that it changes, with their values; the first is what the others are
            compared with.
        bootstrap: Resamplings of the images behind each interval.
        confidence: Coverage of the intervals; what an arm must pass to win is one minus this.
        keep_checkpoints: Keep the models of all runs, and not only their results.
    """

    name: str = "study"
    recipe: str
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds), Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("iou", "image_balanced_accuracy")
    set: dict[str, Any] = Field(default_factory=dict)
    arms: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    bootstrap: Annotated[int, Field(gt=0)] = 2000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    keep_checkpoints: bool = False

    @pydantic.field_validator("arms", mode="before")
    @classmethod
    def _without_changes(cls, arms: Any) -> Any:
        return {name: changes or {} for name, changes in arms.items()} if isinstance(arms, Mapping) else arms

    @pydantic.field_validator("arms")
    @classmethod
    def _name_directories(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in arms:
            if not re.fullmatch(r"[\w+-][\w.+-]*", name):
                raise ValueError(f"an arm is the name of a directory: letters, digits and _ + - . ; received {name!r}.")
        return arms

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a study from YAML; the place of its recipe is resolved.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no YAML mapping, or a field is wrong (all wrong fields are named).
        """
        path = Path(path)
        content = read_mapping(path, "study", cls.model_fields)
        content.setdefault("name", path.stem)
        study = validated(cls, content, f"{path} is not a valid study")
        return study.model_copy(update={"recipe": str(path.parent / study.recipe)})

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of each arm, but for its seed.

        Raises:
            FileNotFoundError: The recipe is not there.
            ValueError: A recipe of an arm is not valid, or two arms have the same.
        """
        found: dict[str, Recipe] = {}
        for name, changes in self.arms.items():
            try:
                found[name] = Recipe.load(self.recipe, {**self.set, **changes, "name": name})
            except ValueError as error:
                raise ValueError(f"arm {name!r}: {error}") from error
        digests: dict[str, str] = {}
        for name, recipe in found.items():
            if (other := digests.setdefault(_digest(recipe), name)) != name:
                raise ValueError(f"The arms {other!r} and {name!r} are one recipe; what should differ between them?")
        return found


class _Run(NamedTuple):
    arm: str
    seed: int
    recipe: Recipe
    directory: Path


def study(
    study: Study | str | Path,
    directory: str | Path,
    data: "str | Path | Source | None" = None,
    *,
    processes: int = 1,
    console: Any = None,
) -> list[Comparison]:
    """Train every arm with every seed, and compare the arms with the first.

    Each finished run is appended to `results.csv` in the directory, and is not trained again when the study is started
    anew; a run that was stopped continues. After the last one the comparison is printed and written to `study.md`, with
    a plot of all seeds for each metric. A run that fails does not keep the others from running.

    Args:
        study: A study, or the path of one.
        directory: Where results and runs go.
        data: Directory of the data, or a `Source` in place of the recipe's, as in `train`.
        processes: Runs at the same time, each in a process of its own with its share of the cores (on Linux); 1 trains
            in this one.
        console: A `rich.console.Console`; None prints to standard output.

    Returns: Each arm beside the first, by metric.

    Raises:
        ValueError: The study or a recipe is not valid, the directory has results of another recipe, or a `Source` is
            given with several processes.
        RuntimeError: Runs failed; the others are in the table.
    """
    from rich.console import Console

    study = study if isinstance(study, Study) else Study.load(study)
    console, directory = console or Console(), Path(directory)
    if processes > 1 and not (data is None or isinstance(data, str | Path)):
        raise ValueError(f"With processes={processes} give `data` as a directory: a Source stays in one process.")
    recipes, table = study.recipes(), directory / TABLE
    directory.mkdir(parents=True, exist_ok=True)
    waiting = _waiting(study, recipes, directory)
    total = len(study.seeds) * len(recipes)
    console.print(f"{study.name}: {total - len(waiting)} of {total} runs are done", highlight=False)
    failed = []
    for run, result in _results(waiting, data, processes, console):
        if isinstance(result, Exception):
            failed.append(f"{run.arm}, seed {run.seed}: {result}")
            console.print(f"failed: {failed[-1]}", highlight=False, soft_wrap=True, markup=False, style="red")
            continue
        row = _row(run, result)
        append_row(table, row)
        if not study.keep_checkpoints:
            for folder in ("checkpoints", "logs"):
                shutil.rmtree(run.directory / folder, ignore_errors=True)
        done = " ".join(f"{name} {float(row[name]):.3f}" for name in study.metrics if row.get(name))
        console.print(f"{run.arm}, seed {run.seed}: {done}", highlight=False, soft_wrap=True)
    comparisons = summarize(study, directory, console=console) if table.is_file() else []
    if failed:
        raise RuntimeError(f"{len(failed)} of {total} runs failed:\n" + "\n".join(failed))
    return comparisons


def summarize(study: Study, directory: str | Path, *, console: Any = None) -> list[Comparison]:
    """Compare the runs of a study that are in its table: printed, in `study.md` and as plots.

    Raises:
        ValueError: A metric of the study is not in the table.
    """
    directory = Path(directory)
    rows = [row for row in read_table(directory / TABLE) if row["arm"] in study.arms]
    rows = [row for row in rows if int(row["seed"]) in study.seeds]
    known = [name for name in (rows[0] if rows else ()) if name not in _FIXED]
    for name in study.metrics:
        if rows and name not in known:
            raise ValueError(f"metrics: the runs have no {name!r}{near(name, known)}")
    by_arm = {arm: {int(row["seed"]): row for row in rows if row["arm"] == arm} for arm in study.arms}
    runs = {arm: {seed: _place(directory, arm, seed) for seed in of_arm} for arm, of_arm in by_arm.items()}
    values = {
        name: {
            arm: {seed: float(row[name]) for seed, row in of_arm.items() if row[name]} for arm, of_arm in by_arm.items()
        }
        for name in study.metrics
    }
    comparisons = compare_arms(values, runs, resamplings=study.bootstrap, confidence=study.confidence)
    write_comparison(study.name, values, comparisons, directory, console=console)
    return comparisons


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a study's table; none if there is no file. A line that a kill cut short is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _place(directory: Path, arm: str, seed: int) -> Path:
    return directory / "runs" / arm / str(seed)


def _waiting(study: Study, recipes: Mapping[str, Recipe], directory: Path) -> list[_Run]:
    """Runs that the table lacks, seed by seed, so that a study that is stopped has whole seeds."""
    rows = {(row["arm"], int(row["seed"])): row for row in read_table(directory / TABLE)}
    waiting = []
    for seed in study.seeds:
        for arm, recipe in recipes.items():
            recipe = recipe.override(f"training.seed={seed}")
            row = rows.get((arm, seed))
            if row is None:
                waiting.append(_Run(arm, seed, recipe, _place(directory, arm, seed)))
            elif row["recipe"] != _digest(recipe):
                raise ValueError(
                    f"{directory / TABLE} has arm {arm!r} of another recipe (seed {seed}). Give another directory, or "
                    "delete its rows and runs."
                )
    return waiting


def _results(waiting: list[_Run], data: Any, processes: int, console: Any) -> Iterator[tuple[_Run, Any]]:
    """Each run with its evaluation, or with what it raised, as they finish."""
    if processes == 1:
        for run in waiting:
            yield run, _outcome(lambda run=run: _train(run.recipe, run.directory, data, console))
        return
    context = get_context("spawn")
    shares = context.SimpleQueue()
    for share in _cores(processes):
        shares.put(share)
    pool = ProcessPoolExecutor(processes, context, initializer=_begin_process, initargs=(os.getpid(), shares))
    with pool:
        futures = {pool.submit(_train, run.recipe, run.directory, data): run for run in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], _outcome(future.result)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _outcome(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Exception as error:  # whatever a backend raises, the other runs go on
        return error


def _train(recipe: Recipe, directory: Path, data: Any, console: Any = None) -> dict[str, Any]:
    """Start or go on with one run; without a console what it prints goes to log.txt beside the run."""
    import keras
    from rich.console import Console

    from kerazoo.training.train import train

    try:
        if console is not None:
            return train(recipe, directory, data, resume=True, console=console)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with directory.with_name(f"{directory.name}.log").open("a", encoding="utf-8") as log:
            return train(recipe, directory, data, resume=True, console=Console(file=log, width=120))
    finally:
        keras.backend.clear_session()


def _cores(processes: int) -> list[set[int]]:
    """Cores of each process, so that none starts threads for all of them; empty where cores cannot be chosen."""
    if sys.platform != "linux":
        return [set()] * processes
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[index::processes]) or {cores[index % len(cores)]} for index in range(processes)]


def _begin_process(parent: int, shares: "SimpleQueue[set[int]]") -> None:
    """Keep to a share of the cores, and end when the parent does: a study that is killed leaves no run that goes on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    share = shares.get()
    if sys.platform == "linux":
        os.sched_setaffinity(0, share)


def _digest(recipe: Recipe) -> str:
    content = recipe.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _row(run: _Run, result: Mapping[str, Any]) -> dict[str, str]:
    environment = json.loads((run.directory / "environment.json").read_text(encoding="utf-8"))
    backend = environment["backend"]
    fixed = (
        run.arm,
        run.seed,
        _digest(run.recipe),
        result["checkpoint"],
        result["epoch"],
        result["images"],
        environment.get("training_minutes", ""),
        f"{backend} {environment['versions'].get(backend, '')}".strip(),
        datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    measured = {name: entry["value"] for name, entry in result["metrics"].items()}
    defined = {name: f"{value:.6g}" if value is not None and value == value else "" for name, value in measured.items()}
    return {**{name: str(value) for name, value in zip(_FIXED, fixed, strict=True)}, **defined}


def append_row(table: Path, row: dict[str, str]) -> None:
    """One more row; the file is whole at any moment."""
    rows = [*read_table(table), row]
    names = dict.fromkeys(name for each in rows for name in each)
    partial = table.with_name(table.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(table)
