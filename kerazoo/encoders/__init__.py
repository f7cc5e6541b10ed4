"""Encoders: from an image to levels of features, fine to coarse."""

from pathlib import Path
from typing import Any

import keras

from kerazoo.checkpoints import catalog
from kerazoo.encoders import applications, convmixer, efficientnet_lite, resnet, unet_contracting, vgg
from kerazoo.encoders.applications import Application
from kerazoo.encoders.backbone import Backbone, has_levels
from kerazoo.encoders.build import build_encoder
from kerazoo.encoders.convmixer import ConvMixer
from kerazoo.encoders.efficientnet_lite import EfficientNetLite
from kerazoo.encoders.measure import strides
from kerazoo.encoders.resnet import ResNet
from kerazoo.encoders.unet_contracting import UNetContracting
from kerazoo.encoders.vgg import VGG
from kerazoo.registry import Registry
from kerazoo.types import Encoder, complete

ENCODERS = Registry(
    "encoder",
    {
        **resnet.VARIANTS,
        **vgg.VARIANTS,
        **efficientnet_lite.VARIANTS,
        **unet_contracting.VARIANTS,
        **convmixer.VARIANTS,
        **applications.VARIANTS,
    },
    refused={function.lower(): reason for function, reason in applications.REFUSED.items()},
)


def list(pattern: str = "*", *, weights: str | None = None) -> list[str]:
    """Names of encoders that match a shell-style pattern, sorted.

    Args:
        pattern: As in `fnmatch`.
        weights: Only encoders that have pretrained weights of this name: "imagenet", or a tag such as "tv_in1k"; None
            for all.

    Returns: the names.
    """
    return [name for name in ENCODERS.list(pattern) if weights is None or weights in catalog.tags(name)]


def create(
    name: str,
    *,
    image_shape: tuple[int | None, int | None, int] = (None, None, 3),
    weights: str | Path | None = None,
    output_stride: int = 32,
    depth: int | None = None,
    preprocessing: bool = False,
) -> keras.Model:
    """Build an encoder on its own.

    Args:
        name: Name of `list()`.
        image_shape: `(height, width, channels)`, sizes None for any.
        weights: None for random weights, a name of the catalog ("imagenet", "tv_in1k", "resnet50.tv_in1k"), or the path
            of a file: our own `.weights.h5`, a `.safetensors` or `.pth` file of timm or torchvision for a ResNet or
            ConvMixer, the `.h5` file of keras.applications for its families.
        output_stride: Stride of the coarsest level.
        depth: Number of levels, None for all.
        preprocessing: Whether the model takes raw images in [0, 255] and normalizes them itself.

    Returns: a `keras.Model` from `(B, H, W, C)` to a list of levels, fine to coarse, level of stride s
        `(B, ceil(H / s), ceil(W / s), C)`. `strides(model)` measures s.

    Raises:
        ValueError: the name is unknown (near matches are named), or an argument is not what the encoder can do.
        FileNotFoundError: there is no file at `weights`.
        OSError: the weights could not be downloaded.
    """
    return build_encoder(
        ENCODERS[name],
        image_shape=image_shape,
        weights=weights,
        output_stride=output_stride,
        depth=depth,
        preprocessing=preprocessing,
    ).model


def as_encoder(encoder: Any) -> Encoder:
    """The part that is meant by a name, a part, or a backbone of another library.

    Raises:
        ValueError: there is no encoder of that name (near matches are named).
        TypeError: it is none of those.
    """
    if has_levels(encoder):
        return Backbone(encoder)
    part = complete(ENCODERS[encoder] if isinstance(encoder, str) else encoder, Encoder)
    if part is None:
        hint = " Give the model that attribute: a dict from any names to its maps."
        raise TypeError(
            "`encoder` must be a name of kerazoo.encoders.list(), a part of that registry or a model with "
            f"`pyramid_outputs`; received {encoder!r}.{hint if isinstance(encoder, keras.Model) else ''}"
        )
    return part


__all__ = [
    "ENCODERS",
    "VGG",
    "Application",
    "ConvMixer",
    "EfficientNetLite",
    "ResNet",
    "UNetContracting",
    "create",
    "list",
    "strides",
]
