"""The command line: what a person types, from a folder of images to masks, report and comparison."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support.source_tree import REPOSITORY
from support.tiny import tiny
from typer.testing import CliRunner

import kerazoo as kz
from kerazoo.cli import app
from kerazoo.cli.terminal import progress_bar
from kerazoo.training import build

ROOT = REPOSITORY
SOFT = ("--set", "evaluation.threshold=0.05")  # so that a model of one epoch finds something
COMMANDS = ("demo", "models", "train", "evaluate", "predict", "export", "report", "compare")


def call(*arguments):
    """Exit code and text (without colors, on one line per paragraph) of a command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """A folder of gray images of 40x48 pixels with masks beside them."""
    folder = tmp_path_factory.mktemp("tiles")
    for sample in kz.data.sources.synthetic(30, empty_fraction=0.5, image_size=(40, 48), seed=2):
        Image.fromarray(sample.image[..., 0]).save(folder / f"{sample.id}.jpg", quality=95)
        Image.fromarray(sample.mask * 255).save(folder / f"{sample.id}_mask.png")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiles.yaml"
    source = "data.source={name: folder, mask_suffix: _mask.png, mask_threshold: 127}"
    tiny(source, "training.epochs=3", "name=tiles").dump(path)
    return path


@pytest.fixture(scope="module")
def run(tiles, recipe, tmp_path_factory):
    """A run of one epoch, trained by the command line."""
    directory = tmp_path_factory.mktemp("runs") / "a"
    code, text = call("train", recipe, "--data", tiles, "--run", directory, "--set", "training.epochs=1", *SOFT)
    assert code == 0, text
    assert "epoch 1/1" in text
    assert "image balanced accuracy" in text
    return directory


def test_train_writes_the_resolved_recipe(run):
    resolved = kz.training.Recipe.load(run / "recipe.yaml")
    assert (resolved.name, resolved.training.epochs) == ("tiles", 1)
    assert (run / "report.html").stat().st_size > 10_000


def test_evaluate_finds_the_data_by_itself(run):
    code, text = call("evaluate", run, "--split", "val")
    assert code == 0, text
    assert "all background" in text
    assert "95% interval" in text
    assert json.loads((run / "evaluation.json").read_text())["split"] == "val"
    assert call("evaluate", run)[0] == 0


def test_predict_writes_masks_of_the_images_own_size(run, tiles, tmp_path):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    names = sorted(path for path in tiles.glob("*.jpg"))[:3]
    for path, target in zip(names, ("a.jpg", "b.jpg", "sub/c.jpg"), strict=True):
        (images / target).write_bytes(path.read_bytes())
    code, text = call("predict", run, images, "--to", tmp_path / "out", "--threshold", 0.01)
    assert code == 0, text
    assert "3 masks in" in text
    for name in ("a", "b", "sub/c"):
        mask = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert mask.shape == (40, 48)
        assert set(np.unique(mask)) <= {0, 1}
        assert np.asarray(Image.open(tmp_path / "out" / f"{name}_overlay.png")).shape == (40, 48, 3)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["a.jpg", "b.jpg", "sub/c.jpg"]
    assert call("predict", run, images, "--to", tmp_path / "out")[0] == 2, "masks are not replaced unasked"
    assert call("predict", run, images, "--to", tmp_path / "out", "--overwrite")[0] == 0


def test_predict_tiles_flips_and_skips(run, tiles, tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    with Image.open(next(tiles.glob("*.jpg"))) as image:
        image.resize((80, 96)).save(images / "a.png")
    (images / "broken.png").write_bytes((images / "a.png").read_bytes()[:60])
    code, text = call("predict", run, images, "--to", tmp_path / "out")
    assert (code, "Cannot read" in text) == (2, True), text
    asked = {}
    predict_folder = kz.inference.predict_folder
    monkeypatch.setattr(
        kz.inference,
        "predict_folder",
        lambda *args, **options: asked.update(options) or predict_folder(*args, **options),
    )
    options = ("--tile", 64, "--overlap", 16, "--tta", "flip", "--skip-unreadable", "--overwrite")
    code, text = call("predict", run, images, "--to", tmp_path / "out", *options)
    assert code == 0, text
    assert "1 masks in" in text
    assert "1 files could not be read" in text
    assert {name: asked[name] for name in ("tile", "overlap", "tta", "image_size")} == {
        "tile": 64,
        "overlap": 16,
        "tta": "flip",
        "image_size": None,
    }
    assert call("predict", run, images, "--to", tmp_path / "b", "--tta", "turn")[0] == 2


def test_predict_and_export_read_images_as_the_recipe_does(run, tmp_path):
    deep = tmp_path / "deep"
    shutil.copytree(run, deep)
    reading = "data.source={name: folder, mask_threshold: 127, intensity_range: [0, 1000], exif_orientation: false}"
    kz.training.Recipe.load(run / "recipe.yaml", [reading]).dump(deep / "recipe.yaml")
    (tmp_path / "images").mkdir()
    values = np.random.default_rng(0).integers(0, 1000, (32, 32)).astype("uint16")
    Image.fromarray(values).save(tmp_path / "images" / "a.tif")
    code, text = call("predict", deep, tmp_path / "images", "--to", tmp_path / "out")
    assert code == 0, text
    (expected,) = kz.inference.predict(kz.training.run.load_model(run), [(values * 0.255).astype("float32")])
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert float(next(csv.DictReader(file))["score"]) == pytest.approx(expected.score, abs=1e-5)
    code, text = call("export", deep, "--to", tmp_path / "served")
    assert (code, "8-bit images do not hold" in text) == (2, True), text
    code, text = call("export", deep, "--to", tmp_path / "served", "--input-dtype", "uint16")
    assert code == 0, text
    assert json.loads((tmp_path / "served" / "parity.json").read_text())["intensity_range"] == [0, 1000]


def test_a_terminal_gets_a_bar_and_a_pipe_none():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(terminal, "predicting") as progress:
        progress(3, 4)
    assert "predicting" in terminal.file.getvalue()
    with progress_bar(Console(file=io.StringIO(), force_terminal=False), "predicting") as progress:
        assert progress is None


@pytest.mark.parametrize(("command", "advised"), [("train", True), ("evaluate", False)])
def test_only_a_training_is_advised_to_resume(command, advised, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(kz.training.Recipe, "load", interrupted)
    monkeypatch.setattr(kz.training, "evaluate", interrupted)
    code, text = call(command, "somewhere")
    assert code == 130
    assert ("--resume" in text) == advised


def test_predict_agrees_with_evaluate(run, tiles, tmp_path):
    """The images of the test split, at the recipe's size, get the masks that `evaluate` counted."""
    rows = json.loads((run / "evaluation.json").read_text())["per_image"]
    (tmp_path / "images").mkdir()
    for row in rows:
        with Image.open(tiles / f"{row['id']}.jpg") as image:
            image.resize((32, 32), Image.Resampling.BILINEAR).save(tmp_path / "images" / f"{row['id']}.png")
    code, text = call("predict", run, tmp_path / "images", "--to", tmp_path / "out")
    assert code == 0, text
    masks = {row["id"]: np.asarray(Image.open(tmp_path / "out" / f"{row['id']}.png")) for row in rows}
    assert {name: int((mask > 0).sum()) for name, mask in masks.items()} == {
        row["id"]: row["predicted_pixels"] for row in rows
    }
    assert any(row["predicted_pixels"] for row in rows)


def test_predict_takes_the_threshold_of_the_recipe(run, tiles, tmp_path):
    strict = tmp_path / "strict"
    shutil.copytree(run, strict)
    kz.training.Recipe.load(run / "recipe.yaml", ["evaluation.threshold=0.999999"]).dump(strict / "recipe.yaml")
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(next(tiles.glob("*.jpg")), images)
    code, text = call("predict", strict, images, "--to", tmp_path / "out")
    assert (code, "1 masks in" in text, "0 with foreground" in text) == (0, True, True), text
    code, text = call("predict", strict, images, "--to", tmp_path / "out", "--threshold", 1e-6, "--overwrite")
    assert "1 with foreground" in text, text


def test_export_is_compared_with_the_model(run, tmp_path):
    code, text = call("export", run, "--to", tmp_path / "served", "--format", "saved_model")
    assert code == 0, text
    difference = re.search(r"max \|exported − model\| = (\S+e-\d+)", text)
    assert difference, text
    assert float(difference[1]) < 1e-4
    code, text = call("export", run, "--to", tmp_path / "other", "--format", "onnxx")
    assert code == 2
    assert "'onnxx' is not" in text


def test_report_is_written_anew(run):
    (run / "report.html").unlink()
    code, text = call("report", run)
    assert code == 0, text
    assert (run / "report.html").is_file()


def test_compare_takes_seeds_together(run, tmp_path):
    """Copies of the run with invented results: mean and sample standard deviation by hand."""
    for name, seed, value in (("s0", 0, 0.4), ("s1", 1, 0.6)):
        copy = tmp_path / name
        copy.mkdir()
        (copy / "run.json").write_text((run / "run.json").read_text())
        kz.training.Recipe.load(run / "recipe.yaml", [f"training.seed={seed}"]).dump(copy / "recipe.yaml")
        metrics = {"iou": {"value": value}, "recall": {"value": None}}
        (copy / "evaluation.json").write_text(json.dumps({"split": "test", "metrics": metrics}))
    code, text = call("compare", tmp_path / "s0", tmp_path / "s1")
    assert code == 0, text
    assert re.search(r"tiles\s.*0 1\s.*0\.500 ± 0\.141", text), text
    assert "recall" not in text, "no run defines it"
    code, text = call("compare", run)
    assert code == 0
    assert "±" not in text.splitlines()[-2], "one run has no spread"
    assert call("compare", run, run)[0] == 2
    other = json.loads((tmp_path / "s1" / "evaluation.json").read_text()) | {"threshold": 0.3}
    (tmp_path / "s1" / "evaluation.json").write_text(json.dumps(other))
    code, text = call("compare", tmp_path / "s0", tmp_path / "s1")
    assert code == 2
    assert "evaluated with different values of threshold" in text
    (tmp_path / "s1" / "evaluation.json").write_text(json.dumps({"split": "val", "metrics": {}}))
    code, text = call("compare", tmp_path / "s0", tmp_path / "s1")
    assert code == 2
    assert "evaluated on different splits" in text


def test_resume_and_overwrite(run, tiles, recipe):
    code, text = call("train", recipe, "--data", tiles, "--run", run, "--set", "training.epochs=1", *SOFT)
    assert code == 2
    assert "holds a run. Continue it with --resume" in text
    code, text = call("train", run / "recipe.yaml", "--data", tiles, "--run", run, "--resume")
    assert code == 0, text
    assert "resuming after epoch 1 of 1" in text


def test_models_lists_every_part():
    code, text = call("models")
    assert code == 0
    for kind in (kz.encoders, kz.decoders, kz.heads):
        assert set(kind.list()) <= set(text.split())
    assert "resnet18" in call("models", "resnet*")[1]
    assert "unet" not in call("models", "resnet*")[1]
    code, text = call("models", "nothing*")
    assert code == 2
    assert "matches 'nothing*'" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nowhere.yaml"), "There is no recipe 'nowhere.yaml'"),
        (("evaluate", "nowhere"), "nowhere is not a run directory"),
        (("predict", "nowhere", ".", "--to", "out"), "nowhere is not a run directory"),
        (("export", "nowhere", "--to", "out"), "nowhere is not a run directory"),
        (("report", "nowhere"), "nowhere"),
        (("compare", "nowhere"), "nowhere is not a run directory"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = call(*arguments)
    assert code == 2
    assert message in text
    assert "Traceback" not in text
    assert text.startswith("kerazoo: ")


@pytest.mark.parametrize("reader", ["loop", "fit"])
def test_faulty_data_is_named_though_tensorflow_reads_it(reader):
    """An image that is met inside tf.data, which wraps the error of the source in one of its own."""
    source = kz.data.sources.synthetic(8, image_size=(32, 32))
    batches = build.make_batches(tiny(), source, channels=1, train=False)

    def spoiled(index):
        raise ValueError("Cannot read tile 7.")

    source.image = spoiled
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Conv2D(1, 1)])
    model.compile(loss="mse", optimizer="sgd")
    read = {"loop": list, "fit": lambda batches: model.fit(batches, verbose=0, shuffle=False)}[reader]
    with pytest.raises(ValueError, match=r"^Cannot read tile 7\.$"), build.plain_data_errors():
        read(batches)


def test_debug_shows_the_error_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run directory"):
        call("--debug", "evaluate", tmp_path)


def test_help_is_quick_and_lists_the_commands():
    """In a process of its own: the console script's `--help` must not import Keras."""
    script = """
import sys
sys.argv = ["kerazoo", "--help"]
from kerazoo.cli import main
try:
    main()
finally:
    print(sorted(sys.modules))
"""
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert time.perf_counter() - started < 15, "a bound that only a heavy import breaks, on a busy machine too"
    for command in COMMANDS:
        assert f" {command} " in result.stdout
    for heavy in ("keras", "tensorflow", "numpy", "matplotlib", "pydantic"):
        assert f"'{heavy}'" not in result.stdout, f"`kerazoo --help` imports {heavy}"


@pytest.mark.slow
def test_demo_beats_the_trivial_predictors(tmp_path):
    """The whole demo, as `make demo` runs it."""
    command = [sys.executable, "-m", "kerazoo", "demo", "--run", str(tmp_path / "demo")]
    for _ in range(2):  # an earlier demo is replaced
        subprocess.run(command, check=True, cwd=ROOT)
    result = json.loads((tmp_path / "demo" / "evaluation.json").read_text())
    for name in ("iou", "image_balanced_accuracy"):
        assert result["metrics"][name]["value"] > result["trivial"][name] + 0.2, name
