"""What happens around the epochs of a run: checkpoints, the log, guards, and the progress that a person sees."""

import csv
import json
import math
import re
import shutil
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerazoo.training.rates import current_rates
from kerazoo.types import AUX_PREFIX

STATE, TRAINED = "kerazoo_training.json", "kerazoo_trained.npz"
_OF_ONE_OUTPUT = re.compile(rf"(val_)?(mask|{AUX_PREFIX}\w+)_loss$")  # parts of a loss that is the sum over outputs


class Recorder(keras.callbacks.Callback):
    """Keeps metrics.csv and the checkpoints of a run directory, each file whole at any moment.

    `checkpoints/last.keras` holds model, optimizer and the rows of metrics.csv so far in one file, so that a run that
    is killed at any point continues from a state that agrees with itself. `checkpoints/best.keras` is a copy of the
    last at the epoch in which `monitor` was best. With weight averaging the model has the averages in both, and the
    weights that are trained lie beside it, see `read_trained`.

    Args:
        run_directory: Where the files go.
        monitor: Name in the logs that decides which epoch is best.
        mode: "max" or "min".
        averages: What puts the averages in, or None without weight averaging.
        rows: Rows of earlier epochs when a run continues.
        seconds: Seconds that those took.
        starts: The first epoch of each phase so far; of the first alone if not given.

    Attributes:
        rows: Rows of all epochs so far.
        starts: The first epoch of each phase so far.
        seconds: Seconds of training so far, validation and checkpoints included.
    """

    def __init__(
        self,
        run_directory: Path,
        *,
        monitor: str,
        mode: str,
        averages: "AverageWeights | None" = None,
        rows: Sequence[dict[str, float]] = (),
        seconds: float = 0.0,
        starts: Sequence[int] = (0,),
    ):
        super().__init__()
        self.run_directory = run_directory
        self.monitor, self.mode, self.averages = monitor, mode, averages
        self.rows, self.seconds, self.starts = list(rows), seconds, list(starts)
        self.clock = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Write the rows of earlier epochs, dropping any that a killed run wrote after its last checkpoint."""
        self.clock = time.perf_counter()
        (self.run_directory / "checkpoints").mkdir(exist_ok=True)
        if self.rows:
            self._write_rows()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add a row, save the last checkpoint, and the best one if this is it."""
        logs = {name: float(value) for name, value in plain_names(logs or {}).items()}
        row = {"epoch": epoch, **logs, **current_rates(self.model.optimizer)}
        improved = best_epoch([*self.rows, row], self.monitor, self.mode) == epoch
        self.rows.append(row)
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        self._save(improved)
        self._write_rows()

    def _save(self, improved: bool) -> None:
        folder = self.run_directory / "checkpoints"
        partial = folder / "partial.keras"
        self.model.save(partial)
        state = {"rows": self.rows, "seconds": self.seconds, "starts": self.starts}
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(STATE, json.dumps(state))
            if self.averages is not None and self.averages.trained is not None:
                with archive.open(TRAINED, "w") as file:
                    np.savez(file, *self.averages.trained)
        if improved:
            copy = folder / "partial_best.keras"
            shutil.copyfile(partial, copy)
            copy.replace(folder / "best.keras")
        partial.replace(folder / "last.keras")

    def _write_rows(self) -> None:
        partial = self.run_directory / "metrics.partial.csv"
        with partial.open("w", newline="", encoding="utf-8") as file:
            names = dict.fromkeys(name for row in self.rows for name in row)  # phases differ in their learning rates
            writer = csv.DictWriter(file, list(names), restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.run_directory / "metrics.csv")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """`rows`, `seconds` and `starts` of the `Recorder` that wrote a checkpoint.

    Raises:
        ValueError: The file is no such checkpoint.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return json.loads(archive.read(STATE))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{checkpoint} is damaged, or not a checkpoint of a training run. Delete it to start the run anew."
        ) from error


def read_trained(checkpoint: Path) -> list[np.ndarray] | None:
    """The weights that were trained, of a checkpoint whose model has their averages; None without weight averaging.

    They are in the order of the `trainable_variables` that the model had, see `put_in`.
    """
    with zipfile.ZipFile(checkpoint) as archive:
        if TRAINED not in archive.namelist():
            return None
        with archive.open(TRAINED) as file, np.load(file) as arrays:
            return [arrays[f"arr_{index}"] for index in range(len(arrays))]


def best_epoch(rows: list[dict[str, float]], monitor: str, mode: str, min_delta: float = 0.0) -> int:
    """The epoch in which `monitor` last became better by more than `min_delta`; NaN is never better than a number."""
    sign = 1.0 if mode == "max" else -1.0
    best, best_value = rows[0]["epoch"], sign * rows[0][monitor]
    for row in rows[1:]:
        value = sign * row[monitor]
        if value > best_value + min_delta or (math.isnan(best_value) and not math.isnan(value)):
            best, best_value = row["epoch"], value
    return int(best)


class StopEarly(keras.callbacks.Callback):
    """Ends a phase when `patience` of its epochs passed without a better `monitor`; its state is the recorder's rows.

    Args:
        recorder: Whose rows, monitor and mode decide.
        patience: Epochs.
        min_delta: What counts as better.
    """

    def __init__(self, recorder: Recorder, *, patience: int, min_delta: float = 0.0):
        super().__init__()
        self.recorder, self.patience, self.min_delta = recorder, patience, min_delta

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop, if it is time."""
        if self.is_over():
            self.model.stop_training = True

    def is_over(self) -> bool:
        """Whether the rows so far say that the phase should stop."""
        rows = self.recorder.rows[self.recorder.starts[-1] :]
        if not rows:
            return False
        best = best_epoch(rows, self.recorder.monitor, self.recorder.mode, self.min_delta)
        return rows[-1]["epoch"] - best >= self.patience


class AverageWeights(keras.callbacks.Callback):
    """Validates and saves with the averaged weights of Keras's optimizers (`use_ema`), and trains on with the others.

    From the validation of an epoch to its end the model has the averages. Unlike with Keras's `SwapEMAWeights` the
    optimizer keeps its own, and nothing is added and taken away again, which would round. It must come after the
    callbacks that save.

    Attributes:
        trained: While the model has the averages, the weights that are trained; else None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[np.ndarray] | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the averages in."""
        weights = self.model.trainable_variables
        self.trained = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
        self.model.optimizer.finalize_variable_values(weights)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Put the weights that are trained back in."""
        if self.trained is not None:
            put_in(self.model, self.trained)
            self.trained = None


def put_in(model: keras.Model, trained: Sequence[np.ndarray]) -> None:
    """Give a model the weights that were trained in place of their averages."""
    for weight, value in zip(model.trainable_variables, trained, strict=True):
        weight.assign(value)


class StopOnNaN(keras.callbacks.Callback):
    """Raises FloatingPointError, with advice, as soon as the loss is not a finite number."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch, for the message."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the running loss."""
        self._check("loss", logs, f"batch {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the validation loss."""
        self._check("val_loss", logs, "validation")

    def _check(self, name: str, logs: Any, where: str) -> None:
        value = float((logs or {}).get(name, 0.0))
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The {name} became {value} in epoch {self.epoch + 1}, {where}. Lower optimizer.learning_rate, try "
                "training.precision=float32, and look for NaN in the images. The checkpoints of the epochs before are "
                "intact."
            )


class SeedEpoch(keras.callbacks.Callback):
    """Sets the state of every random layer from the seed and the epoch: a resumed run draws what it would have."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Assign the states."""
        states = [variable for variable in self.model.variables if variable.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            draw = np.random.SeedSequence([self.seed, epoch, index]).generate_state(math.prod(state.shape))
            state.assign(np.reshape(draw, state.shape).astype("uint32"))


class Progress(keras.callbacks.Callback):
    """A line for every finished epoch, and on a terminal a bar with the running metrics below it.

    Args:
        console: A `rich.console.Console`.
        epochs: Epochs of the whole run.
        steps: Steps of an epoch.
        recorder: Marks the epochs that were best so far; it must come before this callback.
    """

    def __init__(self, console: Any, *, epochs: int, steps: int, recorder: Recorder):
        super().__init__()
        self.console, self.epochs, self.steps, self.recorder = console, epochs, steps, recorder
        self.bar: Any = None
        self.task: Any = None
        self.started = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Show the bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, TextColumn("{task.fields[metrics]}"), console=self.console, transient=True)
            self.task = self.bar.add_task("", total=self.steps, metrics="")
            self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the bar back."""
        self.started = time.perf_counter()
        if self.bar:
            self.bar.reset(self.task, total=self.steps, description=f"epoch {epoch + 1}/{self.epochs}", metrics="")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        if self.bar:
            self.bar.update(self.task, completed=batch + 1, metrics=_metrics(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Print the line of the epoch."""
        rows = self.recorder.rows
        best = bool(rows) and best_epoch(rows, self.recorder.monitor, self.recorder.mode) == epoch
        seconds = time.perf_counter() - self.started
        line = f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {seconds:5.1f} s  {_metrics(logs)}"
        self.console.print(line + ("  best" if best else ""), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away; `on_train_end` does not happen when training raises."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, logs: Any = None) -> None:
        """Take the bar away."""
        self.close()


def plain_names(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Logs with the metrics of the mask called as they are without other outputs: `val_iou` for `val_mask_iou`."""
    return {re.sub(r"^(val_)?mask_(?!loss$)", r"\1", name): value for name, value in logs.items()}


def _metrics(logs: Any) -> str:
    """`loss 0.1234  val_loss 0.2  val_iou 0.512 …`; of the training metrics only the loss where there is validation."""
    logs = {name: value for name, value in plain_names(logs or {}).items() if not _OF_ONE_OUTPUT.match(name)}
    validation = [name for name in logs if name.startswith("val_")]
    names = ["loss", *validation] if validation else list(logs)
    names.sort(key=lambda name: (not name.endswith("loss"), name))
    return "  ".join(f"{name} {float(logs[name]):.4g}" for name in names if name in logs)
