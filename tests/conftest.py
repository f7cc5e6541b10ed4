"""What every test runs under: a backend, seeds, a dtype policy that is put back, and `--accept-golden`."""

import importlib
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if os.environ["KERAS_BACKEND"] == "jax":  # compiling takes far longer than running what tests compile
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")


class WithoutTensorFlow(PathFinder):
    """Finds every module but tensorflow: on the other backends models must run where it is not installed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname == "tensorflow" else super().find_spec(fullname, path, target)


if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_LIMIT_BYTES = 50_000
RECORDED = ("encoders", "decoders")


def pytest_addoption(parser):
    parser.addoption(
        "--accept-golden", action="store_true", help="rewrite the golden files with what the code gives now"
    )
    for kind in RECORDED:
        parser.addoption(
            f"--record-{kind}", action="store_true", help=f"write what the tests measure on {kind} to docs/{kind}.csv"
        )


def pytest_configure(config):
    for kind in RECORDED:
        if config.getoption(f"--record-{kind}") and not hasattr(
            config, "workerinput"
        ):  # xdist's workers report to here
            from support.record import Recorder

            record = importlib.import_module(f"support.{kind.removesuffix('s')}_record").RECORD
            config.pluginmanager.register(Recorder(record))


def pytest_report_header():
    return f"keras backend: {os.environ['KERAS_BACKEND']}"


def pytest_ignore_collect(collection_path):
    """On the other backends leave out files without backend-neutral tests; they may import tensorflow at the top."""
    if os.environ["KERAS_BACKEND"] != "tensorflow" and collection_path.name.startswith("test_"):
        return "mark.backends" not in collection_path.read_text()
    return None


@pytest.fixture(autouse=True)
def _same_start():
    """Seed every generator before a test, and put the dtype policy back after it."""
    import keras

    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def golden(request):
    """Compare text with the file `tests/golden/NAME`, or with `--accept-golden` rewrite that file."""

    def compare(name, text):
        path = GOLDEN / name
        assert len(text.encode()) <= GOLDEN_LIMIT_BYTES, f"{name}: golden files stay below {GOLDEN_LIMIT_BYTES} bytes"
        if request.config.getoption("--accept-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing. Look at the output, then: pytest {request.node.path} --accept-golden"
        assert text == path.read_text(), f"{name} differs. If that is meant: pytest {request.node.path} --accept-golden"

    return compare
