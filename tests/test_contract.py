"""Every contract check on every registered part, and proof that no part escaped."""

from pathlib import Path

import keras
import pytest
from support.encoder_record import RECORD, cell
from support.record import record_row
from support.tiers import thorough

import kerazoo as kz
from kerazoo import testing

pytestmark = pytest.mark.backends
PACKAGE = Path(kz.__file__).parent

# Every check of an encoder builds it anew, which takes seconds; `make test-all` checks the other encoders, and
# tests/encoders/test_applications.py has something on every family in the default suite.
DEFAULT_ENCODERS = {"resnet18"} if keras.backend.backend() == "jax" else {"resnet18", "mobilenetv3_small"}

# Every check of every decoder runs by default on PyTorch, which compiles nothing, and with `make test-thorough`
# everywhere. Decoders with layers of their own run on the others by default too.
CHECKED_EVERYWHERE = {"fapn", "pyramid_attention", "unet"}
CHECKS_EVERYWHERE = {testing.check_decoder_names, testing.check_decoder_precision}


def tier(case):
    """How seldom a case runs."""
    backend = keras.backend.backend()
    if case.kind == "encoder" and case.name not in DEFAULT_ENCODERS:
        return [pytest.mark.slow]
    if case.kind == "decoder" and backend != "torch":
        return [thorough] * (case.name not in CHECKED_EVERYWHERE or case.check not in CHECKS_EVERYWHERE)
    return [thorough] * (backend == "jax" and case.check.__name__ == "check_metric_batches")


CASES = testing.contract_cases()


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case), marks=tier(case)) for case in CASES])
def test_contract(case, record_property, request):
    measured = case.check(case.part)
    if case.kind == "encoder":
        compare_with_record(case, cell(measured), record_property, request)


def compare_with_record(case, measured, record_property, request):
    """The table of docs/encoders.md says what the checks measure."""
    check = case.check.__name__.removeprefix("check_encoder_")
    record_row(record_property, RECORD, encoder=case.name, **{check: measured})
    if not request.config.getoption("--record-encoders"):
        recorded = RECORD.read().get((case.name, keras.backend.backend()), {}).get(check)
        assert recorded == measured, f"docs/encoders.csv says {recorded!r}: do as tests/support/encoder_record.py says"


def test_the_record_of_encoders_is_complete():
    """One row for every encoder and backend, one column for every check, and every check passed."""
    rows = RECORD.read()
    backends = ("jax", "tensorflow", "torch")
    assert set(rows) == {(name, backend) for name in kz.encoders.ENCODERS for backend in backends}
    for key, row in rows.items():
        assert list(row) == RECORD.fields
        assert "no" not in row.values(), key


def test_every_registered_part_is_checked_by_every_check_of_its_kind():
    expected = sum(len(registry) * len(checks) for registry, checks in testing.CHECKS.values())
    assert len(CASES) == len({str(case) for case in CASES}) == expected
    smallest = {"encoder": 50, "decoder": 2, "head": 3, "loss": 13, "metric": 12, "optimizer": 2}
    for kind, least in smallest.items():
        registry, checks = testing.CHECKS[kind]
        assert len(registry) >= least, kind
        assert len(checks) >= 2, kind
        assert len(testing.contract_cases(kind)) == len(registry) * len(checks)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("decoder", "decoders"),
        ("head", "heads"),
        ("loss", "losses"),
        ("metric", "metrics"),
        ("optimizer", "optimizers"),
    ],
)
def test_no_part_file_escapes(kind, folder):
    """The files on disk against the registry that the cases come from."""
    on_disk = {path.stem for path in (PACKAGE / folder).glob("[!_]*.py")}
    registry, _ = testing.CHECKS[kind]
    assert on_disk == {registry[name].__module__.rpartition(".")[2] for name in registry}


def test_a_check_can_fail():
    class Transposed(kz.decoders.FPN):
        def __call__(self, features):
            return tuple(reversed(super().__call__(features)))

    with pytest.raises(AssertionError, match="not fine to coarse"):
        testing.check_decoder_levels(Transposed)


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"`kind` must be one of \['encoder', .*received 'backbone'"):
        testing.contract_cases("backbone")
