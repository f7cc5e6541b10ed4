"""Write `climbing_decoders.npz`: outputs of decoders of segmentation_models_pytorch alone, small enough to be checked
in a blink, for arguments that whole models do not reach.

Run in an environment that has it and PyTorch: `PYTHONPATH=tests python tests/golden/make_climbing_decoders.py`. Weights
are by `golden_rule.fill`, features by `golden_rule.image`, as `tests/support/pyramids.py` makes them.
"""

from pathlib import Path

import numpy as np
import torch
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from support.golden_rule import fill, image

CHANNELS = (3, 16, 18, 20, 24, 32)
"""Of the image, which decoders are told too, and of the five levels of the encoder."""

WIDTHS = (24, 20, 16, 16, 16)
STRIDED, DILATED = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 16)
SIZE, LARGE = (64, 96), (144, 208)
INSTANCE = {"type": "instancenorm", "affine": True}

MODULES = {
    "unet_scse": (UnetDecoder(CHANNELS, WIDTHS, attention_type="scse", interpolation_mode="bilinear"), STRIDED, SIZE),
    "unet_instance": (UnetDecoder(CHANNELS, WIDTHS, use_norm=INSTANCE), STRIDED, SIZE),
    "unet_no_norm": (UnetDecoder(CHANNELS, WIDTHS, use_norm=False), STRIDED, SIZE),
    "unet_plus_plus": (UnetPlusPlusDecoder(CHANNELS, WIDTHS), STRIDED, SIZE),
    "unet_plus_plus_scse": (
        UnetPlusPlusDecoder(CHANNELS, WIDTHS, attention_type="scse", interpolation_mode="bilinear"),
        STRIDED,
        SIZE,
    ),
    "manet": (MAnetDecoder(CHANNELS, WIDTHS), STRIDED, SIZE),
    "manet_no_norm": (
        MAnetDecoder(CHANNELS, WIDTHS, use_norm=False, pab_channels=5, reduction=4, interpolation_mode="bilinear"),
        STRIDED,
        SIZE,
    ),
    "fpn": (FPNDecoder(CHANNELS, 5, 12, 32), STRIDED, SIZE),
    "fpn_concat": (FPNDecoder(CHANNELS, 5, 12, 64, merge_policy="cat", interpolation_mode="bilinear"), STRIDED, SIZE),
    "pan": (PANDecoder(CHANNELS, 5, 6), DILATED, LARGE),
    "pan_nearest": (PANDecoder(CHANNELS[:5], 4, 6, "nearest"), STRIDED[:5], LARGE),
    "upernet": (UPerNetDecoder(CHANNELS, 5, 10), STRIDED, SIZE),
    "upernet_no_norm": (UPerNetDecoder(CHANNELS[:4], 3, 10, use_norm=False), STRIDED[:4], SIZE),
    "segformer": (SegformerDecoder(CHANNELS, 5, 10), STRIDED, SIZE),
}


def main():
    """Run every module on a pyramid, and keep every fifth pixel of every fifth row, and eight channels."""
    outputs = {}
    for name, (module, strides, size) in MODULES.items():
        module.eval()
        state = {key: torch.from_numpy(fill(key, tuple(value.shape))) for key, value in module.state_dict().items()}
        module.load_state_dict(state)
        features = [
            torch.from_numpy(image(level, (1, *(n // stride for n in size), channels)).transpose(0, 3, 1, 2))
            for level, (stride, channels) in enumerate(zip(strides, CHANNELS, strict=False))
        ]
        with torch.no_grad():
            outputs[name] = module(features).numpy().transpose(0, 2, 3, 1)[:, ::5, ::5, :8]
        print(name, outputs[name].shape, np.abs(outputs[name]).max())
    path = Path(__file__).parent / "climbing_decoders.npz"
    np.savez_compressed(path, **outputs)
    print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
