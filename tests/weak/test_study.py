"""The study of segmentation from image labels: its scores, its resuming, and the tables made of it."""

import csv
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support.source_tree import REPOSITORY
from support.tiers import thorough

import kerazoo as kz

SCRIPT = REPOSITORY / "benchmarks" / "weak_study.py"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import weak_study

    return weak_study


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    import tables

    return tables


def test_scores_of_masks_worked_by_hand(study):
    """Three images: two of four pixels found and one too many; one found for nothing; one rightly empty."""
    truth = np.zeros((3, 4, 4), np.uint8)
    truth[0, 0] = 1
    found = np.zeros((3, 4, 4), bool)
    found[0, 0, :2] = found[0, 1, 0] = found[1, 2, 2] = True
    scores = dict(study.scores(truth, found))
    hits, false_alarms, misses, rejections = 2, 2, 2, 42
    product = hits * rejections - false_alarms * misses
    assert scores["mcc"] == pytest.approx(product / (4 * 4 * 44 * 44) ** 0.5)
    assert scores["iou"] == pytest.approx(2 / 6)
    assert (scores["precision"], scores["recall"]) == (0.5, 0.5)
    assert scores["cls_mcc"] == pytest.approx(np.corrcoef([1, 0, 0], [1, 1, 0])[0, 1])


@thorough
def test_the_study_judges_as_the_library_does(study):
    """Against `kz.weak.evaluate`, for every threshold, with a model that takes what is bright for foreground."""
    source = kz.data.sources.synthetic(10, empty_fraction=0.5, image_size=(24, 24))
    image = keras.Input((24, 24, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    model.set_weights([np.full((1, 1, 1, 1), 0.05, "float32"), np.array([-6.5], "float32")])
    numbers = dict(study.judge(model, source, source))
    for using in study.RULES:
        threshold = 0.5 if using == "half" else kz.weak.choose_threshold(model, source, using=using)
        expected = kz.weak.evaluate(model, source, threshold=threshold, labels="maps")["metrics"]
        for score in study.SCORES:
            assert numbers[f"test_{using}_{score}"] == pytest.approx(expected[score], abs=1e-6), (using, score)
    assert 0.05 < numbers["test_masks_mcc"] < 1, "a case that tells scores apart"


def test_seeds_are_ranges_or_lists(study):
    assert study.seeds_of("0-3") == [0, 1, 2, 3]
    assert study.seeds_of("7,9-10") == [7, 9, 10]


def test_arms_differ_in_what_they_say(study):
    weights, kinds = {}, {}
    for arm in study.ARMS:
        model, loss, kinds[arm] = study.build(arm, sigma=2.0)
        weights[arm] = [tuple(weight.shape) for weight in model.weights]
        assert (loss is None) == (arm == "supervised")
        smooth = {"h_smooth"} & {part.name for part in model.get_layer("head").layers} if arm != "cam_alpha" else set()
        assert bool(smooth) == (arm in ("cam_beta", "supervised"))
    assert all(shapes == weights["cam_beta"] for shapes in weights.values()), "all have the weights of the segmenter"
    assert kinds == dict.fromkeys(study.ARMS, "label") | {"supervised": "mask"}


def test_tables_take_seeds_that_every_arm_has_finished(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "REPOSITORY", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    names = [f"{split}_{rule}_{score}" for split in ("val", "test") for rule in tables.WEAK_RULES
             for score in tables.WEAK_SCORES]  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [
        {"arm": arm, "seed": seed, **{name: f"{rng.normal(arm == 'supervised', 0.1):.4f}" for name in names}}
        for seed in range(11)
        for arm in tables.WEAK_ARMS
        if (seed, arm) != (10, "supervised")
    ]
    with (tmp_path / "benchmarks" / "results" / "weak_study_new.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    assert all(len(runs["seed"]) == 10 for runs in tables.weak_runs("new").values())
    lines = tables.weak_study("new", "test").splitlines()
    assert len(lines) == 2 + len(tables.WEAK_RULES) * len(tables.WEAK_ARMS)
    first = [float(row["test_image_labels_mcc"]) for row in rows if row["arm"] == "cam_beta"][:10]
    assert f"| 10 | {np.mean(first):.3f} ± {np.std(first, ddof=1):.3f} ({np.median(first):.3f}) |" in lines[2]
    *_, supervised, _ = tables.weak_study_tests("new").splitlines()[2].split("|")
    assert float(supervised.split("/")[0]) == pytest.approx(5.7e-5, rel=0.1), "all ten above all ten: χ² = 9²/5"


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_stopped(tmp_path):
    def run(seeds):
        command = [sys.executable, SCRIPT, "--seeds", seeds, "--epochs", "1", "--results", tmp_path]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return (tmp_path / "weak_study_synthetic.csv").read_text()

    first = run("0")
    both = run("0-1")
    assert both.startswith(first)
    rows = list(csv.DictReader(both.splitlines()))
    arms = ["cam_beta", "cam_beta_unsmoothed", "cam_alpha", "supervised"]
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, seed) for seed in "01" for arm in arms]
    for row in rows:
        numbers = {name: float(row[name]) for name in row if name.startswith(("val_", "test_"))}
        assert len(numbers) == 2 * (4 * 5 + 1)
        undefined = {name for name, value in numbers.items() if not np.isfinite(value)}
        assert undefined == ({"val_label_mcc", "test_label_mcc"} if row["arm"] == "supervised" else set())
        assert min(value for name, value in numbers.items() if name not in undefined) >= -1
    assert rows[0]["test_half_mcc"] != rows[4]["test_half_mcc"], "seeds differ"
    assert Path(tmp_path / "weak_study_synthetic.csv").stat().st_size < 20_000
