"""Class activation maps of images: of any model, at any size, averaged over scales and mirror images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from kerazoo.data import Source
from kerazoo.inference import Predictor
from kerazoo.layers import Resize
from kerazoo.outputs import label_output, mask_output, segmenter_of

NORMALIZATIONS = ("minmax", "sigmoid", "softmax", None)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMaps:
    """Where in one image a model finds the classes.

    Attributes:
        id: Name of the image in its source, or its position.
        maps: `(H, W, num_classes)` float32, at the size of the image; with one class that of the foreground, with
            several index 0 is the background's.
        label: `(num_classes,)` float32 in [0, 1], sigmoid of the label logits, averaged as the maps are; None for a
            segmenter without labels.
    """

    id: str
    maps: np.ndarray = field(repr=False)
    label: np.ndarray | None = None


def class_maps(
    model: keras.Model,
    images: Any,
    *,
    normalize: str | None = "minmax",
    scales: Sequence[float] = (1.0,),
    tta: Literal["flip"] | None = None,
    image_size: tuple[int, int] | None = None,
    batch_size: int = 8,
) -> Iterator[ClassMaps]:
    """Compute the maps of the classes image by image; no mask is opened.

    Args:
        model: Of `cam_alpha` or `cam_beta`, or any segmenter.
        images: `(N, H, W, C)` array, a sequence of images, a `Source`, or an iterator of pairs of a name and an image.
        normalize: "minmax" stretches the map of each image and class to [0, 1], a constant one to 0: where the class is
            likeliest, whether it is there or not. "sigmoid" and "softmax" give probabilities, as the model was trained,
            which can be compared between images. None gives logits.
        scales: Factors by which images are resized; logits are averaged at the size of the image.
        tta: "flip" averages logits with those of the mirror image.
        image_size: `(height, width)` the model was trained at; None works at the size of the image.
        batch_size: Images in a batch.

    Returns: an iterator of `ClassMaps`, in the order of `images`.

    Raises:
        ValueError: an argument or an image does not fit the model; the image is named.
        TypeError: `images` is none of the above.
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"`normalize` must be one of {NORMALIZATIONS}, received {normalize!r}.")
    predictor = Predictor(_averaged(model, tuple(scales)), batch_size=batch_size, image_size=image_size, tta=tta)
    return (
        ClassMaps(id=output.id, maps=normalized(output.full, normalize), label=output.label)
        for output in predictor.logits(images)
    )


def normalized(logits: np.ndarray, how: str | None) -> np.ndarray:
    """Logits `(H, W, P)` as `class_maps` gives them, float32."""
    logits = logits.astype("float32")
    if how == "minmax":
        low, high = logits.min(axis=(0, 1)), logits.max(axis=(0, 1))
        return (logits - low) / np.where(high > low, high - low, 1)
    if how == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    if how == "softmax":
        if logits.shape[-1] == 1:
            raise ValueError('normalize="softmax" needs two or more classes; with one take "sigmoid".')
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)
    return logits


def check_classes(model: keras.Model, source: Source) -> None:
    """Check that a model gives one map per class of a source.

    Raises:
        ValueError: it does not.
    """
    maps = mask_output(segmenter_of(model)).shape[-1]
    if maps != source.num_classes:
        raise ValueError(
            f"{model.name!r} gives {maps} maps, and `source` has num_classes={source.num_classes}, "
            f"{source.class_names}. Build the segmenter with num_classes={source.num_classes}, or the source with "
            f"num_classes={maps}."
        )


def _averaged(model: keras.Model, scales: tuple[float, ...]) -> keras.Model:
    """A model of mask logits, and label logits if there are any, that are the mean over scales of the image."""
    if not scales or min(scales) <= 0:
        raise ValueError(f"`scales` must be factors above 0, received {scales}.")
    outputs = {"mask": segmenter_of(model).output, "label": label_output(model)}
    parts = keras.Model(model.input, {name: tensor for name, tensor in outputs.items() if tensor is not None})
    if scales == (1.0,):
        return parts
    if None not in model.input.shape[1:3]:
        raise ValueError(
            f"`scales` need a model for images of any size, and {model.name!r} takes {model.input.shape[1:3]} only. "
            "Build it with image_shape=(None, None, channels)."
        )
    image = keras.Input(model.input.shape[1:], dtype=model.input.dtype, name="image")
    scaled = []
    for position, scale in enumerate(scales):
        x = image if scale == 1 else Resize(factor=scale, dtype="float32", name=f"scale{position}")(image)
        scaled.append(dict(parts(x)))
        scaled[-1]["mask"] = Resize(dtype="float32", name=f"unscale{position}")(scaled[-1]["mask"], like=image)
    mean = {
        name: layers.Average(dtype="float32", name=f"mean_{name}")([one[name] for one in scaled])
        if len(scaled) > 1
        else scaled[0][name]
        for name in scaled[0]
    }
    return keras.Model(image, mean, name=model.name)
