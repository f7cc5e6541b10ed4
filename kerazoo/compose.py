"""The one composition of the zoo: encoder, decoder and head to a plain functional model."""

import dataclasses
import inspect
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers

from kerazoo.checkpoints.catalog import IMAGENET
from kerazoo.checkpoints.imagenet import CLASSES as IMAGENET_CLASSES
from kerazoo.decoders import DECODERS
from kerazoo.encoders import ENCODERS
from kerazoo.encoders.build import (
    build_encoder,
    check_image_shape,
    load_weights,
    outside_levels,
    padded_shape,
    pyramid_features,
)
from kerazoo.encoders.switches import build_encoder_with_switches
from kerazoo.heads import HEADS
from kerazoo.heads._auxiliary import auxiliary, auxiliary_names
from kerazoo.layers import CropLike, MirrorPad, PadToMultiple, Resize
from kerazoo.registry import Registry
from kerazoo.sub_models import SubModel, as_list, levels
from kerazoo.types import AUX_PREFIX, Level, Tensor


def segmenter(
    encoder: Any,
    decoder: Any,
    head: Any,
    *,
    num_classes: int,
    weights: str | Path | None = None,
    image_shape: tuple[int | None, int | None, int] = (None, None, 3),
    preprocessing: bool = True,
    output_stride: int | None = None,
    depth: int | None = None,
    label_head: bool = False,
    aux: bool = False,
    pad: bool = True,
    name: str = "segmenter",
) -> keras.Model:
    """Assemble a segmentation model.

    The sub-models are called `encoder`, `decoder` and `head` (and `label_head`, `aux_head`). Everything around them is
    float32 whatever the precision policy: from the raw image to the padded one, and after the head's last convolution.

    Args:
        encoder: Name of `kerazoo.encoders.list()`, a part of that registry, or any model with `pyramid_outputs`
            (KerasHub) or `pyramid_level_inputs` (KerasCV), which comes with its own weights and gets the images as they
            are: normalize them before, or put a layer in front of the backbone.
        decoder: Name of `kerazoo.decoders.list()`, or a part, such as `kerazoo.decoders.UNet(skip="concat")`. If it has
            `switches`, the encoder's `with_switches` is asked for them; if it has a `margin`, images are mirrored by so
            many pixels on each side first.
        head: Name of `kerazoo.heads.list()`, or a part, such as `kerazoo.heads.MLF(stride=2)`. Layers of the decoder
            that it does not read are left out, unless `aux` needs them.
        num_classes: 1 for one sigmoid logit per pixel and mask ids {0, 1}; K >= 2 for K softmax logits, class 0 the
            background.
        weights: Weights of the encoder: None for random ones, "imagenet" or another name of the catalog ("tv_in1k",
            "resnet50.tv_in1k"), or the path of a file; as in `kerazoo.encoders.create`.
        image_shape: `(height, width, channels)`; height and width None accept every size.
        preprocessing: True takes raw images in [0, 255] (uint8 or float) and normalizes them as the encoder wants;
            False takes images that are normalized already. Has no effect on encoders with `pyramid_outputs`.
        output_stride: Stride of the encoder's coarsest level; None takes what the decoder declares.
        depth: Number of encoder levels; None takes what the decoder declares.
        label_head: Whether to classify the image as well, by global average pooling of the coarsest level: the outputs
            become `{"mask": logits, "label": (B, num_classes) logits}`.
        aux: Whether to score every decoded level as well, for deep supervision (Lee et al., 2015,
            https://arxiv.org/abs/1409.5185): the outputs become `{"mask": logits, "aux_4": …, "aux_8": …}`, one entry
            per level, named by its stride, each resized to the image as the mask is. `kerazoo.losses.deep_supervision`
            trains them; predictions and exports leave them out, see `without_aux`.
        pad: True pads images to the encoder's multiple and crops the logits back, so that every size works and all
            strides divide; False resizes the logits to the image instead, as torchvision does.
        name: Name of the model.

    Returns: a `keras.Model` from `(B, H, W, C)` images to logits `(B, H, W, num_classes)`, float32; or to a dict whose
        `"mask"` they are, with `label_head` or `aux`.

    Raises:
        ValueError: a part is unknown (near matches are named), or the parts or arguments do not fit each other.
        TypeError: a part is of another kind than its place asks for.
        FileNotFoundError: there is no file at `weights`.
        OSError: the weights could not be downloaded.
    """
    num_classes = _checked_num_classes(num_classes)
    image_shape = check_image_shape(image_shape)
    decoder = _part(DECODERS, decoder)
    head = _part(HEADS, head)
    stride = getattr(decoder, "output_stride", 32) if output_stride is None else output_stride
    if depth is None:
        depth = getattr(decoder, "depth", None)

    margin = getattr(decoder, "margin", 0)
    wants_switches = getattr(decoder, "switches", False)
    switch_strides = ()

    image = keras.Input(image_shape, name="image")
    if outside_levels(encoder) is not None:
        if output_stride is not None:
            raise ValueError(
                f"`output_stride` belongs to encoders given by name; {encoder.name!r} has the strides it was built "
                "with. Leave it out."
            )
        if wants_switches:
            raise ValueError(_no_switches(encoder.name))
        encoder_model, strides = _outside_encoder(
            encoder, _with_margin(image_shape, margin), weights=weights, depth=depth, pad=pad
        )
        x, multiple = image, max(strides) if pad else 1
    else:
        part = _encoder_part(encoder)
        x = part.preprocess(image) if preprocessing else image
        multiple = part.pad_multiple if pad else 1
        if margin and hasattr(part, "mirrored"):
            part = dataclasses.replace(part, mirrored=margin)
        options = {
            "image_shape": _with_margin(padded_shape(image_shape, multiple), margin),
            "weights": weights,
            "output_stride": stride,
            "depth": depth,
        }
        if not wants_switches:
            encoder_model, strides = build_encoder(part, **options)
        elif hasattr(part, "with_switches"):
            encoder_model, strides, switch_strides = build_encoder_with_switches(part, **options)
        else:
            raise ValueError(_no_switches(encoder))
    padded = PadToMultiple(multiple, dtype="float32", name="pad")(x) if multiple > 1 else x
    seen = MirrorPad(margin, multiple=multiple, dtype="float32", name="mirror")(x) if margin else padded

    tensors = as_list(encoder_model(seen))
    features = levels(strides, tensors[: len(strides)])
    switches = dict(zip(switch_strides, tensors[len(strides) :], strict=True)) if wants_switches else None
    decoder_model = SubModel.wire("decoder", decoder, features, switches)
    head_model = SubModel.wire("head", lambda maps: (head(maps, num_classes=num_classes),), decoder_model.levels)
    if not aux:  # what no one reads would be weights that learn nothing
        read = head_model.reads()
        decoder_model, head_model = decoder_model.giving(read), head_model.reading(read)
    if not label_head:
        _check_all_is_read(decoder_model, strides)
    decoded = decoder_model(features, switches)
    (level,) = head_model(decoded)
    maps = {"": level}
    if aux:
        scored = SubModel.wire("aux_head", lambda maps: auxiliary(maps, num_classes=num_classes), decoded)(decoded)
        maps |= zip((f"{key}_" for key in auxiliary_names(decoded)), scored, strict=True)
    outputs = {}
    for prefix, (stride, logits) in maps.items():
        logits = layers.Activation("linear", dtype="float32", name=f"{prefix}to_float32")(logits)
        if stride > 1 or not pad:
            logits = Resize(dtype="float32", name=f"{prefix}to_image_size")(logits, like=padded)
        if multiple > 1:
            logits = CropLike(dtype="float32", name=f"{prefix}crop")(logits, image)
        outputs[prefix.removesuffix("_") or "mask"] = logits
    if label_head:
        outputs["label"] = _label_head(features[-1], lambda maps: _label_logits(maps, num_classes))
    return keras.Model(image, outputs if len(outputs) > 1 else outputs["mask"], name=name)


def classifier(
    encoder: Any,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    top: str | None = None,
    image_shape: tuple[int | None, int | None, int] = (None, None, 3),
    preprocessing: bool = True,
    name: str = "classifier",
) -> keras.Model:
    """Assemble a classifier of whole images: an encoder, and the label head of a segmenter.

    The sub-models are called `encoder` and `label_head`. Train it on `kerazoo.data.pipeline(…, outputs="label")` with
    `keras.losses.BinaryCrossentropy(from_logits=True)`; `kerazoo.inference.TwoStage` puts it before a segmenter.

    Args:
        encoder: As in `segmenter`.
        num_classes: 1 for one sigmoid logit, whether there is foreground; K >= 2 for K sigmoid logits, class 0 whether
            the image is empty and the others whether they are shown. None with a `top`, which has its own.
        weights: As in `segmenter`.
        top: "imagenet" for the layers that the network was trained with on top of the encoder, from the same file:
            1000 softmax logits, whose names are `kerazoo.pretrained.imagenet_classes()`. None for a new label head.
        image_shape: As in `segmenter`.
        preprocessing: As in `segmenter`.
        name: Name of the model.

    Returns: a `keras.Model` from `(B, H, W, C)` images to logits `(B, num_classes)`, float32.

    Raises:
        ValueError: the encoder is unknown (near matches are named), or an argument does not fit it.
        TypeError: `encoder` is no encoder.
        FileNotFoundError: there is no file at `weights`.
    """
    image_shape = check_image_shape(image_shape)
    if top is None:
        num_classes = _checked_num_classes(num_classes)
    else:
        _check_top(encoder, top, num_classes, weights)
    image = keras.Input(image_shape, name="image")
    x = image
    if outside_levels(encoder) is not None:
        part = None
        encoder_model, strides = _outside_encoder(encoder, image_shape, weights=weights, depth=None, pad=False)
    else:
        part = _encoder_part(encoder)
        x = part.preprocess(image) if preprocessing else image
        encoder_model, strides = build_encoder(part, image_shape=image_shape, weights=weights if top is None else None)
    coarsest = levels(strides, encoder_model(x))[-1]
    if top is None:
        return keras.Model(image, _label_head(coarsest, lambda maps: _label_logits(maps, num_classes)), name=name)
    logits = _label_head(coarsest, lambda maps: part.top(maps, num_classes=IMAGENET_CLASSES))
    model = keras.Model(image, logits, name=name)
    load_weights(model, part, weights, top=True)
    return model


def without_aux(model: keras.Model) -> keras.Model:
    """The model without the outputs of `segmenter(aux=True)` and the layers that only they need.

    Args:
        model: Any model; one without such outputs is given back as it is.

    Returns: a model that shares the weights of `model`; with a single output left it is a tensor, not a dict.
    """
    outputs = getattr(model, "output", None)
    if not isinstance(outputs, Mapping):
        return model
    kept = {key: tensor for key, tensor in outputs.items() if not key.startswith(AUX_PREFIX)}
    if len(kept) == len(outputs):
        return model
    return keras.Model(model.input, kept if len(kept) > 1 else next(iter(kept.values())), name=model.name)


def _part(registry: Registry, part: Any) -> Any:
    if isinstance(part, str):
        return registry.create(part)
    if isinstance(part, type) or not callable(part) or _reads_num_classes(part) != (registry is HEADS):
        raise TypeError(
            f"`{registry.kind}` must be a name of kerazoo.{registry.kind}s.list() or a part with arguments, such as "
            f"kerazoo.{registry.kind}s.create({registry.list()[0]!r}); received {part!r}."
        )
    return part


def _encoder_part(encoder: Any) -> Any:
    part = ENCODERS[encoder] if isinstance(encoder, str) else encoder
    if isinstance(part, type) or not callable(getattr(part, "preprocess", None)):
        hint = " Give the model that attribute: a dict from any names to its maps." if hasattr(part, "outputs") else ""
        raise TypeError(
            f"`encoder` must be a name of kerazoo.encoders.list(), a part of that registry or a model with "
            f"`pyramid_outputs`; received {encoder!r}.{hint}"
        )
    return part


def _checked_num_classes(num_classes: Any) -> int:
    if not isinstance(num_classes, numbers.Integral) or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(
            "`num_classes` must be 1 (one sigmoid logit) or the number of classes with the background, received "
            f"{num_classes!r}."
        )
    return int(num_classes)


def _check_top(encoder: Any, top: Any, num_classes: Any, weights: Any) -> None:
    if top != IMAGENET:
        raise ValueError(f"`top` must be None for a new label head or {IMAGENET!r}, received {top!r}.")
    if outside_levels(encoder) is not None or not hasattr(_encoder_part(encoder), "top"):
        raise ValueError(
            f"top={top!r}: the files of {encoder!r} do not hold the layers on top of the encoder. Take an encoder such "
            "as 'efficientnet_lite0' or 'resnet50', or leave `top` out."
        )
    if weights is None or num_classes not in (None, IMAGENET_CLASSES):
        raise ValueError(
            f"top={top!r} is read from the file of `weights` and has {IMAGENET_CLASSES} logits: pass "
            f"weights={IMAGENET!r} and leave `num_classes` out; received weights={weights!r} and "
            f"num_classes={num_classes!r}."
        )


def _reads_num_classes(part: Any) -> bool:
    """Whether `part` is a head: a head is told the number of classes when it is called, a decoder is not."""
    return "num_classes" in inspect.signature(part).parameters


def _no_switches(encoder: Any) -> str:
    return (
        f"This decoder undoes the max poolings of its encoder, and {encoder!r} does not say where the maxima were. "
        "Take an encoder `with_switches`, such as 'vgg16', 'vgg19' or 'vgg16_bn', or another decoder."
    )


def _with_margin(image_shape: tuple[int | None, int | None, int], margin: int) -> tuple[int | None, int | None, int]:
    """Shape of an image with `margin` more pixels on each side; sizes None stay None."""
    height, width = (None if n is None else n + 2 * margin for n in image_shape[:2])
    return height, width, image_shape[2]


def _outside_encoder(
    encoder: Any, image_shape: tuple[int | None, int | None, int], *, weights: Any, depth: int | None, pad: bool
) -> tuple[keras.Model, tuple[int, ...]]:
    if weights is not None:
        raise ValueError(
            f"`weights` belongs to encoders given by name; {encoder.name!r} comes with its own weights. Leave it out."
        )
    model, strides = pyramid_features(encoder, image_shape, pad=pad)
    if depth is not None:
        if not 1 <= depth <= len(strides):
            raise ValueError(f"{encoder.name!r} has 1 to {len(strides)} levels, received depth={depth}.")
        model = keras.Model(model.inputs, model.outputs[:depth], name="encoder")
        strides = strides[:depth]
    return model, strides


def _check_all_is_read(decoder: SubModel, strides: tuple[int, ...]) -> None:
    """Raise ValueError if the encoder's last layers would be for nothing."""
    read = decoder.reads()[: len(strides)]
    if not read[-1]:
        depth = len(read) - read[::-1].index(True)
        raise ValueError(
            f"The head reads nothing that comes from the encoder's levels at strides {list(strides[depth:])}: what it "
            f"reads of the decoder is made of the finer ones alone. Take a head that reads all levels, such as "
            f"'hypercolumn' or 'mlf', or leave those levels out by depth={depth}."
        )


def _label_head(coarsest: Level, wire: Callable[[Tensor], Tensor]) -> Tensor:
    inputs = keras.Input(coarsest.tensor.shape[1:], dtype=coarsest.tensor.dtype, name="label_head_in")
    return keras.Model(inputs, wire(inputs), name="label_head")(coarsest.tensor)


def _label_logits(maps: Tensor, num_classes: int) -> Tensor:
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="label_pool")(maps)
    return layers.Dense(num_classes, dtype="float32", name="label_logits")(pooled)
