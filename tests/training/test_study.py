"""Studies: what they read, what they run and do not run again, and what they say of it."""

import csv
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from rich.console import Console
from support.source_tree import REPOSITORY
from support.tiny import TINY, tiny

from kerazoo.inference.scores import Counts, metrics
from kerazoo.training import Study, comparison, study
from kerazoo.training.experiments import difference
from kerazoo.training.run import read_counts, write_counts, write_json
from kerazoo.training.study import read_table, summarize

module = sys.modules["kerazoo.training.study"]
SHIPPED = sorted((REPOSITORY / "benchmarks" / "studies").glob("*.yaml"))
IMAGES = 40


@pytest.fixture
def place(tmp_path):
    """Directory of a recipe and a study of it."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    write(tmp_path)
    return tmp_path


def write(place, **changes):
    content = {
        "recipe": "tiny.yaml",
        "seeds": "0-1",
        "set": {"training.epochs": 1, "evaluation.gallery": 0},
        "arms": {"plain": None, "wide": {"model.head.width": 16}},
        **changes,
    }
    (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Study.load(place / "study.yaml")


def pretend(directory, recipe, good):
    """What a run leaves; `good` is the share of the foreground that it finds."""
    directory.mkdir(parents=True, exist_ok=True)
    recipe.dump(directory / "recipe.yaml")
    write_json(directory / "run.json", {"num_classes": 1, "class_names": ["nodule"], "channels": 1, "data": None})
    write_json(directory / "environment.json", {"backend": "tensorflow", "versions": {"tensorflow": "2.21"}})
    true = np.arange(IMAGES)[:, None] % 4 * 25
    overlap = np.round(true * good).astype(int)
    counts = Counts(true, overlap + (true == 0), overlap, np.full(IMAGES, 1000))
    write_counts(directory, [f"image-{i:02d}" for i in range(IMAGES)], counts)
    (directory / "checkpoints").mkdir(exist_ok=True)
    values = metrics(counts, ("nodule",))
    return {
        "checkpoint": "best", "epoch": 1, "images": IMAGES,
        "metrics": {name: {"value": None if np.isnan(value) else value} for name, value in values.items()},
    }  # fmt: skip


@pytest.fixture
def pretended(monkeypatch):
    """Runs as they were asked for, without training; the wide head is better, and seeds differ a little."""
    asked = []

    def fake(recipe, directory, data, console=None):
        asked.append((recipe.name, recipe.training.seed))
        if asked[-1] in fake.failing:
            raise FloatingPointError("The loss became nan")
        base = 0.8 if recipe.name == "wide" else 0.5
        return pretend(directory, recipe, base + 0.01 * ((7 * recipe.training.seed) % 10))

    fake.failing = set()
    monkeypatch.setattr(module, "_train", fake)
    return asked, fake


def run(study_, directory, **options):
    text = io.StringIO()
    found = study(study_, directory, console=Console(file=text, width=300), **options)
    return found, text.getvalue()


def test_a_study_trains_every_arm_with_every_seed_once(place, pretended):
    asked, _ = pretended
    found, text = run(place / "study.yaml", place / "out")
    assert asked == [("plain", 0), ("wide", 0), ("plain", 1), ("wide", 1)]
    table = (place / "out" / "results.csv").read_text()
    rows = read_table(place / "out" / "results.csv")
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, str(seed)) for arm, seed in asked]
    assert float(rows[1]["iou"]) > float(rows[0]["iou"]) > 0.4
    assert rows[0]["backend"] == "tensorflow 2.21"
    assert not (place / "out" / "runs" / "wide" / "0" / "checkpoints").exists()
    run(place / "study.yaml", place / "out")
    assert len(asked) == 4, "nothing is trained twice"
    assert (place / "out" / "results.csv").read_text() == table
    write(place, seeds=[0, 1, 2])
    run(place / "study.yaml", place / "out")
    assert asked[4:] == [("plain", 2), ("wide", 2)]
    assert "4 of 6 runs" not in text
    assert {one.arm for one in found} == {"wide"}


def test_a_run_that_fails_does_not_keep_others_from_running(place, pretended):
    asked, fake = pretended
    fake.failing.add(("wide", 0))
    with pytest.raises(RuntimeError, match=r"1 of 4 runs failed:\nwide, seed 0: The loss became nan"):
        run(place / "study.yaml", place / "out")
    assert len(read_table(place / "out" / "results.csv")) == 3
    assert (place / "out" / "study.md").is_file()
    fake.failing.clear()
    run(place / "study.yaml", place / "out")
    assert asked[4:] == [("wide", 0)]


def test_results_of_another_recipe_are_refused(place, pretended):
    run(place / "study.yaml", place / "out")
    write(place, arms={"plain": {}, "wide": {"model.head.width": 24}})
    with pytest.raises(ValueError, match=r"results\.csv has arm 'wide' of another recipe \(seed 0\)"):
        run(place / "study.yaml", place / "out")


def test_a_line_that_was_cut_short_is_trained_again(place, pretended):
    asked, _ = pretended
    run(place / "study.yaml", place / "out")
    table = place / "out" / "results.csv"
    table.write_text(table.read_text().rpartition(",")[0].rpartition(",")[0])
    run(place / "study.yaml", place / "out")
    assert asked[4:] == [("wide", 1)]


def test_one_seed_has_no_winner(place, pretended):
    write(place, seeds=[3])
    (iou, _), text = run(place / "study.yaml", place / "out")
    assert iou.tests is iou.effect is None
    assert iou.verdict == "no verdict: one seed is chance, train more"
    assert "better" not in text.replace("less is better", "")


def test_ten_seeds_tell_arms_apart(place, pretended):
    write(place, seeds="0-9", metrics=["iou", "image_balanced_accuracy", "empty_false_positive_pixels"])
    found, text = run(place / "study.yaml", place / "out")
    iou, accuracy, pixels = found
    rows = read_table(place / "out" / "results.csv")
    values = {arm: [float(row["iou"]) for row in rows if row["arm"] == arm] for arm in ("plain", "wide")}
    assert iou.tests == difference(values["plain"], values["wide"])
    assert iou.verdict == "better"
    assert iou.interval[0] > 0
    assert iou.effect > 3
    assert (accuracy.verdict, accuracy.effect) == ("not told apart over seeds (p = 1)", None)
    assert pixels.interval == (0, 0)
    written = (place / "out" / "study.md").read_text()
    assert "| wide | 0 1 2 3 4 5 6 7 8 9 |" in written
    assert "![iou, a dot per seed](plots/iou.png)" in written
    assert (place / "out" / "plots" / "iou.png").stat().st_size > 3000
    assert "what the others are compared with" in text


def test_seeds_alone_do_not_win_over_few_images(place, pretended):
    """Two arms that differ by the find of one image: over seeds always, over images by chance."""
    study_ = write(place, seeds="0-9", metrics=["iou"])
    run(study_, place / "out")
    for seed in range(10):
        for arm, found in (("plain", 10), ("wide", 20)):
            directory = place / "out" / "runs" / arm / str(seed)
            ids, counts = read_counts(directory)
            overlap = np.where(np.arange(IMAGES)[:, None] == 1, found, counts.true // 2)
            write_counts(directory, ids, Counts(counts.true, counts.true, overlap, counts.pixels))
    (iou,) = summarize(study_, place / "out")
    assert iou.tests.medians < 0.01
    assert iou.interval[0] == 0 < iou.interval[1]
    assert iou.verdict == "not told apart over images (the interval holds 0)"


def test_the_bootstrap_is_paired_and_of_images(tmp_path):
    """Against a loop; images in another order in one run; Hedges's g by its definition."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 50, (IMAGES, 1))
    runs, kept = {}, {}
    for arm, share in (("a", 0.5), ("b", 0.55)):
        for seed in range(2):
            overlap = (true * np.clip(rng.normal(share, 0.1, (IMAGES, 1)), 0, 1)).astype(int)
            counts = Counts(true, true, overlap, np.full(IMAGES, 99))
            directory = tmp_path / arm / str(seed)
            pretend(directory, tiny(), 1)
            order = rng.permutation(IMAGES)
            shuffled = Counts(**{name: value[order] for name, value in vars(counts).items()})
            write_counts(directory, [f"{i:02d}" for i in order], shuffled)
            runs.setdefault(arm, {})[seed], kept[arm, seed] = directory, counts
    values = {"dice": {arm: {s: metrics(kept[arm, s], "n")["dice"] for s in (0, 1)} for arm in runs}}
    (found,) = comparison.compare_arms(values, runs, resamplings=1500)
    differences = []
    for _ in range(1500):
        drawn = rng.integers(0, IMAGES, IMAGES)
        of = {k: metrics(Counts(*(v[drawn] for v in vars(c).values())), "n")["dice"] for k, c in kept.items()}
        differences.append((of["b", 0] + of["b", 1] - of["a", 0] - of["a", 1]) / 2)
    assert found.interval == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=6e-3)
    a, b = ([*values["dice"][arm].values()] for arm in "ab")
    pooled = np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2)
    assert found.effect == pytest.approx((1 - 3 / (4 * 2 - 1)) * (np.mean(b) - np.mean(a)) / pooled, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": {}}, r"study\.yaml is not a valid study:\n  arm: unknown field. Did you mean 'arms' or"),
        ({"seeds": "many"}, r"seeds: seeds read 0-9 or 0,3,5-7; received 'many'"),
        ({"seeds": []}, r"seeds: .*at least 1 item"),
        ({"arms": {"a/b": {}}}, r"arms: an arm is the name of a directory: .*'a/b'"),
    ],
)
def test_bad_studies_are_named(place, changes, message):
    with pytest.raises(ValueError, match=message):
        write(place, **changes)


def test_bad_arms_are_named(place):
    with pytest.raises(ValueError, match=r"(?s)arm 'b': .*training\.epoch: unknown field. Did you mean 'epochs'"):
        write(place, arms={"a": {}, "b": {"training.epoch": 3}}).recipes()
    with pytest.raises(ValueError, match="The arms 'a' and 'b' are one recipe"):
        write(place, arms={"a": {}, "b": {"training.epochs": 1}}).recipes()
    with pytest.raises(FileNotFoundError, match="There is no recipe"):
        write(place, recipe="nowhere.yaml").recipes()
    with pytest.raises(ValueError, match="With processes=2 give `data` as a directory"):
        study(place / "study.yaml", place / "out", object(), processes=2)


def test_metrics_are_those_of_the_runs(place, pretended):
    write(place, metrics=["iuo"])
    with pytest.raises(ValueError, match=r"metrics: the runs have no 'iuo'. Did you mean 'iou'"):
        run(place / "study.yaml", place / "out")


@pytest.mark.parametrize("text", ["0-3", "0,1,2-3", [0, 1, 2, 3], "0, 1, 2, 3"])
def test_seeds_are_ranges_or_lists(place, text):
    assert write(place, seeds=text).seeds == (0, 1, 2, 3)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path):
    recipes = Study.load(path).recipes()
    assert len(recipes) >= 4
    assert "kerazoo study benchmarks/studies/" + path.name in path.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="cores can be chosen on Linux")
@pytest.mark.parametrize("processes", [1, 2, 3, 100])
def test_processes_share_the_cores(processes):
    shares, cores = module._cores(processes), os.sched_getaffinity(0)
    assert len(shares) == processes
    assert all(shares)
    assert set().union(*shares) <= cores
    assert processes > len(cores) or sum(map(len, shares)) == len(cores)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_study_goes_on_in_several_processes(place):
    """SIGKILL after the first row; its workers end too, and the rest is trained when it is started anew."""
    command = [sys.executable, "-m", "kerazoo", "study", str(place / "study.yaml"), "--to", str(place / "out")]
    table = place / "out" / "results.csv"
    process = subprocess.Popen([*command, "--processes", "2"], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not table.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = read_table(table)
    assert 1 <= len(first) < 4
    subprocess.run([*command, "--processes", "2"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    rows = read_table(table)
    assert rows[: len(first)] == first
    assert {(row["arm"], row["seed"]) for row in rows} == {(arm, seed) for arm in ("plain", "wide") for seed in "01"}
    with table.open() as file:
        assert csv.DictReader(file).fieldnames[:3] == ["arm", "seed", "recipe"]
    assert (place / "out" / "study.md").is_file()
