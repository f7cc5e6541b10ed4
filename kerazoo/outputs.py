"""What models give: of a segmenter mask logits, alone or as `"mask"` in a mapping, perhaps with `"label"` logits."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kerazoo.types import Tensor

CLASS_MAPS = "class_maps"
"""Name of the layer with which a classifier that `kerazoo.weak` made of a segmenter keeps the logits of the mask."""


def as_list(outputs: Any) -> list[Any]:
    """The outputs of a model, which may be a single one without a list."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def symbolic_output(model: Any) -> Any:
    """The symbolic output or outputs of a model; None of one that has none, and of what is no Keras model."""
    return getattr(model, "output", None) if isinstance(model, keras.Model) else None


def mask_logits(outputs: Any) -> Tensor:
    """The logits `(B, H, W, num_classes)` among the outputs of a segmenter: a tensor, or a mapping with `"mask"`."""
    return outputs["mask"] if isinstance(outputs, Mapping) else outputs


def label_probabilities(outputs: Any) -> Tensor | None:
    """Probabilities `(B, C)` float32 of the label head among the outputs of a segmenter; None without that head."""
    if not isinstance(outputs, Mapping) or "label" not in outputs:
        return None
    return ops.sigmoid(ops.cast(outputs["label"], "float32"))


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each class in each pixel.

    Args:
        logits: `(B, H, W, C)` floating point; one channel is a sigmoid logit, more are softmax logits.

    Returns: `(B, H, W, C)` float32 in [0, 1]; with one channel that of the foreground.
    """
    logits = ops.cast(logits, "float32")
    return ops.sigmoid(logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


def mask_output(model: Any) -> Tensor:
    """The symbolic mask logits `(B, H, W, P)` of a model.

    Raises:
        ValueError: there are none.
    """
    mask = named_output(model, "mask", rank=4)
    if mask is None:
        raise ValueError(
            "`model` must be a segmenter: a functional Keras model that gives logits (B, H, W, num_classes), or a "
            f"mapping with them as 'mask'; received {model!r} with output {symbolic_output(model)!r}."
        )
    return mask


def segmenter_of(model: keras.Model) -> keras.Model:
    """Take the segmenter, with its weights, out of a model of `kerazoo.weak.cam_alpha` or `cam_beta`.

    Args:
        model: Such a model, also after `keras.models.load_model`; a segmenter is returned as it is.

    Returns: a `keras.Model` from images to logits `(B, H, W, num_classes)`.

    Raises:
        ValueError: `model` is neither.
    """
    layer = next((layer for layer in getattr(model, "layers", ()) if layer.name == CLASS_MAPS), None)
    if layer is None:
        mask_output(model)
        return model
    return keras.Model(model.input, layer.input[1], name="segmenter")


def label_output(model: Any) -> Tensor | None:
    """The symbolic label logits `(B, P)` of a classifier of images, or of a label head; None if there are none."""
    return named_output(model, "label", rank=2)


def named_output(model: Any, name: str, *, rank: int) -> Tensor | None:
    """The symbolic output of that name, or the only output of a model; None if there is none of so many axes."""
    outputs = symbolic_output(model)
    output = outputs.get(name) if isinstance(outputs, Mapping) else outputs
    return output if len(getattr(output, "shape", ())) == rank else None


def image_input(model: Any, *, name: str = "model") -> Tensor:
    """The symbolic images `(B, H, W, C)` that a model takes.

    Raises:
        ValueError: `model`, which the caller calls `name`, is no functional model with one input.
    """
    inputs: Any = getattr(model, "inputs", None) if isinstance(model, keras.Model) else None
    if len(inputs or ()) != 1:
        raise ValueError(
            f"`{name}` must be a functional Keras model with one input, a batch of images; received {model!r}."
        )
    return inputs[0]
