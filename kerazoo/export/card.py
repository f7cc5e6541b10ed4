"""Model card of an export: inputs, outputs, and how to run it."""

from collections.abc import Mapping, Sequence

import keras

from kerazoo.export.parity import Parity
from kerazoo.inference.decision import DecisionRule
from kerazoo.outputs import mask_logits


def card(
    model: keras.Model,
    rule: DecisionRule,
    parity: Parity,
    *,
    size: tuple[int | None, int | None],
    image_size: tuple[int, int] | None,
    input_dtype: str,
    intensity_range: tuple[float, float] | None,
    class_names: Sequence[str] | None,
    versions: Mapping[str, str],
) -> str:
    """Markdown for the user of the exported folder.

    Args:
        model: The float32 model.
        rule: The rule inside the export.
        parity: The comparison that was made.
        size: Height and width of the images it takes; None is any.
        image_size: Working size inside the export, or None.
        input_dtype: Type of the images.
        intensity_range: Image values that become 0 and 255, or None.
        class_names: Names of the ids from 0 on, or None.
        versions: Of the packages that wrote it.
    """
    channels = model.inputs[0].shape[-1]
    outputs = model.output
    num_classes = mask_logits(outputs).shape[-1]
    height, width = ("any" if n is None else n for n in size)
    values = {"uint8": "0 to 255", "uint16": "0 to 65535 for 0 to 255", "float32": "as in training"}[input_dtype]
    if intensity_range is not None:
        values = f"{intensity_range[0]:g} to {intensity_range[1]:g}, what lies outside is clipped"
    kind = {1: "gray", 3: "RGB"}.get(channels, f"{channels} channels")
    rows = [
        ("in", "`images`", f"(batch, {height} height, {width} width, {channels})", input_dtype, f"{kind}, {values}"),
        ("out", "`mask`", "(batch, height, width)", "uint8", "class of each pixel, 0 is the background"),
        ("out", "`probability`", f"(batch, height, width, {num_classes})", "float32", _probability(num_classes)),
        ("out", "`score`", "(batch,)", "float32", _score(rule)),
    ]
    if isinstance(outputs, Mapping) and "label" in outputs:
        rows.append(("out", "`label`", f"(batch, {num_classes})", "float32", "probabilities of the image as a whole"))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    resized = ""
    if image_size is not None:
        resized = (
            f"Images are resized to {image_size[0]} x {image_size[1]} pixels inside, and masks back to their size.\n\n"
        )
    names = list(class_names or ())
    classes = "".join(["Class ids:\n\n", *(f"- {i}: {name}\n" for i, name in enumerate(names)), "\n"]) if names else ""
    threshold = "none" if rule.image_threshold is None else f"{rule.image_threshold:g}"
    what = "A connected component" if rule.per_component else "A class"
    shape_text = ", ".join(str(n) for n in (1, size[0] or 256, size[1] or 256, channels))
    return f"""# Segmentation model

A TensorFlow SavedModel with {model.count_params():,} parameters, all float32. It runs with TensorFlow alone.

## Run

```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("PATH_OF_THIS_FOLDER").signatures["serving_default"]
images = np.zeros(({shape_text}), "{input_dtype}")
result = model(images=tf.constant(images))
mask, probability, score = (result[name].numpy() for name in ("mask", "probability", "score"))
```

## Inputs and outputs

| | name | shape | type | meaning |
|---|---|---|---|---|
{table}

{resized}{classes}## Decision rule inside

- A pixel is foreground above a probability of {rule.pixel_threshold:g}{_against(num_classes)}.
- An image is empty if its score, {_score(rule)}, is not above: {threshold}.
- {what} with fewer pixels than this, at the working resolution, is dropped: {rule.min_area}.

## Checked

Loaded again and compared with the model on {len(parity.cases)} batches of images of different sizes: {parity}.
Written with {", ".join(f"{name} {version}" for name, version in versions.items())}.
"""


def _probability(num_classes: int) -> str:
    return "of the foreground" if num_classes == 1 else "of each class, the background first"


def _score(rule: DecisionRule) -> str:
    if rule.score == "label":
        return "the largest foreground probability of the label"
    if rule.rank == 1:
        return "the largest foreground probability of a pixel"
    return f"the foreground probability of pixel {rule.rank}, counted from the most probable"


def _against(num_classes: int) -> str:
    if num_classes == 1:
        return ""
    return ", counted among its likeliest foreground class and the background (0.5: the likeliest of all classes wins)"
