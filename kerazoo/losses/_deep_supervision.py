"""Deep supervision: one loss for the mask and for every auxiliary output of a model."""

from collections.abc import Mapping
from typing import Any

import keras

from kerazoo.losses._base import WeightedSum
from kerazoo.outputs import symbolic_output
from kerazoo.types import AUX_PREFIX


def deep_supervision(loss: keras.losses.Loss, model: keras.Model, *, weight: float = 0.4) -> dict[str, Any]:
    """Losses for `compile` of a model with auxiliary outputs (`aux=True`): the same one for the mask and each of them.

    ```python
    model = kz.segmenter("resnet34", "unet", "mlf", num_classes=1, aux=True)
    batches = kz.data.pipeline(train, image_size=(256, 256), batch_size=16, outputs=model)
    loss = kz.losses.CrossEntropy() + 0.1 * kz.losses.ForegroundDice()
    model.compile("adam", loss=kz.losses.deep_supervision(loss, model), metrics={"mask": [kz.metrics.IoU(1)]})
    model.fit(batches)
    ```

    Without a pipeline the targets are `dict.fromkeys(model.output, masks)`. A label head needs a loss of its own:
    `deep_supervision(loss, model) | {"label": keras.losses.BinaryCrossentropy(from_logits=True)}`.

    Args:
        loss: Loss of logits and masks.
        model: The model; its outputs are a dict.
        weight: Total weight of the auxiliary losses, shared evenly; the mask's is 1.

    Returns: a loss per output, "mask" first.

    Raises:
        ValueError: the model has no auxiliary outputs, or `weight` is not positive.
        TypeError: `loss` is not a `keras.losses.Loss`.
    """
    outputs = symbolic_output(model)
    names = [name for name in outputs if name.startswith(AUX_PREFIX)] if isinstance(outputs, Mapping) else []
    if not names:
        raise ValueError(f"{model!r} has no auxiliary maps to supervise. Build it with kerazoo.segmenter(…, aux=True).")
    if not isinstance(loss, keras.losses.Loss):
        raise TypeError(f"`loss` must be a loss object, such as kerazoo.losses.CrossEntropy(); received {loss!r}.")
    if not weight > 0:
        raise ValueError(f"`weight` must be positive, received {weight}. Without auxiliary outputs leave `aux` out.")
    return {"mask": loss, **{name: WeightedSum([(weight / len(names), loss)]) for name in names}}
