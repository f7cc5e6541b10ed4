"""Write `context_decoders.npz`: outputs of decoders of segmentation_models_pytorch and torchvision alone, small enough
to be checked in a blink, for arguments that whole models do not reach.

Run in an environment that has them and PyTorch: `PYTHONPATH=tests python tests/golden/make_context_decoders.py`.
Weights are by `golden_rule.fill`, features by `golden_rule.image`, as `tests/support/decoder_alone.py` makes them.
"""

from pathlib import Path

import numpy as np
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from support.golden_rule import fill, image
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

CHANNELS = (3, 16, 20, 24, 28)
"""Of the image, which decoders are told too, and of the levels at strides 2, 4, 8 and 16."""

SIZE = (48, 80)

MODULES = {
    "linknet": LinknetDecoder(CHANNELS, prefinal_channels=6, n_blocks=4),
    "linknet_no_norm": LinknetDecoder(CHANNELS, prefinal_channels=6, n_blocks=4, use_norm=False),
    "linknet_instance": LinknetDecoder(
        CHANNELS, prefinal_channels=6, n_blocks=4, use_norm={"type": "instancenorm", "affine": True}
    ),
    "pspnet": PSPDecoder(CHANNELS, out_channels=10),
    "pspnet_no_norm": PSPDecoder(CHANNELS, out_channels=10, use_norm=False),
    "deeplab_v3": DeepLabV3Decoder(28, 6, (1, 2, 4), aspp_separable=False, aspp_dropout=0.5),
    "deeplab_v3_separable": DeepLabV3Decoder(28, 6, (2, 3, 9), aspp_separable=True, aspp_dropout=0.5),
    "deeplab_v3_plus": DeepLabV3PlusDecoder(CHANNELS, 4, 6, (1, 2, 4), 16, aspp_separable=True, aspp_dropout=0.5),
    "deeplab_v3_plus_dense": DeepLabV3PlusDecoder(CHANNELS, 4, 6, (1, 2, 4), 16, aspp_separable=False, aspp_dropout=0),
    "torchvision": DeepLabHead(28, 3, (1, 2, 3, 5)),
}


def main():
    """Run every module on the same pyramid, and keep every third row and column of LinkNet's full resolution."""
    features = [
        torch.from_numpy(image(level, (1, *(n // 2**level for n in SIZE), channels)).transpose(0, 3, 1, 2))
        for level, channels in enumerate(CHANNELS)
    ]
    outputs = {}
    for name, module in MODULES.items():
        module.eval()
        state = {key: torch.from_numpy(fill(key, tuple(value.shape))) for key, value in module.state_dict().items()}
        module.load_state_dict(state)
        with torch.no_grad():
            output = module(features[-1] if name == "torchvision" else features)
        step = 3 if name.startswith("linknet") else 1
        outputs[name] = output.numpy().transpose(0, 2, 3, 1)[:, ::step, ::step]
    np.savez_compressed(Path(__file__).parent / "context_decoders.npz", **outputs)


if __name__ == "__main__":
    main()
