"""A damaged file ends in a clear error or a right answer: never in a crash, a hang, or memory that runs full."""

import json
import subprocess
import sys

import pytest
from support.source_tree import REPOSITORY

TESTS = REPOSITORY / "tests"


@pytest.mark.parametrize("kind", ["png", "coco"])
@pytest.mark.parametrize(("count", "seed"), [(100, 1), pytest.param(1000, 2, marks=pytest.mark.slow)])
def test_mutations(tmp_path, kind, count, seed):
    command = [sys.executable, "-W", "ignore", "-m", "support.mutations", kind, str(count), str(seed), tmp_path]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=TESTS)
    assert process.returncode == 0, process.stderr
    ends = json.loads(process.stdout)
    assert set(ends) <= {"error", "right"}
    assert sum(ends.values()) == count
    assert ends["error"] > count / 2, "the damage is hardly ever seen"
