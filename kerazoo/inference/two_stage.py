"""Two stages: a classifier rejects images without foreground, a segmenter finds it in the others."""

from collections.abc import Mapping
from typing import Any

import keras

from kerazoo.layers import AntialiasResize, ImageGate
from kerazoo.outputs import image_input, named_output
from kerazoo.types import Tensor


def TwoStage(
    classifier: keras.Model,
    segmenter: keras.Model,
    *,
    image_threshold: float = 0.5,
    exclusive: bool = False,
    classifier_size: tuple[int, int] | None = None,
    name: str = "two_stage",
) -> keras.Model:
    """Join a classifier and a segmenter into one model; images that the classifier rejects get an empty mask.

    ```python
    classifier = kz.classifier("resnet50", num_classes=1, weights="imagenet")   # fit on pipeline(…, outputs="label")
    model = kz.inference.TwoStage(classifier, segmenter, image_threshold=0.3, classifier_size=(256, 256))
    kz.export.saved_model(model, "served/")
    ```

    Both are trained before: where the gate is closed no gradient passes. The result is a plain functional model like
    any segmenter with a label head, for `predict`, `evaluate` and exports. Tiles are judged one by one.

    Args:
        classifier: Model from images to logits `(B, K)`: K = 1 for foreground; else one per class, class 0 an empty
            image. Of a model with several outputs `"label"` is taken, so a segmenter with a label head will do.
        segmenter: Model from images to logits `(B, H, W, C)`, or to a mapping whose `"mask"` they are. It may be
            the same model as `classifier`, and then runs once.
        image_threshold: An image whose probability of foreground is not above it is rejected.
        exclusive: Whether the classes of the image exclude each other, as a classifier learns them that is trained
            with softmax: the probability of foreground is then what class 0 leaves. False takes the likeliest
            foreground class, each with a sigmoid of its own, as our label heads and pipelines have them.
        classifier_size: `(height, width)` of the images that the classifier was trained on, if not those of the
            segmenter: images are resized to it, antialiased. None takes the size it was built for, or the image's.
        name: Name of the model.

    Returns: a model from images, of the size and type that `segmenter` takes, to `{"mask": (B, H, W, C) logits,
        "label": (B, K) logits}`, float32. Its sub-models are called `classifier` and `segmenter`. Each has its own
        preprocessing inside.

    Raises:
        ValueError: a model has several inputs or the wrong outputs, gives probabilities instead of logits, or the two
            do not fit each other.
    """
    mask, label = _logits(segmenter, "mask", rank=4), _logits(classifier, "label", rank=2)
    image_shape, classifier_shape = segmenter.input.shape[1:], classifier.input.shape[1:]
    if image_shape[-1] != classifier_shape[-1]:
        raise ValueError(
            f"Both stages take the same images: `segmenter` takes {image_shape[-1]} channels and `classifier` "
            f"{classifier_shape[-1]}. Build both for the same number."
        )
    size = _classifier_size(classifier_size, classifier_shape[:2], image_shape[:2])
    image = keras.Input(image_shape, dtype=segmenter.input.dtype, name="image")
    if classifier is segmenter and size is None:
        both = keras.Model(segmenter.input, {"mask": mask, "label": label}, name="segmenter")(image)
        mask, label = both["mask"], both["label"]
    else:
        x = image if size is None else AntialiasResize(size, dtype="float32", name="to_classifier_size")(image)
        label = keras.Model(classifier.input, label, name="classifier")(x)
        mask = keras.Model(segmenter.input, mask, name="segmenter")(image)
    gate = ImageGate(image_threshold=image_threshold, exclusive=exclusive, dtype="float32", name="gate")
    mask, label = gate(mask, label)
    return keras.Model(image, {"mask": mask, "label": label}, name=name)


def _logits(model: Any, key: str, *, rank: int) -> Tensor:
    """The symbolic logits that a stage gives, once they have proved to be some."""
    stage = "segmenter" if key == "mask" else "classifier"
    image_input(model, name=stage)
    output = named_output(model, key, rank=rank)
    if output is None:
        outputs = model.output
        wanted = "(B, H, W, num_classes)" if rank == 4 else "(B, num_classes)"
        found = sorted(outputs) if isinstance(outputs, Mapping) else getattr(outputs, "shape", outputs)
        raise ValueError(
            f"`{stage}` must give logits {wanted}, or a mapping with them as {key!r}; its output is {found}."
        )
    if activation := _activation(model, output):
        raise ValueError(
            f"`{stage}` must give logits, and its last layer applies a {activation}: TwoStage applies its own. Leave "
            "the activation out of that layer; weights stay the same."
        )
    return output


def _activation(model: keras.Model, output: Tensor) -> str | None:
    """The sigmoid or softmax that makes `output`, if one does."""
    operation = next((operation for operation in model.operations if operation.output is output), None)
    name = getattr(getattr(operation, "activation", None), "__name__", type(operation).__name__).lower()
    return name if name in ("sigmoid", "softmax") else None


def _classifier_size(
    size: tuple[int, int] | None, built_for: tuple[int | None, int | None], images: tuple[int | None, int | None]
) -> tuple[int, int] | None:
    """The size to which images are resized for the classifier; None where it takes them as they are."""
    height, width = built_for
    fixed = None if height is None or width is None else (height, width)
    if size is not None and fixed not in (None, tuple(size)):
        raise ValueError(f"`classifier_size` is {tuple(size)}, but `classifier` takes images of {fixed} only.")
    size = fixed if size is None else size
    return None if size is None or tuple(size) == tuple(images) else size
