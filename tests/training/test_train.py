"""Training and evaluation on tiny invented images: what a run leaves, resuming, guards."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console
from support.source_tree import REPOSITORY
from support.tiers import thorough
from support.tiny import tiny

from kerazoo.training import callbacks, evaluate, train
from kerazoo.training.run import load_model, open_source, read_run, read_split
from kerazoo.training.strategy import devices


def rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the tiny recipe: directory, what it printed, what `train` returned."""
    run, text = tmp_path_factory.mktemp("runs") / "finished", io.StringIO()
    result = train(tiny(), run, console=Console(file=text, width=200))
    return run, text.getvalue(), result


def test_a_run_leaves_its_files(finished):
    run, _, _ = finished
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    expected = {
        "recipe.yaml",
        "run.json",
        "environment.json",
        "split.csv",
        "metrics.csv",
        "evaluation.json",
        "report.html",
    }
    pictures = {"plots/curves.png", "gallery/worst.png", "gallery/examples.png"}
    assert expected | pictures | {"checkpoints/best.keras", "checkpoints/last.keras"} <= files
    assert any(name.startswith("logs/") for name in files)
    assert not [name for name in files if "partial" in name]
    assert read_run(run)[0] == tiny()
    assert json.loads((run / "environment.json").read_text())["training_minutes"] > 0


def test_metrics_csv_has_a_row_per_epoch(finished):
    log = rows(finished[0])
    assert [row["epoch"] for row in log] == [0, 1, 2, 3]
    assert {"loss", "iou", "val_loss", "val_iou", "val_image_balanced_accuracy", "learning_rate"} <= set(log[0])
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["learning_rate"] == pytest.approx(1e-5, rel=1e-3)


def test_split_is_the_recipes(finished):
    run = finished[0]
    source = open_source(tiny(), None)
    split = read_split(run, source)
    assert {name: len(part) for name, part in split.items()} == {"train": 24, "val": 8, "test": 8}
    assert sorted(sample for part in split.values() for sample in part.ids) == sorted(source.ids)
    assert {name: part.foreground.sum() for name, part in split.items()} == {"train": 12, "val": 4, "test": 4}


def test_best_checkpoint_is_that_of_the_best_epoch(finished):
    """The validation IoU that was logged for the best epoch is what its checkpoint gives."""
    run = finished[0]
    kept = (run / "evaluation.json").read_bytes()
    result = evaluate(run, "val")
    assert max(row["val_iou"] for row in rows(run)) > 0.05, "a run that learns nothing proves nothing"
    assert result["metrics"]["iou"]["value"] == pytest.approx(max(row["val_iou"] for row in rows(run)), abs=1e-6)
    last = evaluate(run, "val", checkpoint="last")
    assert last["metrics"]["iou"]["value"] == pytest.approx(rows(run)[-1]["val_iou"], abs=1e-6)
    (run / "evaluation.json").write_bytes(kept)


@thorough
def test_the_recipe_chooses_the_checkpoint(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    recipe = (run / "recipe.yaml").read_text()
    assert "checkpoint: best" in recipe
    (run / "recipe.yaml").write_text(recipe.replace("checkpoint: best", "checkpoint: last"))
    result = evaluate(run, "val")
    assert result["checkpoint"] == "last"
    assert result["metrics"]["iou"]["value"] == pytest.approx(rows(run)[-1]["val_iou"], abs=1e-6)


def test_evaluation(finished):
    run, _, result = finished
    saved = json.loads((run / "evaluation.json").read_text())
    assert (saved["split"], saved["images"], saved["foreground_images"]) == ("test", 8, 4)
    assert set(saved["metrics"]) == {
        "iou", "dice", "per_image_dice", "precision", "recall",
        "image_balanced_accuracy", "empty_false_positive_pixels",
    }  # fmt: skip
    assert set(saved["trivial"]) == set(saved["metrics"])
    assert set(saved["trivial_predictors"]) == {"all_background", "all_foreground"}
    iou = saved["metrics"]["iou"]
    assert iou["low"] <= iou["value"] <= iou["high"]
    assert saved["trivial"]["image_balanced_accuracy"] == 0.5
    assert saved["metrics"]["iou"]["value"] == pytest.approx(result["metrics"]["iou"]["value"])
    dice = [row["dice"] for row in saved["per_image"]]
    assert len(dice) == 8
    assert dice == sorted(dice), "the worst come first"


@thorough
def test_threshold_moves_the_masks(finished):
    run, _, result = finished
    kept = (run / "evaluation.json").read_bytes()
    strict = evaluate(run, threshold=0.999)
    (run / "evaluation.json").write_bytes(kept)
    loose, strict = (sum(row["predicted_pixels"] for row in each["per_image"]) for each in (result, strict))
    assert loose > strict


@thorough
def test_borders_are_compared_where_asked(finished, tmp_path):
    run, _, plain = finished
    assert "hausdorff_95" not in plain["metrics"], "they cost time and are asked for"
    in_pixels, in_mm = (shutil.copytree(run, tmp_path / name) for name in ("in_pixels", "in_mm"))
    text = (run / "recipe.yaml").read_text()
    assert "surface: false" in text
    assert "spacing: null" in text
    text = text.replace("surface: false", "surface: true").replace("spacing: null", "spacing: [0.5, 0.5]")
    (in_mm / "recipe.yaml").write_text(text)
    result, spaced = evaluate(in_pixels, surface=True), evaluate(in_mm)
    for name in ("boundary_iou", "hausdorff_95"):
        assert result["metrics"][name]["low"] <= result["metrics"][name]["value"] <= result["metrics"][name]["high"]
    distance = result["metrics"]["hausdorff_95"]["value"]
    assert spaced["metrics"]["hausdorff_95"]["value"] == pytest.approx(distance / 2)
    assert distance == pytest.approx(np.mean([r["hausdorff_95"] for r in result["per_image"] if r["true_pixels"]]))
    background, foreground = result["trivial_predictors"].values()
    assert result["trivial"]["hausdorff_95"] == min(background["hausdorff_95"], foreground["hausdorff_95"])
    assert result["trivial"]["boundary_iou"] == max(background["boundary_iou"], foreground["boundary_iou"])
    assert "hausdorff 95" in (in_pixels / "report.html").read_text()
    saved = json.loads((in_pixels / "evaluation.json").read_text())["per_image"]
    assert {row["hausdorff_95"] for row in saved if not row["true_pixels"]} == {None}


def test_progress_is_plain_lines_without_a_terminal(finished):
    lines = [line for line in finished[1].splitlines() if line.startswith("epoch ")]
    assert len(lines) == 4
    assert lines[0].startswith("epoch 1/4")
    assert "val_iou" in lines[0]
    assert lines[0].endswith("best")


def test_progress_on_a_terminal():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    recorder = callbacks.Recorder(Path(), monitor="val_iou", mode="max", rows=[{"epoch": 0, "val_iou": 0.5}])
    progress = callbacks.Progress(console, epochs=2, steps=2, recorder=recorder)
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"loss": 0.25})
    progress.bar.refresh()
    progress.on_epoch_end(0, {"loss": 0.25, "val_iou": 0.5})
    progress.on_train_end()
    assert "epoch 1/2" in text.getvalue()
    assert "loss 0.25" in text.getvalue()
    assert progress.bar is None


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run that was killed after its second epoch, between checkpoint and log, and then resumed."""
    run = tmp_path_factory.mktemp("runs") / "resumed"
    write = callbacks.Recorder._write_rows

    def die(recorder):
        if len(recorder.rows) == 2:
            raise Killed
        write(recorder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.Recorder, "_write_rows", die)
        with pytest.raises(Killed):
            train(tiny(), run, console=Console(file=io.StringIO()))
    assert len(rows(run)) == 1, "the log is an epoch behind the checkpoint"
    text = io.StringIO()
    train(tiny(), run, resume=True, console=Console(file=text, width=200))
    return run, text.getvalue()


@thorough
def test_resumed_run_equals_an_uninterrupted_one(finished, resumed):
    expected, received = rows(finished[0]), rows(resumed[0])
    assert [row["epoch"] for row in received] == [0, 1, 2, 3]
    for want, have in zip(expected, received, strict=True):
        assert have == pytest.approx(want, rel=3e-4, abs=1e-4)
    assert (finished[0] / "split.csv").read_text() == (resumed[0] / "split.csv").read_text()


@thorough
def test_resuming_trains_only_what_is_left(resumed):
    text = resumed[1]
    assert "resuming after epoch 2 of 4" in text
    assert "epoch 1/4" not in text
    assert "epoch 3/4" in text


@thorough
def test_resumed_weights_and_optimizer_equal(finished, resumed):
    ours = keras.saving.load_model(finished[0] / "checkpoints" / "last.keras")
    theirs = keras.saving.load_model(resumed[0] / "checkpoints" / "last.keras")
    assert int(ours.optimizer.iterations) == int(theirs.optimizer.iterations) == 4 * 6
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-3, atol=1e-3, err_msg=mine.path)


@thorough
def test_a_finished_run_resumes_to_itself(resumed):
    run = resumed[0]
    before = (run / "checkpoints" / "last.keras").stat().st_mtime_ns
    train(tiny(), run, resume=True, console=Console(file=io.StringIO()))
    assert (run / "checkpoints" / "last.keras").stat().st_mtime_ns == before


def test_resume_refuses_another_recipe(finished):
    with pytest.raises(ValueError, match=r"started with another recipe: its section 'training'"):
        train(tiny("training.batch_size=8"), finished[0], resume=True)


def test_resume_refuses_other_data(finished):
    import kerazoo as kz

    with pytest.raises(ValueError, match=r"split\.csv names the id 'synthetic-0000\d\d', which the source lacks"):
        train(tiny(), finished[0], kz.data.sources.synthetic(10, image_size=(32, 32)), resume=True)


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    path = tmp_path / "last.keras"
    path.write_bytes((finished[0] / "checkpoints" / "last.keras").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last\.keras is damaged"):
        callbacks.read_state(path)


def test_an_existing_run_is_not_overwritten(finished):
    before = (finished[0] / "metrics.csv").read_bytes()
    with pytest.raises(FileExistsError, match=r"holds a run\. Continue it with --resume, delete it with --overwrite"):
        train(tiny(), finished[0])
    with pytest.raises(ValueError, match=r"--resume continues a run and --overwrite deletes it"):
        train(tiny(), finished[0], resume=True, overwrite=True)
    assert (finished[0] / "metrics.csv").read_bytes() == before


def test_a_directory_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    for choice in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(FileExistsError, match="is not a run of kerazoo"):
            train(tiny(), tmp_path, **choice)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@thorough
def test_overwrite_deletes_the_run_and_nothing_else(tmp_path):
    """Also: several classes, a frozen encoder, the natural mix, without pictures and intervals."""
    (tmp_path / "recipe.yaml").write_text("old")
    (tmp_path / "notes.txt").write_text("kept")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "worst.png").write_text("old")
    recipe = tiny(
        "data.source.num_classes=3", "training.freeze=encoder", "training.epochs=1", "training.sampler=natural",
        "evaluation={gallery: 0, bootstrap: 0}",
    )  # fmt: skip
    result = train(recipe, tmp_path, overwrite=True, console=Console(file=io.StringIO()))
    assert (tmp_path / "notes.txt").read_text() == "kept"
    assert not (tmp_path / "gallery").exists()
    assert {"iou_nodule", "iou_streak"} <= set(result["metrics"])
    assert "low" not in result["metrics"]["iou"]
    assert result["class_names"] == ["background", "nodule", "streak"]
    start = build_tiny(recipe)
    trained = load_model(tmp_path, "last")
    assert len(trained.get_layer("encoder").weights) > 10
    for mine, other in zip(trained.get_layer("encoder").weights, start.get_layer("encoder").weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy(), err_msg=mine.path)
    moved = zip(trained.get_layer("head").weights, start.get_layer("head").weights, strict=True)
    assert any(np.abs(mine.numpy() - other.numpy()).max() > 0 for mine, other in moved)


def build_tiny(recipe):
    from kerazoo.training.build import build_model

    keras.utils.set_random_seed(recipe.training.seed)
    return build_model(recipe, num_classes=3, channels=1)


def test_nan_ends_the_run_with_advice():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(1e30))
    images = np.ones((12, 4), "float32")
    with pytest.raises(FloatingPointError, match=r"The loss became (nan|inf) in epoch 1, batch [23]\. Lower optimizer"):
        model.fit(images, images[:, :1], batch_size=4, epochs=2, callbacks=[callbacks.StopOnNaN()], verbose=0)


def test_nan_of_the_validation_ends_the_run():
    guard = callbacks.StopOnNaN()
    guard.on_epoch_begin(2)
    guard.on_epoch_end(2, {"loss": 0.5, "val_loss": 0.5})
    with pytest.raises(FloatingPointError, match=r"The val_loss became nan in epoch 3, validation"):
        guard.on_epoch_end(2, {"loss": 0.5, "val_loss": float("nan")})


@pytest.mark.parametrize(
    ("values", "mode", "min_delta", "best"),
    [
        ([0.1, 0.3, 0.2], "max", 0.0, 1),
        ([0.1, 0.3, 0.3], "max", 0.0, 1),
        ([3.0, 1.0, 2.0], "min", 0.0, 1),
        ([0.1, 0.15, 0.3], "max", 0.1, 2),
        ([0.1, 0.15, 0.19], "max", 0.1, 0),
        ([float("nan"), 0.0, float("nan")], "max", 0.0, 1),
        ([float("nan"), float("nan")], "max", 0.0, 0),
    ],
)
def test_best_epoch(values, mode, min_delta, best):
    log = [{"epoch": epoch, "val_iou": value} for epoch, value in enumerate(values)]
    assert callbacks.best_epoch(log, "val_iou", mode, min_delta) == best


def test_early_stopping_is_a_function_of_the_log():
    values = [0.1, 0.3, 0.2, 0.25, 0.29]
    log = [{"epoch": epoch, "val_iou": value} for epoch, value in enumerate(values)]
    over = []
    for end in range(len(log) + 1):
        recorder = callbacks.Recorder(Path(), monitor="val_iou", mode="max", rows=log[:end])
        over.append(callbacks.StopEarly(recorder, patience=2).is_over())
    assert over == [False, False, False, False, True, True]


def test_dropout_of_an_epoch_depends_on_seed_and_epoch_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dropout(0.5)])
    states = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        callback = callbacks.SeedEpoch(seed)
        callback.set_model(model)
        callback.on_epoch_begin(epoch)
        drawn = np.concatenate([v.numpy() for v in model.variables if "seed_generator_state" in v.path])
        assert len(drawn) == 4
        np.testing.assert_array_equal(drawn, states.setdefault((seed, epoch), drawn))
    assert len({tuple(drawn) for drawn in states.values()}) == 3


def test_data_must_fit_the_source(tmp_path):
    folder = tiny("data.source={name: folder}")
    with pytest.raises(ValueError, match=r"'folder' reads files: say in which directory they are \(--data PATH\)"):
        open_source(folder, None)
    with pytest.raises(ValueError, match=r"'synthetic' makes its own images and reads no files; leave --data out"):
        open_source(tiny(), tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(folder, tmp_path / "run", tmp_path / "nowhere")
    assert not (tmp_path / "run").exists(), "what fails at the start leaves no run behind"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "tests"}, ValueError, r"`split` must be one of train, val, test; received 'tests'"),
        ({"threshold": 1.0}, ValueError, r"`threshold` is a probability between 0 and 1; received 1\.0"),
        ({"checkpoint": "first"}, ValueError, r"`checkpoint` is 'best' or 'last'; received 'first'"),
    ],
)
def test_bad_arguments_of_evaluate(finished, arguments, error, message):
    with pytest.raises(error, match=message):
        evaluate(finished[0], **arguments)


def test_evaluate_needs_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a run directory: it has no recipe\.yaml"):
        evaluate(tmp_path)
    tiny().dump(tmp_path / "recipe.yaml")
    with pytest.raises(FileNotFoundError, match=r"has no run\.json: its training did not get that far"):
        evaluate(tmp_path)


def test_strategies_that_the_backend_lacks():
    with pytest.raises(ValueError, match=r"strategy='data_parallel' needs the backend 'jax', and this is 'tensorflow'"):
        devices("data_parallel", batch_size=4).__enter__()
    with pytest.raises(ValueError, match=r"Unknown strategy 'all'"):
        devices("all", batch_size=4).__enter__()
    with devices("auto", batch_size=5) as count:
        assert count == 1
    with devices("mirrored", batch_size=5) as count:
        assert count == 1, "one CPU"


MIRRORED = """
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
sys.path.insert(0, sys.argv[2])
from support.tiny import tiny
from kerazoo.training import train
from kerazoo.training.strategy import devices
try:
    devices("mirrored", batch_size=7).__enter__()
except ValueError as error:
    assert "batch_size=7 cannot be shared equally by 2 devices. Use 8" in str(error), error
else:
    raise AssertionError("a batch of 7 on 2 devices")
train(tiny("training.strategy=mirrored", "training.epochs=1"), sys.argv[1])
"""


@pytest.mark.slow
def test_mirrored_strategy_trains_on_two_devices(tmp_path):
    run = tmp_path / "run"
    here = str(REPOSITORY / "tests")
    subprocess.run([sys.executable, "-c", MIRRORED, str(run), here], check=True, cwd=REPOSITORY)
    assert json.loads((run / "environment.json").read_text())["devices"] == 2
    assert len(rows(run)) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_resumes(tmp_path):
    """SIGKILL in the middle of an epoch; the resumed run equals one that was let alone."""
    recipe = tiny("training.epochs=6")
    recipe.dump(tmp_path / "recipe.yaml")
    command = [sys.executable, "-m", "kerazoo", "train", str(tmp_path / "recipe.yaml"), "--run"]
    root = REPOSITORY
    process = subprocess.Popen([*command, str(tmp_path / "killed")], cwd=root, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(rows(tmp_path / "killed")) < 6
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*command, str(tmp_path / "whole")], cwd=root, check=True, stdout=subprocess.DEVNULL)
    for have, want in zip(rows(tmp_path / "killed"), rows(tmp_path / "whole"), strict=True):
        assert have == pytest.approx(want, rel=5e-3, abs=1e-3)
