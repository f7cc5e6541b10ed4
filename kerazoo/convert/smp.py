"""Whole models of segmentation_models_pytorch 0.6, as models of ours, without PyTorch."""

import inspect
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kerazoo.arguments import did_you_mean
from kerazoo.checkpoints import download, tensors
from kerazoo.compose import segmenter
from kerazoo.convert.smp_decoders import DECODERS
from kerazoo.convert.smp_designs import DESIGNS, Design
from kerazoo.convert.smp_encoders import Encoder, encoder

HUB_NAME = re.compile(r"[\w-]+/[\w.-]+")
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

COMMON = {
    "encoder_name": "resnet34",
    "encoder_weights": None,  # where training started from; the tensors are what came out
    "in_channels": 3,
    "classes": 1,
    "activation": None,
    "aux_params": None,
}
"""Arguments that all classes of smp have, with smp's defaults."""

RENAMED = {
    "decoder_use_batchnorm": "decoder_use_norm",
    "psp_use_batchnorm": "decoder_use_norm",
    "upscale_mode": "decoder_interpolation",
}
"""Arguments of earlier versions; as in smp they win over those of today."""

DEEPLAB_V3_BEFORE = {"decoder.0.": "decoder.aspp.", "decoder.1.": "decoder.conv.", "decoder.2.": "decoder.bn."}
"""Names in DeepLabV3 before smp 0.4."""


def from_smp(
    source: str | Path | Mapping[str, Any],
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    revision: str | None = None,
    preprocessing: bool = False,
    image_shape: tuple[int | None, int | None, int] | None = None,
    name: str = "segmenter",
) -> keras.Model:
    """Build the model that a state dict of segmentation_models_pytorch belongs to, and give it these weights.

    Converts Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet, PAN, DeepLabV3, DeepLabV3Plus, UPerNet and Segformer over
    ResNets and SE-ResNets, smp's own and timm's ("tu-resnet50"). The logits are those of smp in `eval()`, for every
    size of image that smp takes; others are padded, which smp's Unet alone does not ask for: it resizes instead.

    Args:
        source: Directory that smp's `save_pretrained` wrote, name of such a repository on the Hugging Face Hub, path of
            a `.safetensors` or `.pth` file, or a state dict.
        config: What smp's `config.json` holds, or its path: the class in "_model_class", the arguments of its
            constructor beside it; arguments that are not there have smp's defaults. None takes the `config.json` beside
            the tensors. It is read as data: a class that is not one of those above is refused.
        revision: Branch, tag or commit of a repository on the Hub; None takes its newest.
        preprocessing: False takes the images that the smp model takes, because a config does not say how they were
            normalized. True takes raw images in [0, 255] and normalizes them by the mean and standard deviation of
            ImageNet, as smp's `get_preprocessing_fn` does for these encoders.
        image_shape: `(height, width, channels)`; None takes every size.
        name: Name of the model.

    Returns: a model of `kerazoo.segmenter` from `(B, H, W, C)` images, channels last, to logits `(B, H, W, classes)`,
        float32; with `aux_params` to `{"mask": logits, "label": (B, classes) logits}`. An `activation` at the end of
        the smp model is left out, with a warning, and so is the dropout before its label.

    Raises:
        ValueError: the config is not one of smp's, asks for what ours cannot do (the argument is named), or the tensors
            do not fit it (all of them are listed).
        FileNotFoundError: there is no such file, no config beside it, or no such repository on the Hub.
    """
    state, settings, label = _open(source, config, revision)
    architecture, options, common = _parse(settings)
    if architecture == "DeepLabV3":
        state = state.renamed(_of_today)
    design: Design = DESIGNS[architecture](**options)
    part = encoder(common["encoder_name"], depth=design.depth, output_stride=design.output_stride)
    _check_common(common)

    channels = common["in_channels"]
    model = segmenter(
        part.part,
        design.decoder,
        design.head,
        num_classes=common["classes"],
        image_shape=(None, None, channels) if image_shape is None else image_shape,
        preprocessing=preprocessing,
        output_stride=design.output_stride,
        depth=design.depth,
        label_head=common["aux_params"] is not None,
        name=name,
    )
    tensors.assign(
        model,
        state,
        lambda path: _module(path, part, architecture, design.depth),
        allow_unexpected=(*part.unused, *(f"decoder.{pattern}" for pattern in design.unused)),
        source=label,
    )
    return model


def _open(source: Any, config: Any, revision: str | None) -> tuple[tensors.Tensors, Mapping[str, Any], str]:
    """The tensors, the settings, and what to call the tensors in errors."""
    if isinstance(source, Mapping):
        if config is None:
            raise ValueError(
                "A state dict does not say what it belongs to: pass `config`, as smp's config.json has it."
            )
        return tensors.from_state(source), _settings(config), "the state dict"
    path = Path(source)
    if not path.exists() and isinstance(source, str) and HUB_NAME.fullmatch(source):
        path = _from_hub(source, revision)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file or directory {str(source)!r}. Names of repositories on the Hugging Face Hub are of the "
            "form 'user/model'."
        )
    if path.is_dir():
        folder = path
        path = next((path / file for file in WEIGHTS if (path / file).is_file()), path / WEIGHTS[0])
    else:
        folder = path.parent
    state = tensors.read(path)
    if config is None:
        config = folder / CONFIG
        if not config.is_file():
            raise FileNotFoundError(f"There is no {CONFIG} beside {path.name}: pass `config`.")
    return state, _settings(config), path.name


def _from_hub(repo: str, revision: str | None) -> Path:
    """Folder with the config and the tensors of a repository; pickles are not asked for."""
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[CONFIG, WEIGHTS[0]],
            cache_dir=download.cache_directory() / "hub",
            local_files_only=download.is_offline(),
        )
    except Exception as error:  # of either HTTP library that the Hub's client has used
        raise FileNotFoundError(
            f"There is no file or directory {repo!r}, and nothing came from the Hugging Face Hub under that name: "
            f"{type(error).__name__}: {error}"
        ) from error
    return Path(folder)


def _settings(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    path = Path(config)
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"{path.name} should hold an object with smp's arguments, received a {type(settings).__name__}."
        )
    return settings


def _parse(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The class, its own arguments, and those that all classes have."""
    architecture = settings.get("_model_class")
    if architecture not in DESIGNS:
        raise ValueError(
            f"_model_class={architecture!r} is no class of smp that can be converted; there are {', '.join(DESIGNS)}."
            f"{did_you_mean(architecture, DESIGNS)}"
        )
    given = {key: value for key, value in settings.items() if not key.startswith("_")}
    known = inspect.signature(DESIGNS[architecture]).parameters
    for before, now in RENAMED.items():
        if now in known and before in given:
            given[now] = given.pop(before)
    common = {key: given.pop(key, default) for key, default in COMMON.items()}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(
            f"Arguments of smp.{architecture} that cannot be converted: {', '.join(unknown)}. Known are "
            f"{', '.join((*COMMON, *known))}."
        )
    return architecture, given, common


def _check_common(common: Mapping[str, Any]) -> None:
    if common["activation"] not in (None, "identity"):
        warnings.warn(
            f"The smp model ends in activation={common['activation']!r}; the converted one gives the logits before it, "
            "as every model of kerazoo does.",
            stacklevel=3,
        )
    label = common["aux_params"]
    if label is None:
        return
    unknown = sorted(label.keys() - {"classes", "pooling", "dropout", "activation"})
    if unknown or label.get("pooling", "avg") != "avg" or label.get("classes") != common["classes"]:
        raise ValueError(
            f"aux_params={dict(label)} cannot be converted: there is only pooling='avg' with the {common['classes']} "
            "classes of the mask."
        )


def _of_today(name: str) -> str:
    before = name[: len("decoder.0.")]
    return DEEPLAB_V3_BEFORE.get(before, before) + name.removeprefix(before)


def _module(path: str, part: Encoder, architecture: str, depth: int) -> str:
    if path == "h_logits":
        return "segmentation_head.0"
    if path == "label_logits":
        return "classification_head.3"
    if path.startswith("d"):
        return f"decoder.{DECODERS[architecture](path, depth)}"
    return part.state_dict_name(path)
