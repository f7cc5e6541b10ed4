"""Describe the machine a benchmark ran on, and write its rows with that description.

Run as a script it prints the description: `python benchmarks/machine.py`.
"""

import csv
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def describe(*packages: str) -> dict[str, str]:
    """What a reader must know to compare figures.

    Args:
        packages: Distributions whose versions matter to the figures, beside keras ("tensorflow", "torch").

    Returns: column name to text: `date` (UTC), `cpu`, `cores` (those this process may use), `python`, `packages` and
        `command`.
    """
    versions = [f"{name} {metadata.version(name)}" for name in ("keras", *packages)]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "python": platform.python_version(),
        "packages": ", ".join(versions),
        "command": " ".join(["python", *sys.argv]),
    }


def write(name: str, rows: Sequence[Mapping[str, object]], *packages: str) -> Path:
    """Write `benchmarks/results/NAME.csv`, print it, and return its path.

    Args:
        name: File name without suffix.
        rows: One mapping per line, all with the same keys; put units into the keys (`time_ms`, `peak_mib`).
        packages: As in `describe`, whose columns follow those of the rows.
    """
    machine = describe(*packages)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=[*rows[0], *machine], lineterminator="\n")
        table.writeheader()
        table.writerows({**row, **machine} for row in rows)
    print(path.read_text(), end="")
    return path


def _cpu() -> str:
    """Model name of the processor; the architecture where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    for column, text in describe("tensorflow").items():
        print(f"{column}: {text}")
