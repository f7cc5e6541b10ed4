"""Faults of the images: shapes, values, and what the model expects of both."""

from collections.abc import Iterator

import keras
import numpy as np

from kerazoo.doctor.facts import DatasetFacts, ImageFacts
from kerazoo.doctor.graph import symbolic_inputs
from kerazoo.findings import Finding, error, note, warning
from kerazoo.layers.leaves import leaf_layers

_RAW_SCALE = 0.05  # a Rescaling by less than this expects intensities of 0 to 255
_PREPROCESSING = "preprocess_"  # what the names of segmenter's own layers for that start with


def check_shape(model: keras.Model, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that images are `(B, H, W, C)`, as large and with as many channels as the model takes."""
    expected = _input_shape(model)
    for facts in _first_of_each_shape(dataset):
        shape = facts.shape
        if facts.dtype.kind not in "uifb":
            yield error(
                "images-dtype",
                f"images are {facts.dtype}, where numbers are needed: batches are ragged, or images of several sizes.",
                "Give arrays of uint8 or float32; resize images to one size, or use batches of one.",
            )
            return
        if len(shape) != 4:
            yield error(
                "images-shape",
                f"images are {shape}, where a batch is (B, H, W, C).",
                "Batch the dataset (.batch(8))."
                if _is_one_image(shape, expected)
                else "Add the axis of channels: images[..., None].",
            )
            return
        if expected is None:
            continue
        channels = expected[-1]
        if channels is not None and shape[-1] != channels:
            if shape[1] == channels:
                yield error(
                    "channels-first",
                    f"images are {shape}, with the channels first; the model takes (B, H, W, {channels}).",
                    "Move them to the end: numpy.moveaxis(images, 1, -1), or images.permute(0, 2, 3, 1) in PyTorch.",
                )
            else:
                yield error(
                    "channels",
                    f"images have {shape[-1]} channels, and the model takes {channels}.",
                    f"Build the model with image_shape=(None, None, {shape[-1]}), or convert the images "
                    f"(channels={channels} in kerazoo.data.pipeline).",
                )
            return
        if any(want not in (None, got) for want, got in zip(expected[1:3], shape[1:3], strict=True)):
            yield error(
                "image-size",
                f"images are {shape[1]}x{shape[2]}, and the model takes {expected[1]}x{expected[2]} only.",
                "Resize the images, or build the model with image_shape=(None, None, C), which takes every size.",
            )
            return


def _first_of_each_shape(dataset: DatasetFacts) -> Iterator[ImageFacts]:
    known = set()
    for facts in dataset.images:
        if facts.shape[1:] not in known:
            known.add(facts.shape[1:])
            yield facts


def _is_one_image(shape: tuple[int, ...], expected: tuple[int | None, ...] | None) -> bool:
    channels = {1, 3, 4} if expected is None else {expected[-1]}
    return len(shape) == 3 and shape[-1] in channels


def _input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """Shape of the images that the model takes, `(None, H, W, C)`; None if it does not say."""
    shapes = [tuple(tensor.shape) for tensor in symbolic_inputs(model)]
    images = [shape for shape in shapes if len(shape) == 4]
    return images[0] if images else None


def check_values(dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that no image has NaN, is constant or is there twice."""
    not_finite = sum(len(facts.not_finite) for facts in dataset.images)
    if not_finite:
        where = next((batch, facts.not_finite[0]) for batch, facts in enumerate(dataset.images) if facts.not_finite)
        yield error(
            "images-not-finite",
            f"{not_finite} of {dataset.num_images} images have NaN or infinite values, the first is image {where[1]} "
            f"of batch {where[0]}. One such pixel makes the loss NaN, and with it all weights.",
            "Find them with kerazoo.data.verify, or replace them: numpy.nan_to_num(image).",
        )
    constant = sum(len(facts.constant) for facts in dataset.images)
    if constant == dataset.num_images > 0:
        yield error(
            "images-constant",
            f"all {constant} images have the same value everywhere: there is nothing to see in them.",
            "Look at what reads the images: a wrong intensity window, or an integer division, makes them flat.",
        )
    elif constant:
        where = next((batch, facts.constant[0]) for batch, facts in enumerate(dataset.images) if facts.constant)
        yield note(
            "images-constant",
            f"{constant} of {dataset.num_images} images have the same value everywhere, the first is image {where[1]} "
            f"of batch {where[0]}.",
            "Leave them out if they are padding or damaged files.",
        )
    yield from _check_duplicates(dataset)


def _check_duplicates(dataset: DatasetFacts) -> Iterator[Finding]:
    masks = [facts.digests for facts in next(iter(dataset.targets.values()), [])]
    known: dict[bytes, set[bytes]] = {}
    twice = 0
    for batch, facts in enumerate(dataset.images):
        for place, digest in enumerate(facts.digests):
            if place in facts.constant:
                continue
            masks_of_image = known.setdefault(digest, set())
            twice += bool(masks_of_image)
            masks_of_image.add(masks[batch][place] if batch < len(masks) and place < len(masks[batch]) else b"")
    contradictory = sum(len(different) > 1 for different in known.values())
    if contradictory:
        yield warning(
            "same-image-other-mask",
            f"{contradictory} images come several times with different masks.",
            "Check that images and masks are paired, and that both are shuffled and augmented alike.",
        )
    if twice and not contradictory and not dataset.is_oversampled:
        yield note(
            "images-twice",
            f"{twice} of {dataset.num_images} images are copies of others.",
            "Remove them, and above all keep copies out of the validation and test split.",
        )


def check_range(model: keras.Model, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that images have the intensities that the model's preprocessing expects."""
    facts = [each for each in dataset.images if np.isfinite(each.low) and len(each.shape) == 4]
    if not facts:
        return
    low, high = min(each.low for each in facts), max(each.high for each in facts)
    floats = facts[0].dtype.kind == "f"
    normalizer = _normalizer(model)
    if normalizer is not None:
        own = normalizer.startswith(_PREPROCESSING)
        first = f"the model normalizes images of 0 to 255 itself (layer {normalizer!r}), and these are"
        without = "build the model with preprocessing=False" if own else f"leave {normalizer!r} out of the model"
        if high > 255:
            yield error(
                "range-above-255",
                f"{first} {low:g} to {high:g} ({facts[0].dtype}): what is above 255 is far outside of what it knows.",
                "Map the intensities to 0-255: `intensity_range` of the source, or images / 65535 * 255 for uint16.",
            )
        elif low < 0:
            yield error(
                "range-negative",
                f"{first} {low:g} to {high:g}: they are normalized already, and would be a second time.",
                f"Give raw images of 0 to 255, or {without}.",
            )
        elif low < high <= 1:
            yield error(
                "range-0-1",
                f"{first} {low:g} to {high:g}: to it they are all black.",
                f"Multiply the images by 255, or {without} and normalize them yourself."
                if floats
                else "Multiply the images by 255.",
            )
    elif low >= 0 and high > 20 and not _scales(model):
        yield warning(
            "range-raw",
            f"images are {low:g} to {high:g}, and the model has no layer that normalizes them.",
            "Build it with preprocessing=True, put keras.layers.Rescaling(1 / 255) first, or normalize the images.",
        )


def _normalizer(model: keras.Model) -> str | None:
    """Name of the layer that maps 0-255 to about one; None if there is none."""
    for layer in leaf_layers(model):
        if layer.name.startswith(_PREPROCESSING):
            return layer.name
        if isinstance(layer, keras.layers.Rescaling) and float(np.max(np.abs(layer.scale))) < _RAW_SCALE:
            return layer.name
    return None


def _scales(model: keras.Model) -> bool:
    """Whether a layer in front of the first kernel, or a model of the user's own, may scale the images."""
    if type(model).__module__.partition(".")[0] != "keras":
        return True
    for layer in _in_order(model):
        module = type(layer).__module__.partition(".")[0]
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if "Norm" in type(layer).__name__ or isinstance(layer, keras.layers.Rescaling | keras.layers.Lambda):
            return True
        if module not in ("keras", "kerazoo"):  # a layer of the user's own may do anything
            return True
        if layer.weights:
            return False
    return False


def _in_order(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _in_order(layer)
        else:
            yield layer
