"""Memory that loading a checkpoint of ResNet-50 adds, at its peak: less than 2.5 times the file is the aim.

Every case is a fresh process: `load` fills an encoder that is there, `build` makes one with random weights, and
`build_and_load` is what `weights=PATH` does. The highest resident memory during that, less the resident memory before,
is the result; of a .pth file the pages that are mapped into memory count, which the system may drop at any time. The
file, about 100 MB, is made here: random tensors under timm's names, classifier included. Linux only: the peak comes
from `/proc/self`.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import write

RUNS = 3
CASES = [
    (backend, f"resnet50{suffix}", case)
    for backend, suffix in (("tensorflow", ".safetensors"), ("tensorflow", ".pth"), ("torch", ".safetensors"))
    for case in ("load", "build", "build_and_load")
]


def make_files(folder: Path) -> None:
    """Run in a process of its own, so that its memory is not that of the cases."""
    import torch
    from safetensors.numpy import save_file

    import kerazoo as kz
    from kerazoo.checkpoints import tensors
    from kerazoo.encoders import ENCODERS

    shapes = tensors.places(kz.encoders.create("resnet50"), ENCODERS["resnet50"].state_dict_name)
    shapes |= {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    generator = np.random.default_rng(0)
    state = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    save_file(state, folder / "resnet50.safetensors")
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, folder / "resnet50.pth")


def memory(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmRSS, resident now, or VmHWM, the most since the peak was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {field}.")


def measure(path: Path, case: str) -> None:
    import kerazoo as kz
    from kerazoo.encoders import ENCODERS
    from kerazoo.encoders.weights import load_weights

    if path.suffix == ".pth":
        import torch  # noqa: F401 (its own memory is not that of the file)
    small = kz.encoders.create("resnet18", depth=1)  # whatever the backend loads when it is first used
    small(np.zeros((1, 32, 32, 3), "float32"))
    model = kz.encoders.create("resnet50") if case == "load" else None

    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    start = time.perf_counter()
    if model is None:
        model = kz.encoders.create("resnet50", weights=path if case == "build_and_load" else None)
    else:
        load_weights(model, ENCODERS["resnet50"], path)
    print(memory("VmHWM") - before, time.perf_counter() - start)


def run(*arguments: object, backend: str = "tensorflow") -> str:
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run("--make", folder)
        for backend, file, case in CASES:
            path = Path(folder) / file
            results = [run("--measure", path, case, backend=backend).split()[-2:] for _ in range(RUNS)]
            added, seconds = (max(float(value) for value in column) for column in zip(*results, strict=True))
            size = path.stat().st_size
            rows.append(
                {
                    "backend": backend,
                    "file": path.suffix,
                    "case": case,
                    "runs": RUNS,
                    "file_mb": f"{size / 1e6:.0f}",
                    "most_added_mb": f"{added / 1e6:.0f}",
                    "added_per_file": f"{added / size:.2f}",
                    "most_seconds": f"{seconds:.1f}",
                }
            )
    write("load_checkpoint", rows, "tensorflow", "torch", "safetensors")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_files(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
