"""The run directory: what may be deleted and when, what a killed start leaves, damaged files."""

import importlib
import io

import pytest
from rich.console import Console
from support.data_fixtures import arrays
from support.tiers import thorough
from support.tiny import tiny

import kerazoo as kz
from kerazoo.training import train
from kerazoo.training.callbacks import Recorder
from kerazoo.training.recipe import Recipe
from kerazoo.training.run import read_run, read_split

train_module = importlib.import_module("kerazoo.training.train")  # the package's `train` is the function
SHORT = ("training.epochs=1", "evaluation={gallery: 0, bootstrap: 0}")


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


def content(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.fixture
def old(tmp_path):
    """Directory with the results of an old run."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    tiny().dump(run / "recipe.yaml")
    for name in ("metrics.csv", "evaluation.json", "checkpoints/best.keras"):
        (run / name).write_text("old")
    return run


@pytest.mark.parametrize(
    ("assignments", "data", "error"),
    [
        (("data.source={name: folder}",), "nowhere", FileNotFoundError),
        (("data.split.by=group",), None, ValueError),
        (("data.source.empty_fraction=0",), None, ValueError),
    ],
    ids=["data", "split", "pipeline"],
)
def test_overwrite_deletes_nothing_before_all_is_well(old, assignments, data, error):
    before = content(old)
    with pytest.raises(error):
        train(tiny(*assignments), old, None if data is None else old / data, overwrite=True)
    assert content(old) == before


@pytest.fixture
def unfinished(tmp_path):
    """Directory of a run that was killed just before its recipe.yaml was there."""
    run = tmp_path / "run"

    def die(recipe, path):
        path.with_name("recipe.yaml.partial").write_text("name: ti")
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "dump", die)
        with pytest.raises(Killed):
            train(tiny(*SHORT), run, console=Console(file=io.StringIO()))
    assert {path.name for path in run.iterdir()} == {
        "checkpoints", "split.csv", "environment.json", "audit.json", "doctor.json", "phases.json", "run.json",
        "recipe.yaml.partial",
    }  # fmt: skip
    return run


@thorough
@pytest.mark.parametrize("choice", ["resume", "overwrite"])
def test_a_run_killed_while_it_started_starts_anew(unfinished, choice, monkeypatch):
    started = []
    monkeypatch.setattr(train_module, "_fit", lambda recipe, run, *_: started.append(read_run(run)[0]))
    monkeypatch.setattr(train_module, "evaluate", lambda *_, **__: {})
    with pytest.raises(FileExistsError, match="holds a run. Continue it with --resume, delete it with --overwrite"):
        train(tiny(*SHORT), unfinished)
    train(tiny(*SHORT), unfinished, console=Console(file=io.StringIO()), **{choice: True})
    assert started == [tiny(*SHORT)]
    assert not [name for name in content(unfinished) if "partial" in name]


@pytest.mark.parametrize("name", ["thesis.tex", "checkpoints/weights.h5", "metrics.csv"])
def test_a_directory_with_files_of_others_is_no_unfinished_run(unfinished, name):
    (unfinished / name).write_text("precious")
    before = content(unfinished)
    for choice in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(FileExistsError, match="is not a run of kerazoo"):
            train(tiny(), unfinished, **choice)
    assert content(unfinished) == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("0,train", "1,train"), r"split\.csv is damaged: it has no image in val, test, where a run has train, val"),
        (
            ("0,train", "1,val", "2,tes"),
            r"damaged: it has no image in test and names the splits \['tes'\]",
        ),
        (("0,train", "1,val", "2,test", "3"), r"split\.csv is damaged: it names the splits \[None\]"),
    ],
)
def test_a_damaged_split_is_named(old, lines, message):
    source = kz.data.sources.synthetic(4, image_size=(32, 32))
    rows = [f"{source.ids[int(line[0])]}{line[1:]}" for line in lines]
    (old / "split.csv").write_text("\n".join(["id,split", *rows]))
    with pytest.raises(ValueError, match=message):
        read_split(old, source)


def test_foreground_that_resizing_erases_is_counted(tmp_path, monkeypatch):
    """Of 64 pixels, the nearest of 32 are the odd ones: a single pixel at (0, 0) is gone."""
    source = arrays(40, positives=20, size=(64, 64))
    lost = source.ids[:10]
    source._reader.masks[:10] = 0
    source._reader.masks[:10, 0, 0] = 1

    def keep(recipe, run, model, *_):
        recorder = Recorder(run, monitor="val_iou", mode="max")
        recorder.set_model(model)
        recorder.on_epoch_end(0, {"val_iou": 0.0})

    monkeypatch.setattr(train_module, "_fit", keep)
    text = io.StringIO()
    recipe = tiny(*SHORT, "training.doctor=false")  # the images are flat, which it would not have
    result = train(recipe, tmp_path / "run", source, console=Console(file=text, width=200))
    test = read_split(tmp_path / "run", source)["test"]
    expected = len(set(lost) & set(test.ids))
    assert 0 < expected < test.foreground.sum() == 4
    assert (result["vanished_foreground"], result["foreground_images"]) == (expected, 4 - expected)
    assert f"warning: {expected} of 4 images with foreground have an empty mask at 32x32" in text.getvalue()
