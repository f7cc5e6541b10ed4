"""Where the weights of our decoders are in the state dicts of segmentation_models_pytorch 0.6.

A row per class of smp. A name is what follows "decoder." in smp; a path is that of a weight of our decoder without its
own name ("d16_fuse1_conv", "d16_attend1/channel/squeeze").
"""

import re
from collections.abc import Callable

ATTENTIONS = {"channel/squeeze": "cSE.1", "channel/excite": "cSE.3", "spatial": "sSE.0"}
"""Layers of `kerazoo.layers.SCSE` to modules of smp's SCSEModule."""

CONV2D_RELU = {"conv": "0", "bn": "1", "norm": "1"}
"""Layers of `conv_norm_act` to modules of smp's Conv2dReLU."""


def _groups(pattern: str, path: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, path)
    if match is None:
        raise ValueError(f"The layer {path!r} has no counterpart in segmentation_models_pytorch.")
    return match.groups()


def _step(stride: str, depth: int) -> int:
    """Number of the level of this stride among those of a strided encoder, 0 the coarsest."""
    return depth - int(stride).bit_length() + 1


def _unet(path: str, depth: int) -> str:
    stride, layer = _groups(r"d(\d+)_(.+)", path)
    block = f"blocks.{_step(stride, depth) - 1}"
    if layer.startswith("fuse"):
        count, kind = _groups(r"fuse(\d)_(conv|bn)", layer)
        return f"{block}.conv{count}.{CONV2D_RELU[kind]}"
    count, gate = _groups(r"attend(\d)/(.+)", layer)
    return f"{block}.attention{count}.attention.{ATTENTIONS[gate]}"


def _fpn(path: str, depth: int) -> str:
    stride, layer = _groups(r"d(\d+)_(.+)", path)
    step = _step(stride, depth)
    if layer == "lateral":
        return "p5" if step == 0 else f"p{5 - step}.skip_conv"
    count, kind = _groups(r"assemble(\d)_(conv|norm)", layer)
    return f"seg_blocks.{step}.block.{int(count) - 1}.block.{'0' if kind == 'conv' else '1'}"


def _linknet(path: str, depth: int) -> str:
    block, layer, kind = _groups(r"d(\d)_(narrow|up|widen)_(conv|bn|norm)", path)
    return f"blocks.{block}.block.{('narrow', 'up', 'widen').index(layer)}.{CONV2D_RELU[kind]}"


def _pspnet(path: str, depth: int) -> str:
    if path.startswith("d_fuse_"):
        return f"conv.{CONV2D_RELU[path.removeprefix('d_fuse_')]}"
    branch, kind = _groups(r"d_pyramid/branch(\d)/(conv|bn|norm)", path)
    return f"psp.blocks.{branch}.pool.1.{CONV2D_RELU[kind]}"


SEPARABLE = {**CONV2D_RELU, "depthwise": "0.0", "pointwise": "0.1"}
"""Layers of a separable `conv_norm_act` to modules of smp's Sequential(SeparableConv2d, BatchNorm2d, ReLU)."""


def aspp_module(path: str) -> str:
    """Name of a layer of `kerazoo.layers.ASPP` ("branch1/conv") in smp's ASPP, and in torchvision's."""
    branch, image, layer = _groups(r"(project|branch\d+)(_image)?/(conv|bn|depthwise|pointwise)", path)
    if branch == "project":
        return f"project.{SEPARABLE[layer]}"
    branch = f"convs.{branch.removeprefix('branch')}"
    return f"{branch}.{1 + int(CONV2D_RELU[layer])}" if image else f"{branch}.{SEPARABLE[layer]}"


def _deeplab_v3(path: str, depth: int) -> str:
    if path.startswith("d_aspp/"):
        return f"aspp.{aspp_module(path.removeprefix('d_aspp/'))}"
    (kind,) = _groups(r"d_conv1_(conv|bn)", path)
    return kind


def _deeplab_v3_plus(path: str, depth: int) -> str:
    if path.startswith("d_aspp/"):
        return f"aspp.0.{aspp_module(path.removeprefix('d_aspp/'))}"
    block, layer = _groups(r"d_(context1|low|fuse1)_(conv|bn|depthwise|pointwise)", path)
    if block == "context1":  # in one Sequential with the ASPP
        return {"depthwise": "aspp.1.0", "pointwise": "aspp.1.1", "bn": "aspp.2"}[layer]
    return f"{'block1' if block == 'low' else 'block2'}.{SEPARABLE[layer]}"


DECODERS: dict[str, Callable[[str, int], str]] = {
    "DeepLabV3": _deeplab_v3,
    "DeepLabV3Plus": _deeplab_v3_plus,
    "FPN": _fpn,
    "Linknet": _linknet,
    "PSPNet": _pspnet,
    "Unet": _unet,
}
"""smp's class to a function from a path and the number of the encoder's levels to a name."""
