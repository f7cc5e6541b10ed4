"""What the contract checks measured on every encoder, kept in docs/encoders.csv: the table of docs/encoders.md.

`pytest tests/test_contract.py -m "slow or not slow" -k encoder --record-encoders` writes the rows of the encoders whose
checks ran, for the backend it ran on. Without the option, test_contract.py compares what it measures with the file.
"""

import csv
import datetime
from collections import defaultdict

import keras
from source_tree import REPOSITORY

from kerazoo import testing

PATH = REPOSITORY / "docs" / "encoders.csv"
CHECKS = [check.__name__.removeprefix("check_encoder_") for check in testing.CHECKS["encoder"][1]]
FIELDS = ["encoder", "backend", "keras", "date", *CHECKS]


def cell(measured) -> str:
    """What a check returned, as it stands in the file."""
    return "yes" if measured is None else " ".join(map(str, measured)) or "none"


def read() -> dict[tuple[str, str], dict[str, str]]:
    """Rows of the file, by encoder and backend."""
    if not PATH.exists():
        return {}
    with PATH.open(newline="") as file:
        return {(row["encoder"], row["backend"]): row for row in csv.DictReader(file)}


class Recorder:
    """Pytest plugin that collects what passed checks of encoders measured, and writes it at the end."""

    def __init__(self):
        self.measured = defaultdict(dict)

    def pytest_runtest_logreport(self, report):
        properties = dict(report.user_properties)
        if report.when == "call" and report.passed and "encoder" in properties:
            self.measured[properties["encoder"]][properties["check"]] = properties["measured"]

    def pytest_sessionfinish(self):
        backend = keras.backend.backend()
        stamp = {"backend": backend, "keras": keras.__version__, "date": datetime.date.today().isoformat()}
        rows = read()
        for encoder, cells in self.measured.items():
            rows[encoder, backend] = {"encoder": encoder, **stamp, **cells}
        order = list(testing.CHECKS["encoder"][0])
        known = sorted((key for key in rows if key[0] in order), key=lambda key: (order.index(key[0]), key[1]))
        with PATH.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, restval="no", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[key] for key in known)
