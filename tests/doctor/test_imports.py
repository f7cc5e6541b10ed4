"""`kerazoo.doctor` is package and function at once, and needs none of the machinery of recipes."""

import inspect
import subprocess
import sys

import pytest

import kerazoo as kz
from kerazoo.doctor.examine import doctor

FIRST = {
    "the function": "import kerazoo as kz; kz.doctor",
    "the package": "import kerazoo.doctor; import kerazoo as kz",
    "a name of it": "from kerazoo.doctor import Report; import kerazoo as kz",
    "a module of it": "from kerazoo.doctor.examine import doctor; import kerazoo as kz",
    "who uses it": "import kerazoo.training.train; import kerazoo as kz",
}


@pytest.mark.parametrize("first", FIRST)
def test_whichever_is_imported_first_both_are_there(first):
    code = f"{FIRST[first]}; assert callable(kz.doctor) and kz.doctor.Report and kz.doctor.doctor"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_machinery_of_recipes_is_not_loaded():
    code = "import sys, kerazoo as kz; kz.doctor; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "kerazoo.doctor.examine" in loaded
    assert not loaded & {"pydantic", "yaml", "kerazoo.training", "kerazoo.cli", "kerazoo.report"}


def test_the_package_is_called_as_its_function():
    assert inspect.signature(kz.doctor) == inspect.signature(doctor)
    assert inspect.getdoc(type(kz.doctor).__call__) == inspect.getdoc(doctor)
