"""Time the Unet of segmentation_models_pytorch; run by `benchmarks/resnet50_unet.py --peer PYTHON`.

Prints medians in seconds: training step, inference. Float32, eager, as its users run it.
"""

import statistics
import sys
import time

import torch

# torchvision describes its compiled operators on import, and a CPU-only PyTorch has none of them. Unet needs none
# either: name them, so that the description finds something.
OPERATORS = ("nms", "qnms", "deform_conv2d", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
OPERATORS += tuple(f"_{name}_backward" for name in OPERATORS)
if not hasattr(torch.ops.torchvision, "nms"):
    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        library.define(f"{operator}(Tensor x) -> Tensor")
import segmentation_models_pytorch as smp  # noqa: E402

BATCH, SIZE = 4, 256


def median_seconds(step, runs):
    step()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    image = torch.rand(BATCH, 3, SIZE, SIZE)
    mask = (torch.rand(BATCH, 1, SIZE, SIZE) > 0.5).float()
    model = smp.Unet("resnet50", encoder_weights=None, classes=1)
    optimizer = torch.optim.Adam(model.parameters())
    loss = torch.nn.BCEWithLogitsLoss()

    def train():
        optimizer.zero_grad()
        loss(model(image), mask).backward()
        optimizer.step()

    def infer():
        with torch.inference_mode():
            model(image)

    model.train()
    training = median_seconds(train, 5)
    model.eval()
    print(training, median_seconds(infer, 8))


if __name__ == "__main__":
    main()
