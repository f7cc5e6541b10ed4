"""Encoders and decoders that were designed together, by the name of the pair.

```python
model = kz.segmenter(*kz.pairs.create("efficientdet_d2"), "mlf", num_classes=1, weights="imagenet")
```

EfficientDet (Tan et al., 2020, https://arxiv.org/abs/1911.09070) scales an EfficientNet and a BiFPN by one compound
coefficient. Its image size, and the networks that predict boxes, are no part of a pair. In the paper's table, D7 is D6
on larger images and D7x has the encoder B7; as images have any size here, `efficientdet_d7` is the one with B7.

The first networks for segmentation were one encoder and one decoder each: FCN-32s, -16s and -8s over VGG-16, with
skips from its poolings, DeconvNet and SegNet over VGG-16 with batch norm, and the first U-Net. Add the linear head.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

from kerazoo.decoders import FCN, DeconvNet, SegNet, UNetOriginal
from kerazoo.decoders.bifpn import COMPOUND, BiFPN
from kerazoo.encoders import ENCODERS
from kerazoo.registry import Registry

BLOCK_ENDS = r"block\d+[a-z]_(add|project_bn)"
"""Layers of an EfficientNet that its levels in EfficientDet are taken from."""

POOLINGS = r"block\d_pool"
"""Layers of VGG that FCN's skips come from."""

SUMS_FROM = 6
"""Compound coefficient from which on the authors add the inputs of a node instead of weighing them."""


class Pair(NamedTuple):
    """The first two arguments of `kerazoo.segmenter`.

    Attributes:
        encoder: A part of `kerazoo.encoders.ENCODERS`, or one like it, which takes the same weights.
        decoder: A part with arguments.
    """

    encoder: Any
    decoder: Any


def _efficientdet(coefficient: int, **hyperparameters: Any) -> Pair:
    """EfficientDet by its compound coefficient; `hyperparameters` of `BiFPN` take the place of the scaled ones."""
    encoder = dataclasses.replace(ENCODERS[f"efficientnetb{coefficient}"], taps=BLOCK_ENDS)
    width, repeats = COMPOUND[coefficient]
    fusion = "sum" if coefficient >= SUMS_FROM else "fast"
    return Pair(encoder, BiFPN(**{"width": width, "repeats": repeats, "fusion": fusion, **hyperparameters}))


def _fcn(skips: int, **hyperparameters: Any) -> Pair:
    """FCN by its number of skips; the paper's `width` is the number of classes."""
    encoder = dataclasses.replace(ENCODERS["vgg16"], taps=POOLINGS)
    return Pair(encoder, FCN(**{"skips": skips, "context": "fc", **hyperparameters}))


def _deconvnet(**hyperparameters: Any) -> Pair:
    return Pair(ENCODERS["vgg16_bn"], DeconvNet(**hyperparameters))


def _segnet(**hyperparameters: Any) -> Pair:
    return Pair(ENCODERS["vgg16_bn"], SegNet(**hyperparameters))


def _unet_original(**hyperparameters: Any) -> Pair:
    """With the margin that its strides of 1 to 16 need, and no more."""
    return Pair(ENCODERS["unet_contracting"], UNetOriginal(**{"margin": 32, **hyperparameters}))


PAIRS = Registry(
    "pair",
    {
        "deconvnet": _deconvnet,
        "efficientdet_d0": partial(_efficientdet, 0),
        "efficientdet_d1": partial(_efficientdet, 1),
        "efficientdet_d2": partial(_efficientdet, 2),
        "efficientdet_d3": partial(_efficientdet, 3),
        "efficientdet_d4": partial(_efficientdet, 4),
        "efficientdet_d5": partial(_efficientdet, 5),
        "efficientdet_d6": partial(_efficientdet, 6),
        "efficientdet_d7": partial(_efficientdet, 7),
        "fcn_16s": partial(_fcn, 1),
        "fcn_32s": partial(_fcn, 0),
        "fcn_8s": partial(_fcn, 2),
        "segnet": _segnet,
        "unet_original": _unet_original,
    },
)

list = PAIRS.list


def create(name: str, **hyperparameters: Any) -> Pair:
    """The encoder and the decoder of a pair.

    Args:
        name: Name of `list()`.
        hyperparameters: Of the decoder, in place of the pair's own: `create("efficientdet_d2", finest_stride=4)`.

    Returns: the pair, to be unpacked into `kerazoo.segmenter`.

    Raises:
        ValueError: the name is unknown (near matches are named), or the decoder refuses a hyper-parameter's value.
        TypeError: the decoder has no such hyper-parameter.
    """
    return PAIRS.create(name, **hyperparameters)


__all__ = ["PAIRS", "Pair", "create", "list"]
