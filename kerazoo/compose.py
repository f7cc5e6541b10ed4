"""The one composition of the zoo: encoder, decoder and head to a plain functional model."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers

from kerazoo.arguments import is_whole
from kerazoo.canvas import Canvas
from kerazoo.checkpoints.catalog import IMAGENET
from kerazoo.checkpoints.imagenet import CLASSES as IMAGENET_CLASSES
from kerazoo.decoders import DECODERS
from kerazoo.encoders import as_encoder
from kerazoo.encoders.build import BuiltEncoder, build_encoder, check_image_shape
from kerazoo.encoders.weights import load_weights
from kerazoo.heads import HEADS
from kerazoo.heads._auxiliary import auxiliary, auxiliary_names
from kerazoo.outputs import symbolic_output
from kerazoo.registry import Registry
from kerazoo.sub_models import SubModel
from kerazoo.types import AUX_PREFIX, Decoder, Encoder, Features, Head, Level, Tensor, complete


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
            trains them; predictions and exports leave them out, as `without_aux` does.
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
    decoder, head = _as_part(DECODERS, decoder, Decoder), _as_part(HEADS, head, Head)
    image = keras.Input(check_image_shape(image_shape), name="image")
    options = {"weights": weights, "output_stride": output_stride, "depth": decoder.depth if depth is None else depth}
    canvas, encode = _built(as_encoder(encoder), decoder, image, preprocessing=preprocessing, pad=pad, **options)
    features, switches = encode(canvas.tensor)
    decode = SubModel.wire("decoder", decoder, features, switches)
    classify = SubModel.wire("head", lambda levels: [head(levels, num_classes=num_classes)], decode.levels)
    if not aux:
        read = classify.reads()  # the other levels would be weights that learn nothing
        decode, classify = decode.giving(read), classify.reading(read)
    if not label_head:
        _check_all_is_read(decode, features)
    decoded = decode(features, switches)
    (logits,) = classify(decoded)
    outputs = {"mask": canvas.to_image(logits)}
    if aux:
        score = SubModel.wire("aux_head", lambda levels: auxiliary(levels, num_classes=num_classes), decoded)
        for key, level in zip(auxiliary_names(decoded), score(decoded), strict=True):
            outputs[key] = canvas.to_image(level, prefix=f"{key}_")
    if label_head:
        outputs["label"] = _label_head(features[-1], _label_logits, num_classes=num_classes)
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
    classes = _checked_num_classes(num_classes) if top is None else _checked_top(top, num_classes, weights)
    encoder = as_encoder(encoder)
    image = keras.Input(check_image_shape(image_shape), name="image")
    normalized = encoder.preprocess(image) if preprocessing else image
    encode = build_encoder(encoder, image_shape=normalized.shape[1:], weights=weights if top is None else None)
    features, _ = encode(normalized)
    logits = _label_head(features[-1], _label_logits if top is None else encoder.top, num_classes=classes)
    if top is not None and weights is not None:
        load_weights(keras.Model(image, [*(level.tensor for level in features), logits]), encoder, weights)
    return keras.Model(image, logits, name=name)


def without_aux(model: keras.Model) -> keras.Model:
    """The model without the outputs of `segmenter(aux=True)` and the layers that only they need.

    Args:
        model: Any model; one without such outputs is given back as it is.

    Returns: a model that shares the weights of `model`; with a single output left it is a tensor, not a dict.
    """
    outputs = symbolic_output(model)
    if not isinstance(outputs, Mapping):
        return model
    kept = {key: tensor for key, tensor in outputs.items() if not key.startswith(AUX_PREFIX)}
    if len(kept) == len(outputs):
        return model
    return keras.Model(model.input, kept if len(kept) > 1 else next(iter(kept.values())), name=model.name)


def _as_part(registry: Registry, given: Any, protocol: type) -> Any:
    """The decoder or head that is meant by a name or a part."""
    part = registry.create(given) if isinstance(given, str) else given
    completed = complete(part, protocol)
    if completed is None or ("num_classes" in inspect.signature(part).parameters) != (protocol is Head):
        raise TypeError(
            f"`{registry.kind}` must be a name of kerazoo.{registry.kind}s.list() or a part with arguments, such as "
            f"kerazoo.{registry.kind}s.create({registry.list()[0]!r}); received {part!r}."
        )
    return completed


def _built(
    encoder: Encoder, decoder: Decoder, image: Tensor, *, preprocessing: bool, pad: bool, **options: Any
) -> tuple[Canvas, BuiltEncoder]:
    """What the encoder is shown of an image, and the encoder with all that the decoder asks of it."""
    normalized = encoder.preprocess(image) if preprocessing else image
    canvas = Canvas(image, normalized, encoder.pad_multiple if pad else 1, decoder.margin, crop=pad)
    return canvas, build_encoder(
        encoder.continuing_mirror(decoder.margin),
        image_shape=canvas.tensor.shape[1:],
        default_output_stride=decoder.output_stride,
        switches=decoder.switches,
        **options,
    )


def _checked_num_classes(num_classes: Any) -> int:
    if not is_whole(num_classes) or num_classes < 1:
        raise ValueError(
            "`num_classes` must be 1 (one sigmoid logit) or the number of classes with the background, received "
            f"{num_classes!r}."
        )
    return int(num_classes)


def _checked_top(top: Any, num_classes: Any, weights: Any) -> int:
    if top != IMAGENET:
        raise ValueError(f"`top` must be None for a new label head or {IMAGENET!r}, received {top!r}.")
    if weights is None or num_classes not in (None, IMAGENET_CLASSES):
        raise ValueError(
            f"top={top!r} is read from the file of `weights` and has {IMAGENET_CLASSES} logits: pass "
            f"weights={IMAGENET!r} and leave `num_classes` out; received weights={weights!r} and "
            f"num_classes={num_classes!r}."
        )
    return IMAGENET_CLASSES


def _check_all_is_read(decode: SubModel, features: Features) -> None:
    """Raise ValueError if the encoder's last layers would be for nothing."""
    strides = [level.stride for level in features]
    read = decode.reads()[: len(strides)]
    if not read[-1]:
        depth = len(read) - read[::-1].index(True)
        raise ValueError(
            f"The head reads nothing that comes from the encoder's levels at strides {strides[depth:]}: what it "
            f"reads of the decoder is made of the finer ones alone. Take a head that reads all levels, such as "
            f"'hypercolumn' or 'mlf', or leave those levels out by depth={depth}."
        )


def _label_head(coarsest: Level, top: Callable[..., Tensor], *, num_classes: int) -> Tensor:
    inputs = keras.Input(coarsest.tensor.shape[1:], dtype=coarsest.tensor.dtype, name="label_head_in")
    return keras.Model(inputs, top(inputs, num_classes=num_classes), name="label_head")(coarsest.tensor)


def _label_logits(features: Tensor, *, num_classes: int) -> Tensor:
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="label_pool")(features)
    return layers.Dense(num_classes, dtype="float32", name="label_logits")(pooled)
