"""A damaged DICOM or NIfTI ends in a clear error or the right answer, and says nothing of the patient."""

import importlib.util
import json
import subprocess
import sys

import pytest
from support.source_tree import REPOSITORY
from support.tiers import thorough

TESTS = REPOSITORY / "tests"
DAMAGE_SEEN = {"nii": 0.1}  # most of a file without compression is pixels, of which each value is right


def kinds():
    """JPEG-LS is decoded by GDCM's C++, the other compressions by Pillow and pydicom."""
    for kind in ("dicom", "jpeg", "rle", "jls", "nii", "gz"):
        lacks = kind == "jls" and not importlib.util.find_spec("gdcm")
        yield pytest.param(kind, marks=[pytest.mark.skip(reason="gdcm is not installed")] * lacks)


@thorough
@pytest.mark.parametrize("kind", [*kinds()])
@pytest.mark.parametrize(("count", "seed"), [(100, 1), pytest.param(1000, 2, marks=pytest.mark.slow)])
def test_mutations(tmp_path, kind, count, seed):
    command = [sys.executable, "-W", "ignore", "-m", "support.mutations_medical", kind, str(count), str(seed), tmp_path]
    process = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=TESTS)
    assert process.returncode == 0, process.stderr
    ends = json.loads(process.stdout.splitlines()[-1])
    assert set(ends) <= {"error", "right"}
    assert sum(ends.values()) == count
    assert ends["error"] > count * DAMAGE_SEEN.get(kind, 0.3), "the damage is hardly ever seen"
