"""`kerazoo verify`: what it prints and writes, and its exit status."""

import csv
import json

import numpy as np
import pytest
from support.coco_fixtures import annotation, box, content, save
from support.data_fixtures import figure, write_pair
from support.medical_fixtures import leaked, write_dicom
from typer.testing import CliRunner

import kerazoo as kz
from kerazoo.cli import app

FIGURE = figure()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*words):
        return CliRunner().invoke(app, ["verify", *map(str, words)])

    return invoke


def test_exit_status_and_reports(run, tmp_path):
    write_pair(tmp_path / "data", "a", FIGURE, scale=1)
    clean = run("data")
    assert clean.exit_code == 0, clean.output
    assert "Nothing found in 1 samples." in clean.output
    write_pair(tmp_path / "data", "b", np.roll(FIGURE, 3), scale=200)
    faulty = run("data", "--report", "found.json", "--fix", "exclude.csv")
    assert faulty.exit_code == 1
    assert "b.png has 1 values outside the classes 0..1: 200" in faulty.output
    assert json.loads((tmp_path / "found.json").read_text())["counts"] == {"values": 1}
    assert run("data", "--exclude", "exclude.csv").exit_code == 0
    assert run("data", "--ignore", "values").exit_code == 0
    assert run("data", "--mask-values", "{0: 0, 1: 1, 200: 1}").exit_code == 0
    assert [*csv.reader((tmp_path / "verify.csv").read_text().splitlines())] == [["kind", "id", "problem"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "Unknown source 'nowhere'. They are cityscapes, coco, folder"),
        (["data", "--report", "no/where.csv"], "There is no directory no to write where.csv to"),
        (["data", "--exclude", "2024"], "there is no file 2024"),
        (["foldr"], "Did you mean 'folder'?"),
        (["data", "--mask-sufix", ".png"], "no option --mask-sufix. Did you mean '--mask-suffix'"),
        (["data", "--ignore", "values", "--ignore", "lossi"], "`ignore` names the kind 'lossi'"),
        (["coco", "--images", "data"], "The source 'coco' needs --annotations"),
    ],
)
def test_usage_is_status_2(run, tmp_path, words, message):
    write_pair(tmp_path / "data", "a", FIGURE)
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output


def test_coco(run, tmp_path):
    save(tmp_path, content(annotation(1, 100, 2, [box(4, 4, 9, 9)]), annotation(2, 99, 3, [box(70, 4, 79, 9)])))
    (tmp_path / "coco").mkdir()  # the source has the name first; this would be ./coco
    words = ("coco", "--images", "images", "--annotations", "instances.json")
    result = run(*words, "--ignore", "duplicate")
    assert result.exit_code == 1
    assert "outside: 1 annotations that do not lie in their image" in result.output
    assert run(*words, "--classes", "bicycle", "--ignore", "duplicate").exit_code == 0, "the other class is background"


def test_the_archive_of_x_rays(run, tmp_path):
    """The first line of a radiologist's day: ids on either side alone are named, and nothing of a patient."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "alone"):
        write_dicom(tmp_path / f"dicom/{name}.dcm", rng.integers(0, 255, (16, 16)).astype(np.uint8))
    (tmp_path / "train.csv").write_text("ImageId, EncodedPixels\na,3 4\nb,-1\nlost,-1\n")
    result = run("siim", "--images", "dicom/", "--csv", "train.csv")
    assert result.exit_code == 1, result.output
    rows = [*csv.DictReader((tmp_path / "verify.csv").read_text().splitlines())]
    assert {row["id"] for row in rows if row["kind"] == "missing"} == {"alone", "lost"}
    assert "2 images, 1 with foreground" in result.output
    assert not leaked(result.output + (tmp_path / "verify.csv").read_text())


def test_prepared_data(run, tmp_path):
    kz.data.prepare(kz.data.sources.synthetic(4, image_size=(16, 16)), tmp_path / "cache", workers=1)
    result = run("cache")
    assert result.exit_code == 0, result.output
    assert "Nothing found in 4 samples." in result.output
    name = kz.data.sources.prepared(tmp_path / "cache").ids[1]
    (tmp_path / "2024").write_text(name)
    result = run("cache", "--exclude", "2024")
    assert "Nothing found in 3 samples." in result.output
