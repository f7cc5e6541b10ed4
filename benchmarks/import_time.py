"""Time that `import kerazoo` adds to `import keras`: less than 50 ms is the aim.

Each run is a fresh interpreter, and kerazoo is timed in it after keras is there. The fastest of the runs counts: what
makes the others slower is the machine and not the import.
"""

import os
import subprocess
import sys

from machine import write

RUNS = 5
PROBE = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
import kerazoo
lazy = time.perf_counter()
kerazoo.segmenter, kerazoo.freeze
print(middle - start, lazy - middle, time.perf_counter() - lazy)
"""


def main() -> None:
    rows = []
    for backend in ("tensorflow", "jax"):
        seconds = []
        for _ in range(RUNS):
            probe = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", PROBE],
                env={**os.environ, "KERAS_BACKEND": backend},
                capture_output=True,
                text=True,
                check=True,
            )
            seconds.append([float(value) for value in probe.stdout.split()[-3:]])
        keras_ms, kerazoo_ms, parts_ms = (1000 * min(column) for column in zip(*seconds, strict=True))
        rows.append(
            {
                "backend": backend,
                "runs": RUNS,
                "import_keras_ms": f"{keras_ms:.0f}",
                "import_kerazoo_adds_ms": f"{kerazoo_ms:.1f}",
                "first_use_of_parts_adds_ms": f"{parts_ms:.1f}",
            }
        )
    write("import_time", rows, "tensorflow", "jax")


if __name__ == "__main__":
    main()
