"""Count, time and weigh an architecture of segmentation_models_pytorch; run by `benchmarks/decoders.py --peer PYTHON`.

    python smp_decoders.py CLASS THREADS

Prints JSON with what `benchmarks/decoders.py` describes. Float32, eager, as its users run it.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

# torchvision describes its compiled operators on import, and a CPU-only PyTorch has none of them. These models need
# none either: name them, so that the description finds something.
OPERATORS = ("nms", "qnms", "deform_conv2d", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
OPERATORS += tuple(f"_{name}_backward" for name in OPERATORS)
if not hasattr(torch.ops.torchvision, "nms"):
    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        library.define(f"{operator}(Tensor x) -> Tensor")
import segmentation_models_pytorch as smp  # noqa: E402

BATCH, SIZE, RUNS = 2, 512, 2


def median_ms(step):
    step()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def forget_peak():
    """Resident memory now, in MiB, from which on the peak counts (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def main():
    torch.set_num_threads(int(sys.argv[2]))
    torch.manual_seed(0)
    image = torch.rand(BATCH, 3, SIZE, SIZE)
    mask = (torch.rand(BATCH, 1, SIZE, SIZE) > 0.5).float()
    model = getattr(smp, sys.argv[1])("resnet18", encoder_weights=None, classes=1)
    before = forget_peak()
    optimizer = torch.optim.Adam(model.parameters())
    loss = torch.nn.BCEWithLogitsLoss()

    def train():
        optimizer.zero_grad()
        loss(model(image), mask).backward()
        optimizer.step()

    def infer():
        with torch.inference_mode():
            model(image)

    model.eval()
    inference = median_ms(infer)
    inference_mib = peak_mib() - before
    model.train()
    training = median_ms(train)
    training_mib = peak_mib() - before
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image[:1])
    values = {
        "gflops": counter.get_total_flops() / 1e9,
        "all": millions(model),  # with the stages of the encoder that a smaller depth leaves out of the forward pass
        "own": millions(model) - millions(model.encoder),
        "inference_ms": inference,
        "training_ms": training,
        "inference_mib": inference_mib,
        "training_mib": training_mib,
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main()
