"""A radiologist's first two lines: verify the archive, prepare it; nothing of a patient is in what they leave."""

import numpy as np
import pytest
from support.medical_fixtures import FIGURE, archive, leaked, uid
from typer.testing import CliRunner

import kerazoo as kz
from kerazoo.cli import app


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An archive with an id without image, an image that is cut off, and one with the runs of a larger image."""
    root = tmp_path_factory.mktemp("archive")
    images, csv = archive(root, images=12)
    csv.write_text(csv.read_text().replace(f"{uid(0)}, -1", f"{uid(0)}, 9 9999") + f"{uid(50)}, -1\n")
    cut = next(images.rglob(f"{uid(4)}.dcm"))
    cut.write_bytes(cut.read_bytes()[:-500])
    return images, csv


def test_verify_prepare_and_read(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive_of = ["siim", "--images", str(place[0]), "--csv", str(place[1])]

    def call(*words):
        result = CliRunner().invoke(app, [*map(str, words)])
        return result.exit_code, result.output

    code, said = call("verify", *archive_of, "--fix", "exclude.csv", "--ignore", "constant", "--ignore", "duplicate")
    assert code == 1, said
    for id, kind in ((uid(50), "missing"), (uid(4), "unreadable"), (uid(0), "outside")):
        assert f"{kind},{id}," in (tmp_path / "verify.csv").read_text()
    code, more = call("prepare", *archive_of, "--exclude", "exclude.csv", "--to", "cache", "--workers", 1)
    assert code == 0, more
    prepared = kz.data.sources.prepared(tmp_path / "cache")
    assert prepared.ids == sorted(uid(n) for n in range(12) if n not in (0, 4))
    assert prepared.foreground.tolist() == [id in (uid(1), uid(5), uid(9)) for id in prepared.ids]
    for index in range(len(prepared)):
        assert (prepared.mask(index) == (FIGURE & prepared.foreground[index])).all()
        assert ((prepared.image(index)[..., 0] == 220) == (prepared.mask(index) == 1)).all()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) >= 4
    written = [f"{path.name} {path.read_bytes().decode('latin-1')}" for path in left]
    assert not leaked("\n".join([said, more, *written]))


def test_ids_without_image_do_not_stop_the_preparation(tmp_path, monkeypatch):
    """The two lines as typed, on an archive that lacks an image and a row."""
    monkeypatch.chdir(tmp_path)
    images, csv = archive(tmp_path, images=4)
    csv.write_text(csv.read_text().replace(f"{uid(3)}, -1\n", "") + f"{uid(50)}, -1\n")
    words = ["siim", "--images", str(images), "--csv", str(csv)]
    assert CliRunner().invoke(app, ["verify", *words]).exit_code == 1
    result = CliRunner().invoke(app, ["prepare", *words, "--size", "16", "--to", "cache/", "--workers", "1"])
    assert result.exit_code == 0, result.output
    for id in (uid(3), uid(50)):
        assert f"warning: {id}: " in result.output
    assert kz.data.sources.prepared("cache").ids == sorted(uid(n) for n in range(3))
    refused = CliRunner().invoke(app, ["prepare", *words, "--missing", "error", "--to", "other/"])
    assert refused.exit_code == 2
    assert "1 ids of" in refused.output


def test_batches_of_the_archive(place):
    """Straight from the DICOM files, images and masks; and labels, for which no mask is decoded."""
    source = kz.data.sources.siim(*place, missing="skip", exclude=[uid(0), uid(4)])
    batches = kz.data.pipeline(source, image_size=(20, 28), batch_size=4, sampler="under", augment=["flip"], seed=0)
    for images, masks in batches.as_numpy_iterator():
        assert (images.shape[1:], masks.shape[1:]) == ((20, 28, 1), (20, 28))
        bright, marked = images[..., 0] > 125, masks == 1
        assert (bright == marked).mean() > 0.97, "the figure is on its pixels, flipped or not"
        assert marked.any()
    labels = kz.data.pipeline(source, image_size=(20, 28), batch_size=5, outputs="label")
    assert np.concatenate([label for _, label in labels.as_numpy_iterator()]).sum() == 3
