"""The shape of the source: dependencies go one way, files are short, and what failed before is not used again."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from support.source_tree import PACKAGE, REPOSITORY, dotted, modules

MAX_LINES = {"kerazoo": 400, "benchmarks": 400, "docs": 400, "tests": 500}
MAY_RESIZE = ("layers/resize.py", "data/", "export/saved_model.py")  # a layer of ours; images outside the model


WAY, DATA, INFERENCE = "The way of the data", "The rooms of data", "Inside inference"
PLANTED = {  # file: an import that must not be there, and the contract that says so
    "layers/resize.py": ("from kerazoo.compose import segmenter", WAY),
    "data/sample.py": ("from kerazoo.encoders import ENCODERS", WAY),
    "data/formats/coco.py": ("from kerazoo.data.sources.coco import Coco", DATA),
    "data/mapping.py": ("from kerazoo.data.source import Source", DATA),
    "checkpoints/record.py": ("from kerazoo.encoders.resnet import ResNet", WAY),
    "checkpoints/tensors.py": ("from kerazoo.checkpoints.catalog import find", "Inside checkpoints"),
    "checkpoints/origins/smp.py": (
        "from kerazoo.checkpoints.origins import timm",
        "Origins of weights do not know each other",
    ),
    "convert/smp.py": ("from kerazoo import pretrained", WAY),
    "heads/linear.py": ("from kerazoo.decoders.unet import UNet", WAY),
    "inference/tiling.py": ("from kerazoo.training.train import train", WAY),
    "explain/filters.py": ("from kerazoo.weak.maps import class_maps", WAY),
    "doctor/examine.py": ("from kerazoo.training.recipe import Recipe", WAY),
    "training/recipe.py": ("from kerazoo.training.train import train", "Inside training"),
    "inference/decision.py": ("from kerazoo.inference.tuning import tune", INFERENCE),
}


def broken_contracts(root, tmp_path):
    """What import-linter finds in the package below `root`: the names of the contracts of pyproject.toml it breaks."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    command += ["--config", str(REPOSITORY / "pyproject.toml"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Contracts" in done.stdout, done.stdout + done.stderr
    broken = re.findall(r"^(.+?) BROKEN", done.stdout, re.MULTILINE)
    assert bool(broken) == bool(done.returncode), done.stdout + done.stderr
    return broken


def test_dependencies_go_one_way(tmp_path):
    assert broken_contracts(REPOSITORY, tmp_path) == []


def broken_with(planted, tmp_path):
    """What is broken in a copy of the package with a line added to some of its files."""
    shutil.copytree(PACKAGE, tmp_path / "kerazoo", ignore=shutil.ignore_patterns("__pycache__"))
    for path, line in planted:
        with (tmp_path / "kerazoo" / path).open("a") as file:
            file.write(f"\n{line}\n")
    return broken_contracts(tmp_path, tmp_path)


@pytest.mark.parametrize("path", PLANTED)
def test_a_planted_import_is_caught(path, tmp_path):
    line, contract = PLANTED[path]
    assert contract in broken_with([(path, line)], tmp_path)


def by_name(tree):
    """Modules of ours that a file imports by `import_module("kerazoo.…")`, which import-linter does not see."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            yield from (name for name in names if name.startswith("kerazoo."))


def test_modules_imported_by_name_obey_the_layers_too(tmp_path):
    planted = [(path, f"import {name}") for path, tree in modules() if path != "__init__.py" for name in by_name(tree)]
    assert ("training/parts.py", "import kerazoo.data.sources") in planted
    assert broken_with(planted, tmp_path) == []


def test_every_unit_is_in_the_contracts():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = set(re.findall(r"kerazoo\.(\w+)", " ".join(contracts[0]["layers"])))
    units = {path.removesuffix(".py").partition("/")[0] for path, _ in modules()} - {"__init__"}
    assert units == named, "say in pyproject.toml where the unit stands"


def test_near_matches_are_found_in_one_place():
    """`arguments.did_you_mean`: one phrase, and one idea of what is near."""
    assert [path for path, tree in modules() if "difflib" in imported(tree)] == ["arguments.py"]


def imported(tree):
    """Names of the modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("folder", MAX_LINES)
def test_files_are_short(folder):
    lengths = {
        path: len((REPOSITORY / folder / path).read_text().splitlines()) for path, _ in modules(REPOSITORY / folder)
    }
    assert {path: length for path, length in lengths.items() if length > MAX_LINES[folder]} == {}


def test_no_file_is_called_utils():
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert [path for path, _ in modules() if vague & set(path.removesuffix(".py").split("/"))] == []


def banned(path, tree):
    """What does not work with sizes known only at run time, and what hides a reason, as 'file:line what'."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            if name.rpartition(".")[2].startswith("UpSampling"):
                yield f"{path}:{node.lineno} {name}"
            if name.endswith(("ops.image.resize", "tf.image.resize")) and not path.startswith(MAY_RESIZE):
                yield f"{path}:{node.lineno} {name}"
        elif isinstance(node, ast.Assert):
            yield f"{path}:{node.lineno} assert"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{path}:{node.lineno} except:"


def test_nothing_banned_is_used():
    """The contract checks are exempt: they are tests, which authors of outside parts run too."""
    found = [
        fault
        for path, tree in modules()
        if not path.startswith(("_checks/", "testing"))
        for fault in banned(path, tree)
    ]
    assert found == []


def test_the_checks_can_fail():
    source = "import keras\nkeras.layers.UpSampling2D(2)\nkeras.ops.image.resize(x, (2, 2))\nassert x\n"
    assert sorted(banned("heads/a.py", ast.parse(source))) == [
        "heads/a.py:2 keras.layers.UpSampling2D",
        "heads/a.py:3 keras.ops.image.resize",
        "heads/a.py:4 assert",
    ]
    assert list(banned("layers/resize.py", ast.parse("keras.ops.image.resize(x, (2, 2))"))) == []
