"""Count, time and weigh an architecture of segmentation_models_pytorch; run by `benchmarks/decoders.py --peer PYTHON`.

    python smp_decoders.py CLASS THREADS

Prints JSON with what `benchmarks/decoders.py` describes. Float32, eager, as its users run it.
"""

import json
import sys
from pathlib import Path

import torch
from smp_unet import median_seconds, smp  # which also names the operators that torchvision asks for
from torch.utils.flop_counter import FlopCounterMode

BATCH, SIZE, RUNS = 2, 512, 2


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
    inference = 1000 * median_seconds(infer, RUNS)
    inference_mib = peak_mib() - before
    model.train()
    training = 1000 * median_seconds(train, RUNS)
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
