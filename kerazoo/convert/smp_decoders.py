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
        return f"{block}.{_fused(layer)}"
    return f"{block}.{_attended(layer)}"


def _fused(layer: str) -> str:
    count, kind = _groups(r"fuse(\d)_(conv|bn|norm)", layer)
    return f"conv{count}.{CONV2D_RELU[kind]}"


def _attended(layer: str) -> str:
    count, gate = _groups(r"attend(\d)/(.+)", layer)
    return f"attention{count}.attention.{ATTENTIONS[gate]}"


def _unet_plus_plus(path: str, depth: int) -> str:
    node, layer = _groups(r"d\d+_(x_\d_\d)_(.+)", path)
    return f"blocks.{node}.{_fused(layer) if layer.startswith('fuse') else _attended(layer)}"


POSITION_ATTENTION = {"query": "center_conv", "key": "top_conv", "value": "bottom_conv", "out": "out_conv"}
"""Convolutions of MANet's position-wise attention block to those of smp's PABBlock."""


def _manet(path: str, depth: int) -> str:
    if path.startswith("d_position_"):
        return f"center.{POSITION_ATTENTION[path.removeprefix('d_position_')]}"
    stride, layer = _groups(r"d(\d+)_(.+)", path)
    block = f"blocks.{_step(stride, depth) - 1}"
    if layer.startswith("fuse"):
        return f"{block}.{_fused(layer)}"
    if layer.startswith("reduce"):
        count, kind = _groups(r"reduce(\d)_(conv|bn|norm)", layer)
        return f"{block}.hl_conv.{int(count) - 1}.{CONV2D_RELU[kind]}"
    gate, dense = _groups(r"(gate|skip_gate)_(squeeze|excite)", layer)
    return f"{block}.{'SE_hl' if gate == 'gate' else 'SE_ll'}.{'1' if dense == 'squeeze' else '3'}"


PYRAMID_ATTENTION = {
    "mean": "branch1.1",
    "mid": "mid.0",
    "down1": "down1.1",
    "down2": "down2.1",
    "down3": "down3.1",
    "conv3": "down3.2",
    "conv2": "conv2",
    "conv1": "conv1",
}
"""Convolutions of PyramidAttention's coarsest level to those of smp's FPABlock."""


def _pan(path: str, depth: int) -> str:
    if path.startswith("d_fpa_"):
        layer, kind = _groups(r"d_fpa_(.+)_(conv|bn)", path)
        return f"fpa.{PYRAMID_ATTENTION[layer]}.{kind}"
    stride, layer, kind = _groups(r"d(\d+)(?:_\d)?_gau_(gate|skip)_(conv|bn)", path)
    # The coarsest strides repeat in a dilated encoder; what is merged has the stride that its block is numbered by.
    return f"gau{int(stride).bit_length() - 2}.{'conv1.1' if layer == 'gate' else 'conv2'}.{kind}"


def _upernet(path: str, depth: int) -> str:
    if path.startswith("d_fuse_"):
        return f"fusion_block.{CONV2D_RELU[path.removeprefix('d_fuse_')]}"
    stride, layer = _groups(r"d(\d+)_(.+)", path)
    step = _step(stride, depth)
    if layer == "norm":
        return f"feature_norms.{depth - 2 - step}"
    if layer.startswith("pool/"):
        branch, kind = _groups(r"pool/branch(\d)/(conv|bn|norm)", layer)
        return f"psp.blocks.{branch}.1.{CONV2D_RELU[kind]}"
    block, kind = _groups(r"(pool_out|lateral|out)_(conv|bn|norm)", layer)
    if block == "pool_out":
        return f"psp.out_conv.{CONV2D_RELU[kind]}"
    fpn = "fpn_lateral_blocks.{}.conv_norm_relu.{}" if block == "lateral" else "fpn_conv_blocks.{}.{}"
    return fpn.format(step - 1, CONV2D_RELU[kind])


def _segformer(path: str, depth: int) -> str:
    if path.startswith("d_fuse_"):
        return f"fuse_stage.{CONV2D_RELU[path.removeprefix('d_fuse_')]}"
    (stride,) = _groups(r"d(\d+)_project", path)
    return f"mlp_stage.{_step(stride, depth)}.linear"


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
    "MAnet": _manet,
    "PAN": _pan,
    "PSPNet": _pspnet,
    "Segformer": _segformer,
    "UPerNet": _upernet,
    "Unet": _unet,
    "UnetPlusPlus": _unet_plus_plus,
}
"""smp's class to a function from a path and the number of the encoder's levels to a name."""
