"""Sources and `kerazoo prepare` as the command line has them."""

import numpy as np
import pytest
from support.data_fixtures import figure, write_pair
from support.tiny import tiny
from typer.testing import CliRunner

import kerazoo as kz
from kerazoo.cli import app
from kerazoo.cli.source_options import source_from_arguments
from kerazoo.data.formats import intensity
from kerazoo.training import run


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiles")
    for number in range(5):
        write_pair(root, f"p{number // 2}/{number}", figure() * (number > 1))
    return root


def test_options_become_arguments(tiles):
    source = source_from_arguments(
        "folder", ["--root", str(tiles), "--mask-values={0: 0, 255: 1}", "--groups", "p(\\d)", "--recursive", "true"]
    )
    assert source.groups == ["0", "0", "1", "1", "2"]
    assert source_from_arguments("folder", ["--images", str(tiles), "--mask-threshold", "127"]).ids == source.ids
    several = source_from_arguments(
        "folder", ["--images", str(tiles), "--image-suffix", ".jpg", "--image-suffix", ".bmp", "--mask-threshold=127"]
    )
    assert several.ids == source.ids
    assert len(source_from_arguments("synthetic", ["--n", "3", "--image-size", "[16, 24]"])) == 3


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("foldr", [], "Unknown source 'foldr'. Did you mean 'folder'"),
        ("folder", ["--mask-sufix", ".png"], "has no option --mask-sufix. Did you mean '--mask-suffix'"),
        ("folder", [], "The source 'folder' needs --root"),
        ("folder", ["tiles"], "'tiles' belongs to no option of the source 'folder'. Type --OPTION VALUE"),
        ("folder", ["--root", "a", "--mask-values", "{0: 0"], "--mask-values has the value '{0: 0', which is no YAML"),
    ],
)
def test_refuses(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        source_from_arguments(name, arguments)


def test_prepare_and_train_from_it(tiles, tmp_path):
    words = ("prepare", "folder", "--images", tiles, "--mask-threshold", 127, "--size", "16x24", "--workers", 1)
    code, text = call(*words, "--to", tmp_path / "cache")
    assert code == 0, text
    assert "5 images, 3 with foreground (60.0 %), sizes 16-24 px, grey" in text
    made = kz.data.sources.prepared(tmp_path / "cache")
    assert made[4].mask.any()
    assert call(*words, "--to", tmp_path / "cache")[0] == 0
    code, text = call(*words[:-4], "--size", "17", "--workers", 1, "--to", tmp_path / "cache")
    assert (code, "image_size was [16, 24] and is [17, 17]" in text) == (2, True), text
    opened = run.open_source(tiny("data.source={name: folder}"), tmp_path / "cache")
    assert (opened[4].image == made[4].image).all()
    assert np.array_equal(opened.labels, made.labels)


@pytest.mark.parametrize("size", ["", "a", "1x2x3", "0", "-3"])
def test_size_is_checked(tiles, tmp_path, size):
    code, text = call(
        "prepare", "folder", "--images", tiles, "--mask-threshold", 127, f"--size={size}", "--to", tmp_path
    )
    assert code == 2
    assert "HEIGHTxWIDTH" in text


def test_a_directory_is_prepared_as_it_is_verified(tiles, tmp_path):
    code, said = call("prepare", tiles, "--mask-values", "{0: 0, 255: 1}", "--to", tmp_path / "[red]", "--workers", "1")
    assert code == 0, said
    assert f"prepared: {tmp_path}/[red]. Source: 5 images" in said


def test_ranges_are_the_same_from_yaml_and_from_python(tiles):
    """So that what the command line has prepared is taken in Python."""
    typed = source_from_arguments("folder", ["--root", str(tiles), "--intensity-range", "[0, 128]"])
    assert typed.fingerprint == kz.data.sources.folder(tiles, intensity_range=(0, 128)).fingerprint
    assert intensity.check_window([0, 80], ()) == (0.0, 80.0)
