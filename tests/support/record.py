"""What tests measured on parts, kept in a CSV file of docs/ that a table of the documentation is made of.

A test calls `record_row` for what it measured; `pytest --record-encoders` or `--record-decoders` writes it at the end,
for the backend it ran on. Rows are replaced as a whole, so a run has to make all checks of a part that it checks.
"""

import csv
import datetime
import json
from collections import defaultdict

import keras

from support.source_tree import REPOSITORY


class Record:
    """One row per part, or combination of parts, and backend; one column per check.

    Args:
        name: Of the file in docs/, and of the option that writes it.
        parts: Names of the columns that say which parts it is about, and the values that these may have, in order.
        checks: Names of the columns that say what was measured.
    """

    def __init__(self, name, parts, checks):
        self.name = name
        self.parts = {column: list(values) for column, values in parts.items()}
        self.fields = [*parts, "backend", "keras", "date", *checks]
        self.path = REPOSITORY / "docs" / f"{name}.csv"

    def read(self) -> dict[tuple[str, ...], dict[str, str]]:
        """Rows of the file, by parts and backend."""
        if not self.path.exists():
            return {}
        with self.path.open(newline="") as file:
            return {self.key(row): row for row in csv.DictReader(file)}

    def key(self, row) -> tuple[str, ...]:
        return (*(row[column] for column in self.parts), row["backend"])

    def write(self, rows):
        """Write rows, those of parts that are no more left out."""

        def order(key):
            return [values.index(name) for name, values in zip(key, self.parts.values(), strict=False)], key[-1]

        def known(key):
            return all(name in values for name, values in zip(key, self.parts.values(), strict=False))

        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.fields, restval="no", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[key] for key in sorted(filter(known, rows), key=order))


def record_row(record_property, record, **cells):
    """Say what was measured: the parts by name, and checks; several calls for the same parts add up."""
    record_property(f"row of {record.name}", json.dumps(cells))


class Recorder:
    """Pytest plugin that collects what passed tests measured, and writes it at the end."""

    def __init__(self, record):
        self.record = record
        self.measured = defaultdict(dict)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" or not report.passed:
            return
        for name, value in report.user_properties:
            if name == f"row of {self.record.name}":
                cells = json.loads(value)
                stamp = {
                    "backend": keras.backend.backend(),
                    "keras": keras.__version__,
                    "date": datetime.date.today().isoformat(),
                }
                self.measured[self.record.key(cells | stamp)] |= cells | stamp

    def pytest_sessionfinish(self):
        self.record.write(self.record.read() | self.measured)
