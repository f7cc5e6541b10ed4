"""Verification finds every fault with its file's name, and changes nothing of the data."""

import csv
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from support.coco_fixtures import annotation, box, content, save
from support.data_fixtures import Arrays, figure, write
from typer.testing import CliRunner

import kerazoo as kz
from kerazoo.cli import app

verify = kz.data.verify
FIGURE = figure()
EMPTY = np.zeros_like(FIGURE)
TILES = os.environ.get("KERAZOO_MAGNETIC_TILE")


def noise(seed, shape=FIGURE.shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pair(root, name, mask=EMPTY, image=None):
    """An image unlike all others, and a mask of ids beside it."""
    write(root / f"{name}.jpg", noise(zlib.crc32(os.fsencode(name))) if image is None else image, quality=90)
    if mask is not None:
        write(root / f"{name}.png", np.asarray(mask, np.uint8))


def found(report, kind):
    return [(finding.id, finding.problem) for finding in report.findings if finding.kind == kind]


def snapshot(root):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def faulty(tmp_path):
    """A folder with one fault of each kind, and ten good samples in each of two directories."""
    root = tmp_path / "data"
    for k in range(10):
        pair(root, f"good/{k}")
        pair(root, f"crack/{k}", FIGURE)
    pair(root, "crack/blank")
    pair(root, "good/lonely", None)
    write(root / "good/orphan.png", EMPTY.astype(np.uint8))
    pair(root, "good/cut")
    (root / "good/cut.jpg").write_bytes((root / "good/cut.jpg").read_bytes()[:300])
    pair(root, "good/small", EMPTY[:20])
    pair(root, "good/values", FIGURE * 3)
    pair(root, "good/smooth", np.arange(FIGURE.size).reshape(FIGURE.shape) % 256)
    pair(root, "good/flat", image=np.full(FIGURE.shape, 7, np.uint8))
    pair(root, "good/color", image=noise(1000, (*FIGURE.shape, 3)))
    pair(root, "good/twin", FIGURE)
    (root / "good/twin.jpg").write_bytes((root / "good/0.jpg").read_bytes())
    return root


EXPECTED = {
    "missing": ["good/lonely"],
    "unreadable": ["good/cut"],
    "size": ["good/small"],
    "values": ["good/values"],
    "lossy": ["good/smooth"],
    "constant": ["good/flat"],
    "empty_mask": ["crack/blank"],
    "duplicate": ["good/twin"],
    "mixed": ["good/color"],
    "orphan": [None],
}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_fault_is_found_by_name_and_nothing_else(faulty, workers):
    report = verify(faulty, workers=workers)
    assert {kind: [id for id, _ in found(report, kind)] for kind in report.counts} == EXPECTED
    for finding in report.findings:
        assert (finding.id or "good/orphan.png") in finding.problem
    assert (
        found(report, "duplicate")[0][1] == "Images good/0 and good/twin have the same pixels, and their masks differ."
    )
    assert report.samples == 29
    assert not report.clean
    text = str(report)
    assert "lossy: 1 masks that were anti-aliased or compressed with loss" in text
    assert text.endswith("10 findings, in 8 of 29 samples.")
    assert {finding.kind for finding in report.findings if finding.severity == "warning"} == {"mixed", "orphan"}
    with pytest.raises(ValueError, match="(?s)ERROR missing: .*ERROR duplicate: Images good/0 and good/twin"):
        report.raise_for_errors()


def test_the_list_of_exclusions_makes_the_source_clean_and_the_data_stay_as_they_are(faulty, tmp_path):
    before = snapshot(faulty)
    report = verify(faulty, ignore=["orphan", "mixed"])
    report.save_exclusions(tmp_path / "exclude.csv")
    assert snapshot(faulty) == before
    source = kz.data.sources.folder(faulty, exclude=tmp_path / "exclude.csv")
    assert len(source) == 29 - len(report.exclusions) == 21
    assert source.foreground.sum() == 10
    assert verify(faulty, exclude=tmp_path / "exclude.csv", ignore=["orphan", "mixed"]).clean
    assert (tmp_path / "exclude.csv").read_text().startswith("id,kind,problem\n")


def test_reports(faulty, tmp_path):
    report = verify(faulty)
    report.save(tmp_path / "report.csv")
    rows = [*csv.DictReader((tmp_path / "report.csv").read_text().splitlines())]
    assert [row["kind"] for row in rows] == [finding.kind for finding in report.findings]
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["samples"] == 29
    assert content["counts"] == dict.fromkeys(EXPECTED, 1)
    assert [*content] == ["samples", "summary", "counts", "batches", "images", "findings"]
    first = content["findings"][0]
    assert {"kind", "id", "problem", "severity", "code", "message"} <= {*first}
    assert (first["kind"], first["id"]) == ("missing", "good/lonely")


def test_a_clean_folder(tmp_path):
    for k in range(3):
        pair(tmp_path, f"{k}", FIGURE)
    report = verify(tmp_path)
    assert report.clean
    assert report.ok
    assert str(report) == (
        "Source: 3 images, 3 with foreground (100.0 %), sizes 32-48 px, grey\nNothing found in 3 samples."
    )


def test_a_class_that_the_directory_says_counts_alone(tmp_path):
    """With class_from="directory" one empty mask among few is enough, because the path says that there is a defect."""
    for name, mask in (("crack/0", FIGURE), ("crack/1", EMPTY), ("good/0", EMPTY)):
        pair(tmp_path, name, mask)
    assert verify(tmp_path).clean
    report = verify(tmp_path, class_from="directory", classes=["crack"])
    assert [id for id, _ in found(report, "empty_mask")] == ["crack/1"]
    assert len(report.findings) == 1


def test_all_samples_lack_their_mask(tmp_path):
    pair(tmp_path, "a", None)
    report = verify(tmp_path)
    assert report.counts == {"missing": 1}
    assert "No sample is complete." in str(report)


def test_progress_counts_up(tmp_path):
    for k in range(3):
        pair(tmp_path, f"{k}")
    calls = []
    verify(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


# --- sources that no file is behind ---


def test_readers_of_others_are_checked_too():
    images = np.stack([noise(k, (8, 8, 1)).astype(np.float32) for k in range(5)])
    masks = np.zeros((5, 8, 8), np.uint8)
    images[1, 0, 0] = np.nan
    images[2] = 0
    masks[3, 0, 0] = 9
    masks[4, 0, 0] = 255
    report = verify(kz.data.Source(Arrays(images=images, masks=masks, ignore_class=255)))
    assert {finding.kind: finding.id for finding in report.findings} == {
        "not_finite": "sample-001",
        "constant": "sample-002",
        "values": "sample-003",
    }


def test_an_error_that_nobody_expected_is_a_finding_and_its_words_stay_out():
    class Broken(Arrays):
        def image(self, index):
            if index == 1:
                raise KeyError("DOE^JANE")
            return super().image(index)

    images = np.stack([noise(k, (8, 8, 1)) for k in range(3)])
    report = verify(kz.data.Source(Broken(images=images, masks=np.zeros((3, 8, 8), np.uint8))))
    (finding,) = report.findings
    assert (finding.kind, finding.id) == ("unreadable", "sample-001")
    assert finding.problem == "sample-001 cannot be read: KeyError."


def test_a_label_that_the_mask_contradicts():
    class Wrong(Arrays):
        @property
        def facts(self):
            return super().facts._replace(labels=np.array([[True], [True], [False]]))

    masks = np.zeros((3, 8, 8), np.uint8)
    masks[[0, 2], 2:4] = 1
    images = np.stack([noise(k, (8, 8, 1)) for k in range(3)])
    report = verify(kz.data.Source(Wrong(images=images, masks=masks)))
    assert found(report, "label") == [
        ("sample-001", "The label of sample-001 says ['class_0'], and its mask shows nothing."),
        ("sample-002", "The label of sample-002 says nothing, and its mask shows ['class_0']."),
    ]


def test_leaks_between_the_parts_of_a_split(tmp_path):
    images = np.stack([noise(k, (8, 8, 1)) for k in range(6)])
    images[5], images[1] = images[0], images[2]
    masks = np.zeros((6, 8, 8), np.uint8)
    source = kz.data.Source(Arrays(images=images, masks=masks, groups=("p", "q", "r", "p", "q", "s")))
    ids = source.ids
    lines = [f"{id},{part}\n" for id, part in zip(ids, ["train", "val", "val", "val", "train", "test"], strict=True)]
    (tmp_path / "split.csv").write_text("id,split\n" + "".join(lines) + "gone,train\n")
    report = verify(source, split=tmp_path / "split.csv")
    assert [id for id, _ in found(report, "duplicate")] == [ids[2]]
    leaks = [problem for _, problem in found(report, "leak")]
    assert f"Images {ids[0]} and {ids[5]} have the same pixels. One is in train, the other in test." in leaks
    assert f"{ids[3]} of the group 'p' is in val, and others of the group are in train." in leaks
    assert len(leaks) == 3
    assert [problem for _, problem in found(report, "missing")] == ["The split names gone (train), which is no sample."]


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_names_that_are_no_text_or_of_two_lines(tmp_path):
    """Reports are written, and their lists leave out what they name."""
    root = tmp_path / "data"
    for name in ("plain", "two\nlines", "m\udce4dchen", 'a\u2028b,"c"'):
        pair(root, name, FIGURE if name == "plain" else FIGURE * 3)
    report = verify(root)
    assert report.counts == {"values": 3}
    report.save(tmp_path / "report.csv")
    report.save(tmp_path / "report.json")
    report.save_exclusions(tmp_path / "exclude.csv")
    assert verify(root, exclude=tmp_path / "exclude.csv").clean
    source = kz.data.sources.folder(root, exclude=tmp_path / "exclude.csv")
    assert source.ids == ["plain"]
    everything = kz.data.sources.folder(root, mask_values={0: 0, 1: 1, 3: 1})
    kz.data.save_split(dict(zip("ab", everything.split(fractions=(0.5, 0.5)), strict=True)), tmp_path / "split.csv")
    assert sum(map(len, everything.load_split(tmp_path / "split.csv").values())) == 4
    result = CliRunner().invoke(app, ["verify", str(root), "--report", str(tmp_path / "found.csv")])
    assert result.exit_code == 1, result.output


def test_a_sample_in_two_parts_is_a_leak(tmp_path):
    source = kz.data.sources.synthetic(3, image_size=(16, 16))
    lines = [f"{source.ids[0]},train", f"{source.ids[1]},val", f"{source.ids[0]},val"]
    (tmp_path / "split.csv").write_text("id,split\n" + "\n".join(lines))
    (leak,) = verify(source, split=tmp_path / "split.csv").findings
    assert (leak.kind, leak.id) == ("leak", source.ids[0])
    assert f"has {source.ids[0]} in two parts, train and val" in leak.problem


def test_coco(tmp_path):
    big = box(4, 4, 24, 24)
    data = content(
        annotation(1, 99, 2, [big]),
        annotation(2, 98, 2, [box(60, 4, 70, 9)]),
        annotation(3, 97, 2, [box(40, 4, 52, 9)]),
        annotation(4, 5, 2, [big]),
        images=5,
    )
    images, path = save(tmp_path, data)
    for k in range(5):
        write(images / f"{k}.png", noise(k))
    (images / "0.png").unlink()
    write(images / "unused.png", noise(9))
    report = verify(kz.data.sources.coco, images=images, annotations=path)
    assert [(finding.kind, finding.id) for finding in report.findings] == [
        ("missing", "0"),
        ("outside", "2"),
        ("orphan", None),
        ("orphan", None),
    ]
    report.save_exclusions(tmp_path / "exclude.csv")
    source = kz.data.sources.coco(images, path, exclude=tmp_path / "exclude.csv")
    assert source.ids == ["1", "3", "4"]
    report = verify(source)
    assert [(finding.kind, finding.id) for finding in report.findings if finding.kind != "orphan"] == [("warning", "3")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore": ["mixd"]}, r"`ignore` names the kind 'mixd'; the kinds are missing, unreadable"),
        ({"workers": 0}, r"`workers` must be at least 1"),
        ({"split": "nowhere.csv"}, r"nowhere\.csv"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    pair(tmp_path, "a")
    with pytest.raises((ValueError, OSError), match=message):
        verify(tmp_path, **options)


def test_a_source_that_cannot_be_made_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"No image in"):
        verify(tmp_path)
    with pytest.raises(ValueError, match=r"The source is there already; leave out mask_suffix"):
        verify(kz.data.sources.synthetic(2), mask_suffix=".png")


# --- real data ---


def test_masks_as_the_magnetic_tiles_have_them(tmp_path):
    """Anti-aliased masks in the directories of defects, blank ones among them, and directories without defects."""
    smooth = np.clip(np.arange(FIGURE.size).reshape(FIGURE.shape) % 256, 0, 255) * FIGURE
    for k in range(12):
        pair(tmp_path, f"MT_Uneven/Imgs/{k}", smooth if k else EMPTY)
        pair(tmp_path, f"MT_Free/Imgs/{k}")
    report = verify(tmp_path)
    assert [id for id, _ in found(report, "lossy")] == sorted(f"MT_Uneven/Imgs/{k}" for k in range(1, 12))
    assert [id for id, _ in found(report, "empty_mask")] == ["MT_Uneven/Imgs/0"]
    assert verify(tmp_path, mask_threshold=127).counts == {"empty_mask": 1}


@pytest.mark.skipif(TILES is None, reason="KERAZOO_MAGNETIC_TILE does not name the directory of the magnetic tiles")
def test_magnetic_tiles():
    report = verify(Path(str(TILES)))
    assert report.counts == {"values": 8, "lossy": 272, "empty_mask": 4}
    assert [id for id, _ in found(report, "empty_mask")] == [
        f"MT_Uneven/Imgs/{name}" for name in ("exp3_num_45042", "exp4_num_124690", "exp4_num_352527", "exp4_num_45057")
    ]
