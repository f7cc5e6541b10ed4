"""Train a recipe: data, model, loop, and then the evaluation on the test split."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from kerazoo.doctor import Report, doctor
from kerazoo.training import callbacks
from kerazoo.training.build import build_model, compile_model, make_batches, needs_weights, plain_data_errors
from kerazoo.training.evaluate import evaluate
from kerazoo.training.phases import describe, set_up
from kerazoo.training.rates import groups
from kerazoo.training.recipe import Recipe
from kerazoo.training.run import SPLITS, describe_environment, open_source, read_run, read_split, write_json
from kerazoo.training.start import StartTable, begin
from kerazoo.training.strategy import devices

if TYPE_CHECKING:
    from kerazoo.data.source import Source

_FOLDERS = ("gallery", "plots", "logs", "checkpoints")
_STARTED = (
    "split.csv",
    "environment.json",
    "audit.json",
    "doctor.json",
    "start.json",
    "phases.json",
    "run.json",
)  # what a run has before its recipe.yaml
_LOOK = 4  # batches that are looked at before the first epoch
_FILES = ("report.html", "evaluation.json", "counts.npz", "metrics.csv", "recipe.yaml", *_STARTED)


def train(
    recipe: Recipe | str | Path,
    run_directory: str | Path,
    data: "str | Path | Source | None" = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    console: Any = None,
) -> dict[str, Any]:
    """Train a recipe, keep the best and the last epoch, and evaluate the recipe's choice on the test split.

    A run that was stopped at any point continues with `resume=True` after its last finished epoch, in the phase that it
    was in, with the weights, the optimizer's state and the order of the data that it would have had.

    Args:
        recipe: A recipe, or the path of one.
        run_directory: Where results go (`kerazoo.training.run` lists them).
        data: Directory of the data, or a `Source` in place of the recipe's; None for a source that makes its own.
        resume: Continue the run of this directory; starts it if there is none.
        overwrite: Delete the run of this directory, once recipe and data have proved to fit.
        console: A `rich.console.Console` for progress; None prints to standard output.

    Returns: What evaluation.json holds: the scores of the test images.

    Raises:
        FileExistsError: The directory has a run, and neither `resume` nor `overwrite` is set; or it has other files.
        ValueError: The recipe, the data or the split does not fit, `kerazoo.doctor` finds an error, or `resume` meets
            another recipe or other data.
        FloatingPointError: The loss became NaN or infinite.
    """
    from rich.console import Console

    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    run, console = Path(run_directory), console or Console()
    resume = _look(run, recipe, resume=resume, overwrite=overwrite)
    source = open_source(recipe, data)
    console.print(str(source), highlight=False, soft_wrap=True)
    split = read_split(run, source) if resume else _split(recipe, source)
    channels = recipe.data.channels or int(source[0].image.shape[-1])
    keras.utils.set_random_seed(recipe.training.seed)
    with devices(recipe.training.strategy, batch_size=recipe.training.batch_size) as count:
        model = build_model(recipe, num_classes=source.num_classes, channels=channels)
        form: dict[str, Any] = {"channels": channels, "outputs": model}
        batches = {
            "train": make_batches(recipe, split["train"], train=True, weigh=True, **form),
            "val": make_batches(recipe, split["val"], train=False, weigh=needs_weights(recipe), **form),
        }
        begun = _begin(recipe, run, model, console)
        plan = _plan(recipe, model)
        compile_model(recipe, model, source, steps_per_epoch=len(batches["train"]))
        if not resume:
            found = _examine(recipe, model, batches["train"], console)
            _delete(run)
            _start(run, recipe, source, split, data=data, channels=channels, replicas=count, found=found)
            write_json(run / "phases.json", {"phases": plan})
            if begun is not None:
                write_json(run / "start.json", begun.to_dict())
            recipe.dump(run / "recipe.yaml")  # last, because it makes the directory a run
        with plain_data_errors():
            _fit(recipe, run, model, source, batches, console)
    return evaluate(run, data=source, console=console)


def _look(run: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> bool:
    """Whether there is a run to continue; changes nothing."""
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return False
    whole = (run / "recipe.yaml").is_file()
    if not whole and not _is_unfinished(run):
        raise FileExistsError(f"{run} exists and is not a run of kerazoo. Give another directory with --run.")
    if resume and overwrite:
        raise ValueError("--resume continues a run and --overwrite deletes it: give one of them.")
    if resume and whole:
        saved, _ = read_run(run)
        for name in Recipe.model_fields:
            if getattr(saved, name) != getattr(recipe, name):
                raise ValueError(
                    f"{run} was started with another recipe: its section {name!r} is {getattr(saved, name)}, and now "
                    f"{getattr(recipe, name)}. Resume with {run / 'recipe.yaml'}, or start a new run."
                )
        return True
    if not resume and not overwrite:
        raise FileExistsError(
            f"{run} holds a run. Continue it with --resume, delete it with --overwrite, or give another directory."
        )
    return False


def _is_unfinished(run: Path) -> bool:
    """Whether a directory without recipe.yaml holds nothing but what a run has that was killed while it started."""
    if not run.is_dir() or any((run / "checkpoints").glob("*")):
        return False
    names = {path.name.removesuffix(".partial") for path in run.iterdir()}
    return names <= {"checkpoints", "recipe.yaml", *_STARTED}


def _delete(run: Path) -> None:
    """Delete a run's own files; killed on the way it leaves a run, or an unfinished one."""
    for name in _FOLDERS:
        shutil.rmtree(run / name, ignore_errors=True)
    for name in _FILES:
        (run / name).unlink(missing_ok=True)
        (run / f"{name}.partial").unlink(missing_ok=True)


def _split(recipe: Recipe, source: "Source") -> dict[str, "Source"]:
    split = recipe.data.split
    how: dict[str, Any] = {"by": split.by, "seed": split.seed, "stratify": split.stratify}
    train, *others = source.split(fractions=split.fractions, **how)
    if split.train_fraction < 1:
        train, _ = train.split(fractions=(split.train_fraction, 1 - split.train_fraction), **how)
    return dict(zip(SPLITS, (train, *others), strict=True))


def _begin(recipe: Recipe, run: Path, model: keras.Model, console: Any) -> StartTable | None:
    """The table of what an earlier training gives the model; None without one, and where the run has weights itself."""
    start = recipe.model.start
    if start is None or (run / "checkpoints" / "last.keras").is_file():
        return None
    begun = begin(model, start)
    console.print(str(begun), highlight=False, soft_wrap=True, markup=False)
    return begun


def _plan(recipe: Recipe, model: keras.Model) -> list[dict[str, Any]]:
    """What trains in each phase, and at which rates; afterwards the model is set up for the first."""
    plan = []
    for phase in recipe.phases:
        set_up(model, phase)
        rates = {group.name: group.rate for group in groups(model, phase)}
        plan.append(describe(model, phase, rates))
    set_up(model, recipe.phases[0])
    return plan


def _examine(recipe: Recipe, model: keras.Model, batches: Any, console: Any) -> Report | None:
    """What `kerazoo.doctor` finds in the first batches, printed; None if the recipe leaves it out."""
    if not recipe.training.doctor:
        return None
    with plain_data_errors():
        report = doctor(model, batches, batches=_LOOK, verbose=False)
    if report.ok and report.findings:
        console.print(str(report), highlight=False, soft_wrap=True, markup=False)
    try:
        report.raise_for_errors()
    except ValueError as error:
        raise ValueError(f"{error}\nIf you know better, train with training.doctor=false.") from None
    return report


def _start(
    run: Path,
    recipe: Recipe,
    source: "Source",
    split: dict[str, "Source"],
    *,
    data: Any,
    channels: int,
    replicas: int,
    found: Report | None,
) -> None:
    """Write what the data, the machine and the doctor say of the run."""
    from kerazoo.data import save_split

    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_split(split, run / "split.csv")
    write_json(run / "environment.json", describe_environment(replicas))
    write_json(run / "audit.json", _audit(recipe, source, split))
    if found is not None:
        write_json(run / "doctor.json", found.to_dict())
    place = str(Path(data).resolve()) if isinstance(data, str | Path) else None
    facts = {"num_classes": source.num_classes, "class_names": list(source.class_names), "channels": channels}
    write_json(run / "run.json", {"data": place, **facts})


def _audit(recipe: Recipe, source: "Source", split: dict[str, "Source"]) -> dict[str, Any]:
    """What the report says of the data: the source, the sampler, the splits and the warnings."""
    from kerazoo.data.batches.sampling import audit

    counts = {name: {"images": len(part), "foreground": int(part.foreground.sum())} for name, part in split.items()}
    chosen = recipe.training
    sampled = audit(split["train"], sampler=chosen.sampler, balance=chosen.balance, seed=chosen.seed)
    return {"source": str(source), "sampler": str(sampled), "splits": counts, "warnings": list(source.warnings)}


def _fit(
    recipe: Recipe, run: Path, model: keras.Model, source: "Source", batches: dict[str, Any], console: Any
) -> None:
    training, last = recipe.training, run / "checkpoints" / "last.keras"
    state = callbacks.read_state(last) if last.is_file() else {}
    averages = callbacks.AverageWeights() if recipe.optimizer.options.get("use_ema") else None
    recorder = callbacks.Recorder(run, monitor=training.monitor, mode=training.mode, averages=averages, **state)
    phases, current = recipe.phases, len(recorder.starts) - 1
    for number, phase in enumerate(phases[current:], current + 1):
        if number > len(recorder.starts):
            recorder.starts.append(len(recorder.rows))
        end = recorder.starts[-1] + phase.epochs
        epochs = end + sum(later.epochs for later in phases[number:])
        table = set_up(model, phase)
        if len(phases) > 1 or phase.freeze is not None:
            heading = f"phase {number} of {len(phases)}: {phase}"
            console.print(f"{heading}\n{table}", highlight=False, soft_wrap=True, markup=False)
        compile_model(recipe, model, source, steps_per_epoch=len(batches["train"]), phase=phase)
        model.optimizer.build(model.trainable_variables)  # or TensorFlow traces the step twice
        stop = None
        if training.early_stopping is not None:
            stop = callbacks.StopEarly(recorder, **training.early_stopping.model_dump())
        over = len(recorder.rows) >= end or (stop is not None and stop.is_over())
        if state and number == current + 1:
            _load(model, last, trained=not over)
            console.print(f"resuming after epoch {len(recorder.rows)} of {epochs}", highlight=False)
        if not over:
            _fit_phase(recipe, run, model, batches, console, recorder, (stop, averages), end=end, epochs=epochs)


def _load(model: keras.Model, checkpoint: Path, *, trained: bool) -> None:
    """Weights and the optimizer's state of a checkpoint; with `trained` not the averages, but what is trained on."""
    model.load_weights(checkpoint)
    weights = callbacks.read_trained(checkpoint) if trained else None
    if weights is not None:
        callbacks.put_in(model, weights)


def _fit_phase(
    recipe: Recipe,
    run: Path,
    model: keras.Model,
    batches: dict[str, Any],
    console: Any,
    recorder: callbacks.Recorder,
    others: tuple[keras.callbacks.Callback | None, ...],
    *,
    end: int,
    epochs: int,
) -> None:
    """Train the epochs that the recorder lacks up to `end`, of `epochs` in the whole run."""
    from kerazoo.data import PinEpoch

    progress = callbacks.Progress(console, epochs=epochs, steps=len(batches["train"]), recorder=recorder)
    chain = [PinEpoch(batches["train"]), callbacks.SeedEpoch(recipe.training.seed), callbacks.StopOnNaN(), recorder]
    chain += [keras.callbacks.TensorBoard(run / "logs", write_graph=False), progress]
    chain += [callback for callback in others if callback is not None]
    try:
        model.fit(
            batches["train"],
            validation_data=batches["val"],
            epochs=end,
            initial_epoch=len(recorder.rows),
            callbacks=chain,
            shuffle=False,  # the dataset draws its own order
            verbose=0,
        )
    finally:
        progress.close()
    minutes = {"training_minutes": round(recorder.seconds / 60, 2)}
    write_json(run / "environment.json", {**json.loads((run / "environment.json").read_text()), **minutes})
