"""`kerazoo.doctor` before the first epoch of a recipe: errors stop it, warnings stay with the run."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console
from support.tiny import tiny

from kerazoo.data.source import Source
from kerazoo.training import train
from kerazoo.training.run import open_source


@dataclasses.dataclass(frozen=True)
class Dark:
    """The images of another reader in 0-1, which the model's preprocessing takes for black."""

    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def image(self, index):
        return self.inner.image(index).astype(np.float32) / 255


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Train up to the first epoch; gives the run directory and what was printed."""
    monkeypatch.setattr(sys.modules["kerazoo.training.train"], "_fit", _stop)

    def run(*assignments, data=None, **options):
        text = io.StringIO()
        with pytest.raises(_FirstEpoch):
            train(tiny(*assignments), tmp_path / "run", data, console=Console(file=text, width=300), **options)
        return tmp_path / "run", text.getvalue()

    return run


class _FirstEpoch(Exception):
    pass


def _stop(*arguments):
    raise _FirstEpoch


def dark():
    source = open_source(tiny(), None)
    return Source(Dark(source._reader))


def test_a_healthy_recipe_is_silent_and_says_so_in_its_run(start):
    run, printed = start()
    assert json.loads((run / "doctor.json").read_text())["findings"] == []
    assert "WARNING" not in printed


def test_warnings_are_printed_and_kept(start):
    run, printed = start("loss=[soft_dice]")
    (finding,) = json.loads((run / "doctor.json").read_text())["findings"]
    assert (finding["severity"], finding["code"]) == ("warning", "empty-images-unseen")
    assert "WARNING empty-images-unseen: " in printed
    assert finding["fix"] in printed


def test_errors_stop_before_anything_is_written_or_deleted(start, tmp_path):
    run, _ = start()
    kept = (run / "recipe.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"ERROR range-0-1: (.|\n)*train with training.doctor=false"):
        train(tiny("training.epochs=9"), run, dark(), overwrite=True, console=Console(file=io.StringIO()))
    assert (run / "recipe.yaml").read_bytes() == kept
    with pytest.raises(ValueError, match="range-0-1"):
        train(tiny(), tmp_path / "new", dark(), console=Console(file=io.StringIO()))
    assert not (tmp_path / "new").exists()


def test_a_recipe_can_leave_it_out(start):
    run, printed = start("training.doctor=false", data=dark())
    assert not (run / "doctor.json").exists()
    assert "range-0-1" not in printed
