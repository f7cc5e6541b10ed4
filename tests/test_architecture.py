"""The shape of the source: dependencies go one way, files are short, and what failed before is not used again."""

import ast

import pytest
from source_tree import REPOSITORY, dotted, imports, modules

# What each unit of the package may import from the package, beside itself. A unit is a folder or file of kerazoo/;
# those of NESTED are their own: they work on whole models, while the rest of pretrained is below the encoders.
# layers ← encoders | decoders | heads ← segmenter ← weak | inference | training ← cli; data never imports models.
BASE = {"types", "registry", "requires", "arguments"}
PARTS = {"encoders", "decoders", "heads"}
MODELS = {"compose", "transfer"} | PARTS
CHECKED = {"losses", "metrics", "optimizers"}
MAY_IMPORT = {
    "types": set(),
    "registry": set(),
    "requires": set(),
    "arguments": set(),
    "labels": {"types"},
    "layers": {"types", "registry"},
    "pretrained": {"layers"} | BASE,
    "encoders": {"layers", "pretrained"} | BASE,
    "decoders": {"layers"} | BASE,
    "heads": {"layers"} | BASE,
    "losses": {"labels"} | BASE,
    "metrics": {"labels"} | BASE,
    "optimizers": BASE,
    "pairs": {"decoders", "encoders"} | BASE,
    "sub_models": {"types"},
    "compose": {"layers", "sub_models"} | PARTS | BASE,
    "transfer": {"compose", "layers"} | PARTS | BASE,
    "pretrained.convert": {"pretrained", "layers"} | MODELS | BASE,
    "pretrained.convolutionalise": {"encoders"} | BASE,
    "data": BASE,
    "inference": {"layers", "data", "report"} | MODELS | CHECKED | BASE,
    "export": {"inference", "layers", "data"} | MODELS | BASE,
    "report": BASE,
    "training": {"data", "inference", "export", "report", "layers"} | MODELS | CHECKED | BASE,
    "testing": {"layers", "_checks"} | MODELS | CHECKED | BASE,
    "_checks": {"layers"} | MODELS | CHECKED | BASE,
    "weak": {"data", "inference", "report", "layers"} | MODELS | CHECKED | BASE,
    "cli": {"data", "inference", "export", "report", "training", "layers", "pretrained"} | MODELS | CHECKED | BASE,
    "__main__": {"cli"},
}
NESTED = ("pretrained.convert", "pretrained.convolutionalise")
LAZY = ("__init__.py", "pretrained/__init__.py")  # import on first use, and name it all for type checkers
MAX_LINES = {"kerazoo": 400, "benchmarks": 400, "docs": 400, "tests": 500}
MAY_RESIZE = ("layers/resize.py", "data/", "export/saved_model.py")  # a layer of ours; images outside the model


def unit(path: str) -> str:
    """`encoders` for encoders/resnet.py, `registry` for registry.py, `pretrained.convert` for what is below it."""
    return unit_of_module(path.removesuffix(".py").replace("/", "."))


def unit_of_module(name: str) -> str:
    """The unit of a module, without the package's name: `encoders` for encoders.resnet."""
    nested = [prefix for prefix in NESTED if name == prefix or name.startswith(f"{prefix}.")]
    return nested[0] if nested else name.partition(".")[0]


def crossings(path, tree):
    """Imports of another unit that MAY_IMPORT does not list, as 'file:line imports unit'."""
    for line, name in imports(tree):
        package, _, rest = name.partition(".")
        target = unit_of_module(rest)
        if package == "kerazoo" and target not in {"", "__version__", unit(path)} | MAY_IMPORT.get(unit(path), set()):
            yield f"{path}:{line} imports {target}"


def test_every_unit_has_a_row():
    units = {unit(path) for path, _ in modules()} - {"__init__"}
    assert units - MAY_IMPORT.keys() == set(), "new in kerazoo/: say in MAY_IMPORT what it may import"
    assert MAY_IMPORT.keys() - units == set(), "gone from kerazoo/: remove the row"


def test_the_table_has_no_circles():
    order = []
    while len(order) < len(MAY_IMPORT):
        ready = [name for name in MAY_IMPORT if name not in order and MAY_IMPORT[name] <= set(order)]
        assert ready, f"these import each other: {sorted(MAY_IMPORT.keys() - set(order))}"
        order += ready


def test_dependencies_go_one_way():
    found = [fault for path, tree in modules() if path not in LAZY for fault in crossings(path, tree)]
    assert found == []


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
        fault for path, tree in modules() if unit(path) not in {"_checks", "testing"} for fault in banned(path, tree)
    ]
    assert found == []


def test_the_checks_can_fail():
    source = "from kerazoo.training import train\nimport kerazoo.cli\n"
    assert list(crossings("layers/a.py", ast.parse(source))) == [
        "layers/a.py:1 imports training",
        "layers/a.py:2 imports cli",
    ]
    source = "from kerazoo.pretrained import tensors\nfrom kerazoo.pretrained.convert import smp\n"
    assert list(crossings("encoders/a.py", ast.parse(source))) == ["encoders/a.py:2 imports pretrained.convert"]
    assert list(crossings("pretrained/a.py", ast.parse(source))) == ["pretrained/a.py:2 imports pretrained.convert"]
    source = "import keras\nkeras.layers.UpSampling2D(2)\nkeras.ops.image.resize(x, (2, 2))\nassert x\n"
    assert sorted(banned("heads/a.py", ast.parse(source))) == [
        "heads/a.py:2 keras.layers.UpSampling2D",
        "heads/a.py:3 keras.ops.image.resize",
        "heads/a.py:4 assert",
    ]
    assert list(banned("layers/resize.py", ast.parse("keras.ops.image.resize(x, (2, 2))"))) == []
