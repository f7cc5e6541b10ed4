"""Write the golden files of timm's classifiers, weights by `golden_rule.fill`.

Run in an environment that has timm and PyTorch: `PYTHONPATH=tests python tests/golden/make_encoders.py [NAME …]`. A
file holds the logits and the upper left corner of each level, no more of it than keeps the file small.
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from support.golden_rule import fill, image

CASES = {  # name of the file: timm's model, arguments, size of the image
    "resnet18": ("resnet18", {}, (64, 64)),
    "resnet50": ("resnet50", {}, (64, 96)),
    "seresnet18": ("seresnet18", {}, (45, 67)),
    "seresnet18_dilated": ("seresnet18", {"output_stride": 16}, (45, 67)),
    "seresnet50": ("seresnet50", {}, (64, 64)),
    "convmixer_768_32": ("convmixer_768_32", {}, (70, 70)),
    "efficientnet_lite1": ("tf_efficientnet_lite1", {}, (45, 67)),
    "efficientnet_lite2_dilated": ("tf_efficientnet_lite2", {"output_stride": 16}, (45, 67)),
}
SHARE = 2_000
"""Numbers kept of each level."""


def corner(level: np.ndarray) -> np.ndarray:
    """The upper left pixels of `(1, H, W, C)`, with all their channels."""
    _, height, width, channels = level.shape
    side = max(1, int((SHARE / channels) ** 0.5))
    return level[:, : min(side, height), : min(side, width)]


def outputs(model: torch.nn.Module, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Levels by stride, and logits."""
    pixels = torch.from_numpy(image(1, (1, *size, 3)).transpose(0, 3, 1, 2))
    with torch.no_grad():
        levels = model.forward_intermediates(pixels, intermediates_only=True)
        logits = model(pixels)
    if type(model).__name__ == "ConvMixer":
        levels = levels[-1:]  # blocks all have one resolution
    arrays = {f"level{i}": corner(level.numpy().transpose(0, 2, 3, 1)) for i, level in enumerate(levels)}
    return {**arrays, "logits": logits.numpy()}


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        architecture, arguments, size = CASES[name]
        model = timm.create_model(architecture, **arguments).eval()
        model.load_state_dict({key: torch.tensor(fill(key, value.shape)) for key, value in model.state_dict().items()})
        np.savez_compressed(Path(__file__).parent / f"encoder_{name}.npz", **outputs(model, size))
