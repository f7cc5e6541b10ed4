"""Where the weights of our decoders are in the state dicts of segmentation_models_pytorch 0.6.

A row per class of smp. A name is what follows "decoder." in smp; a path is that of a weight of our decoder without its
own name ("d16_fuse1_conv", "d16_attend1/channel/squeeze").
"""

import re
from collections.abc import Callable

ATTENTIONS = {"channel/squeeze": "cSE.1", "channel/excite": "cSE.3", "spatial": "sSE.0"}
"""Layers of `kerazoo.layers.SCSE` to modules of smp's SCSEModule."""

CONV2D_RELU = {"conv": "0", "bn": "1"}
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


DECODERS: dict[str, Callable[[str, int], str]] = {
    "FPN": _fpn,
    "Unet": _unet,
}
"""smp's class to a function from a path and the number of the encoder's levels to a name."""
