"""Write the golden files of whole models of segmentation_models_pytorch and torchvision, weights by `golden_rule.fill`.

Run in an environment that has them and PyTorch: `PYTHONPATH=tests python tests/golden/make_models.py [NAME …]`. A file
holds what `tests/convert/test_smp.py` needs, and no weights: the configuration as smp saves it, names and shapes of
all tensors, seed and shape of the image, and every fifth logit of every fifth row.
"""

import json
import sys
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torchvision
from support.golden_rule import fill, image

STEP = 5
SQUARE = (64, 64)
SMP = {
    "unet_resnet18": ("Unet", {}, (96, 96)),
    "fpn_resnet18": ("FPN", {}, (96, 96)),
    "linknet_resnet18": ("Linknet", {}, (96, 96)),
    "pspnet_resnet18": ("PSPNet", {}, (96, 96)),
    "pan_resnet18": ("PAN", {}, (128, 128)),
    "deeplabv3_resnet18": ("DeepLabV3", {}, (96, 96)),
    "deeplabv3plus_resnet18": ("DeepLabV3Plus", {}, (96, 96)),
    "unetplusplus_resnet18": ("UnetPlusPlus", {}, SQUARE),
    "manet_resnet18": ("MAnet", {}, SQUARE),
    "upernet_resnet18": ("UPerNet", {}, SQUARE),
    "segformer_resnet18": ("Segformer", {}, SQUARE),
    # other encoders, depths, strides and options
    "unet_scse": (
        "Unet",
        {
            "encoder_depth": 3,
            "decoder_channels": (32, 16, 16),
            "decoder_attention_type": "scse",
            "decoder_interpolation": "bilinear",
            "aux_params": {"classes": 2},
        },
        SQUARE,
    ),
    "unet_resnet34": ("Unet", {"encoder_name": "resnet34", "decoder_attention_type": "scse"}, SQUARE),
    "unet_no_norm": (
        "Unet",
        {"encoder_depth": 3, "decoder_channels": (32, 16, 8), "decoder_use_norm": False, "in_channels": 4},
        (40, 56),
    ),
    "unetplusplus_scse": (
        "UnetPlusPlus",
        {"encoder_depth": 3, "decoder_channels": (32, 16, 16), "decoder_attention_type": "scse"},
        SQUARE,
    ),
    "manet_depth4": ("MAnet", {"encoder_depth": 4, "decoder_channels": (64, 32, 16, 8)}, SQUARE),
    "fpn_tu": (
        "FPN",
        {"encoder_name": "tu-seresnet18", "encoder_depth": 4, "decoder_merge_policy": "cat", "upsampling": 2},
        SQUARE,
    ),
    "fpn_se_resnet50": ("FPN", {"encoder_name": "se_resnet50", "decoder_interpolation": "bilinear"}, SQUARE),
    "linknet_depth4": ("Linknet", {"encoder_depth": 4, "encoder_name": "resnet50"}, SQUARE),
    "pspnet_depth4": ("PSPNet", {"encoder_depth": 4, "upsampling": 16, "psp_out_channels": 64}, (112, 96)),
    "pspnet_40": ("PSPNet", {"psp_out_channels": 64}, (40, 56)),
    "pan_stride32": ("PAN", {"encoder_output_stride": 32, "decoder_interpolation": "nearest"}, (288, 256)),
    "pan_tu_depth4": ("PAN", {"encoder_name": "tu-resnet18", "encoder_depth": 4}, (144, 128)),
    "deeplabv3_resnet50": ("DeepLabV3", {"encoder_name": "resnet50", "encoder_output_stride": 16}, SQUARE),
    "deeplabv3_separable": (
        "DeepLabV3",
        {
            "encoder_name": "tu-resnet18",
            "decoder_aspp_separable": True,
            "decoder_channels": 64,
            "decoder_atrous_rates": (2, 4, 6),
        },
        (72, 56),
    ),
    "deeplabv3plus_stride8": ("DeepLabV3Plus", {"encoder_output_stride": 8, "decoder_aspp_separable": False}, (72, 56)),
    "deeplabv3plus_se": ("DeepLabV3Plus", {"encoder_name": "se_resnet50", "encoder_output_stride": 8}, SQUARE),
    "upernet_depth4": ("UPerNet", {"encoder_depth": 4, "decoder_channels": 64, "decoder_use_norm": False}, SQUARE),
    "segformer_depth4": ("Segformer", {"encoder_depth": 4, "decoder_segmentation_channels": 64}, SQUARE),
}
TORCHVISION = {
    "fcn_resnet50": ({"num_classes": 3}, SQUARE),
    "fcn_aux": ({"num_classes": 2, "aux_loss": True}, (51, 65)),
    "deeplabv3_resnet50": ({"num_classes": 2}, (51, 65)),
}


def write(name: str, model: torch.nn.Module, config: dict, seed: int, size: tuple[int, int]) -> None:
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(fill(key, shape)) for key, shape in shapes.items()})
    shape = (1, *size, config.get("in_channels", 3))
    with torch.inference_mode():
        outputs = model.eval()(torch.from_numpy(image(seed, shape).transpose(0, 3, 1, 2)))
    arrays = {}
    if isinstance(outputs, tuple):
        outputs, arrays["label"] = outputs[0], outputs[1].numpy()
    elif isinstance(outputs, dict):
        outputs = outputs["out"]
    logits = outputs.numpy().transpose(0, 2, 3, 1)
    about = {"config": config, "tensors": shapes, "seed": seed, "shape": shape}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    path = Path(__file__).parent / f"{name}.npz"
    np.savez_compressed(path, logits=logits[:, ::STEP, ::STEP], **arrays)
    print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB, {logits.shape}, |logits| up to {np.abs(logits).max():.2f}")


def main(names: list[str]) -> None:
    for name, (architecture, options, size) in SMP.items():
        if not names or f"smp_{name}" in names:
            options = {"encoder_name": "resnet18", "classes": 2, **options}
            model = getattr(smp, architecture)(encoder_weights=None, **options)
            config = {**model.config, "_model_class": architecture}  # as smp's save_pretrained writes it
            write(f"smp_{name}", model, config, 2, size)
    for name, (options, size) in TORCHVISION.items():
        if not names or f"torchvision_{name}" in names:
            function = "fcn_resnet50" if name.startswith("fcn") else "deeplabv3_resnet50"
            model = getattr(torchvision.models.segmentation, function)(weights=None, weights_backbone=None, **options)
            write(f"torchvision_{name}", model, {"model": function, **options}, 3, size)


if __name__ == "__main__":
    main(sys.argv[1:])
