"""Who imports what: tensorflow in few files, no private modules, nothing heavy at `import kerazoo`."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib

import pytest
from support.source_tree import PACKAGE, REPOSITORY, dotted, imports, modules
from support.tiers import thorough

TENSORFLOW_ALLOWED = ("data/batches/", "training/strategy.py", "layers/resize.py", "export/")
PRIVATE = ("keras.src", "tensorflow.python")
# Distribution name → name to import, where they differ.
IMPORT_NAMES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "keras-hub": "keras_hub",
    "python-gdcm": "gdcm",
    "scikit-image": "skimage",
}
# Hard dependencies that no line of the package imports, with the reason.
INDIRECT = {"tensorboard": "keras.callbacks.TensorBoard imports it when a run is logged"}
# Packages that come with a hard dependency and are imported by name.
BROUGHT_ALONG = {"h5py": "keras", "ml_dtypes": "keras", "filelock": "huggingface_hub"}


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def tensorflow_faults(root=PACKAGE):
    """Places that import tensorflow and may not, as 'file:line'."""
    return [
        f"{path}:{line}"
        for path, tree in modules(root)
        if not path.startswith(TENSORFLOW_ALLOWED)
        for line, name in imports(tree)
        if is_below(name, "tensorflow")
    ]


def private_faults(root=PACKAGE):
    """Places that import or spell out private modules of Keras or TensorFlow, as 'file:line'."""
    faults = []
    for path, tree in modules(root):
        names = list(imports(tree))
        names += [(node.lineno, dotted(node)) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        lines = {line for line, name in names if any(is_below(name, private) for private in PRIVATE)}
        faults += [f"{path}:{line}" for line in sorted(lines)]
    return faults


def private_attribute_faults(root=PACKAGE):
    """Places that read an attribute with a leading underscore off anything but `self`, `cls` and `super()`."""
    return [
        f"{path}:{node.lineno}"
        for path, tree in modules(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"_[^_]", node.attr)
        and dotted(node) != "os._exit"  # public for all its underscore, as is that of named tuples:
        and node.attr != "_replace"
        and ast.unparse(node.value) not in ("self", "cls", "super()")
    ]


def loaded_by(statement: str, *, backend: str = "jax", path: str = "") -> set[str]:
    """Top-level packages, standard library excluded, that a fresh interpreter has after `statement`."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), path])}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    names = {name.partition(".")[0] for name in process.stdout.splitlines()[-1].split()}
    return names - sys.stdlib_module_names


def declared():
    """Import names of the hard dependencies, and of those that come with an extra for users."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    def names(requirements):
        plain = [re.match(r"[\w-]+", requirement).group() for requirement in requirements]
        return {IMPORT_NAMES.get(name, name) for name in plain}

    extras = project["optional-dependencies"]
    return names(project["dependencies"]), set().union(*(names(extras[extra]) for extra in extras if extra != "dev"))


def test_tensorflow_only_where_design_allows():
    assert tensorflow_faults() == []


def test_no_private_modules():
    assert private_faults() == []
    assert private_attribute_faults() == []


def test_imports_and_dependencies_are_the_same_list():
    hard, extras = declared()
    imported = {name.partition(".")[0] for _, tree in modules() for _, name in imports(tree)}
    imported -= sys.stdlib_module_names | {"kerazoo"} | {name for name, owner in BROUGHT_ALONG.items() if owner in hard}
    assert imported <= hard | extras, "imported, but not in pyproject.toml"
    assert hard - imported == set(INDIRECT), "in pyproject.toml, but not imported"


def test_import_kerazoo_is_lazy():
    assert loaded_by("import kerazoo") <= {"kerazoo"}


needs_jax = pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")


@thorough
@needs_jax
def test_saved_models_load_once_kerazoo_is_imported():
    """What a `.keras` file may hold is registered by `import keras, kerazoo`, without a look at any attribute."""
    names = ["Resize", "PadToMultiple", "losses.CrossEntropy", "losses.WeightedSum", "metrics.IoU", "optimizers.RAdam"]
    lookup = f"all(keras.saving.get_registered_object('kerazoo>' + name) for name in {names})"
    assert loaded_by(f"import keras, kerazoo; assert {lookup}") >= {"keras", "kerazoo"}
    assert "keras" not in loaded_by("import kerazoo")


@needs_jax
def test_model_code_loads_only_keras():
    keras_alone = loaded_by("import keras, keras.applications")
    kerazoo = loaded_by(
        "import keras, keras.applications, kerazoo as kz;"
        "kz.segmenter, kz.encoders, kz.decoders, kz.heads, kz.losses, kz.metrics, kz.optimizers, kz.layers, kz.freeze"
    )
    assert "tensorflow" not in kerazoo
    assert kerazoo - keras_alone == {"kerazoo"}


def test_the_checks_can_fail(tmp_path):
    """A planted fault of each kind is found: at the top, inside a function, by name and by string."""
    package = tmp_path / "package"
    (package / "data" / "batches").mkdir(parents=True)
    (package / "data" / "batches" / "pipeline.py").write_text("import tensorflow as tf\n")
    (package / "a.py").write_text("def f():\n    from tensorflow import data\n")
    (package / "b.py").write_text("import importlib\ntf = importlib.import_module('tensorflow')\n")
    (package / "c.py").write_text("import keras\nx = keras.src.layers\n")
    (package / "d.py").write_text("from tensorflow.python import ops\n")
    assert tensorflow_faults(package) == ["a.py:2", "b.py:2", "d.py:1"]
    assert private_faults(package) == ["c.py:2", "d.py:1"]
    (package / "e.py").write_text(
        "def f(graph):\n    return graph._context, graph.__dict__, graph.tuple._replace(a=1)\n"
    )
    assert private_attribute_faults(package) == ["e.py:2"]

    stand_in = tmp_path / "path"
    stand_in.mkdir()
    (stand_in / "tensorflow.py").write_text("")
    assert "tensorflow" in loaded_by("import kerazoo, tensorflow", path=str(stand_in))
