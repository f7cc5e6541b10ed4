"""Whole segmentation models of torchvision, as models of ours, without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kerazoo.checkpoints import tensors
from kerazoo.compose import segmenter
from kerazoo.convert.smp_decoders import aspp_module
from kerazoo.decoders import FCN, DeepLabV3
from kerazoo.encoders import ENCODERS
from kerazoo.heads import Linear

STEM = "backbone.conv1.weight"
LOGITS = "classifier.4.weight"
CLASSIFIERS = {"classifier.0.weight": "fcn", "classifier.0.convs.0.0.weight": "deeplabv3"}
"""A tensor that tells the architectures apart."""

DEEPER = "backbone.layer3.6.conv1.weight"
"""A tensor of ResNet-101 that ResNet-50 does not have."""

AUXILIARY = "aux_classifier.*"
"""Scores of an inner stage, for training alone."""

FCN_LAYERS = {"d_context_conv": "classifier.0", "d_context_bn": "classifier.1"}
DEEPLAB_LAYERS = {"d_conv1_conv": "classifier.1", "d_conv1_bn": "classifier.2"}


def from_torchvision(
    source: str | Path | Mapping[str, Any],
    *,
    preprocessing: bool = False,
    image_shape: tuple[int | None, int | None, int] | None = None,
    name: str = "segmenter",
) -> keras.Model:
    """Build the model that a state dict of torchvision.models.segmentation belongs to, and give it these weights.

    Converts `fcn_resnet50`, `fcn_resnet101`, `deeplabv3_resnet50` and `deeplabv3_resnet101`; which of them it is, the
    classes and the channels follow from the tensors. As in torchvision, logits have an eighth of the size and are
    resized to it, whatever it is. The auxiliary classifier, which is there for training alone, is left out.

    Args:
        source: Path of a `.safetensors` or `.pth` file, or a state dict.
        preprocessing: False takes images normalized as torchvision's weights want them; True takes raw images in
            [0, 255] and normalizes them by the mean and standard deviation of ImageNet.
        image_shape: `(height, width, channels)`; None takes every size.
        name: Name of the model.

    Returns: a model of `kerazoo.segmenter` from `(B, H, W, C)` images, channels last, to logits `(B, H, W, classes)`,
        float32: those that torchvision's model gives under "out" in `eval()`.

    Raises:
        ValueError: the tensors are of no such model, or do not fit (all of them are listed).
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, Mapping):
        state, label = tensors.from_state(source), "the state dict"
    else:
        state, label = tensors.read(source), Path(source).name
    architectures = [architecture for key, architecture in CLASSIFIERS.items() if key in state]
    if len(architectures) != 1 or STEM not in state or LOGITS not in state:
        raise ValueError(
            f"{label} is of none of fcn_resnet50, fcn_resnet101, deeplabv3_resnet50, deeplabv3_resnet101: they have "
            f"{STEM}, {LOGITS} and one of {list(CLASSIFIERS)}; received {', '.join(list(state)[:5])}, …"
        )
    deeplab = DeepLabV3(rates=(12, 24, 36), dropout=0.5, convolutions=1)
    decoder = FCN(skips=0) if architectures == ["fcn"] else deeplab
    part = ENCODERS["resnet101" if DEEPER in state else "resnet50"]
    channels = state.shape(STEM)[1]
    model = segmenter(
        part,
        decoder,
        Linear(),
        num_classes=state.shape(LOGITS)[0],
        image_shape=(None, None, channels) if image_shape is None else image_shape,
        preprocessing=preprocessing,
        output_stride=8,
        pad=False,
        name=name,
    )
    tensors.assign(
        model, state, lambda path: _module(path, part.state_dict_name), allow_unexpected=(AUXILIARY,), source=label
    )
    return model


def _module(path: str, encoder_module: Any) -> str:
    if path == "h_logits":
        return LOGITS.removesuffix(".weight")
    if path.startswith("d_aspp/"):
        return f"classifier.0.{aspp_module(path.removeprefix('d_aspp/'))}"
    if path.startswith("d"):
        return (FCN_LAYERS | DEEPLAB_LAYERS)[path]
    return f"backbone.{encoder_module(path)}"
