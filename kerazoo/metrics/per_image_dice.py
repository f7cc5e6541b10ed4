"""Dice coefficient of each image, as challenges score it."""

from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import check_choice
from kerazoo.labels import Labels, has_valid
from kerazoo.metrics._base import (
    StreamingMetric,
    areas,
    check_num_classes,
    check_num_ids,
    check_threshold,
    predicted_ids,
)
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor

Empty = Literal["one", "skip", "penalize"]
_UNIT = 2**18  # a Dice is counted in these parts: whole numbers add up in any order, up to 8191 images in a batch


@keras.saving.register_keras_serializable("kerazoo", name="metrics.PerImageDice")
class PerImageDice(StreamingMetric):
    """Dice coefficient of single images, 2 TP / (2 TP + FP + FN): mean over the classes of an image, then over images.

    Means are over foreground classes. What a class is worth that the truth of the image does not have:

    - "one": 1 if it is not predicted either (0/0 := 1), else 0. For one class this is the score of the SIIM-ACR
      pneumothorax challenge: a single false positive pixel on an empty image costs as much as missing all of it.
    - "skip": it does not take part. An image is the mean over the classes it has; empty images do not count, and false
      positives on them are not seen.
    - "penalize": `1 - log(1 + A) / log(1 + N)` with A predicted pixels of the class and N valid pixels; 1 for A = 0.

    These are the policies of `kerazoo.losses.SoftDice`, of which this is the complement for certain predictions. The
    Dice of an image is counted to a precision of 4e-6. 0 before any image.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        empty: "one", "skip" or "penalize", see above.
        threshold: Probability above which a pixel is foreground; for one logit only.
        ignore_class: Id of pixels that count nowhere, or None. An image that is ignored altogether does not count.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: an argument is outside its range, or shapes do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        empty: Empty = "one",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = "per_image_dice",
        dtype: Any = None,
    ):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        self.num_classes, self.num_ids = check_num_classes(num_classes, "PerImageDice")
        check_choice("PerImageDice", "empty", empty, get_args(Empty))
        self.empty = empty
        self.threshold = check_threshold(threshold, "PerImageDice")
        self.totals = Counter(self, 2, "totals")

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Add up the Dice of each image."""
        check_num_ids(self, labels)
        predicted = predicted_ids(self, labels, logits)
        hits = ops.where(labels.ids == predicted, predicted, 0)
        overlap, true, found = (ops.cast(areas(ids, labels), "float32") for ids in (hits, labels.ids, predicted))
        present, counts = true > 0, has_valid(labels)
        dice = ops.where(true + found > 0, 2.0 * overlap / ops.maximum(true + found, 1.0), 1.0)
        weight = ops.ones_like(dice)
        if self.empty == "skip":
            weight = ops.cast(present, dice.dtype)
            counts = ops.any(present, axis=-1)
        elif self.empty == "penalize":
            pixels = ops.cast(ops.sum(ops.cast(labels.valid, "int32"), axis=labels.space), "float32")[:, None]
            dice = ops.where(present, dice, 1.0 - ops.log1p(found) / ops.log1p(ops.maximum(pixels, 1.0)))
        each = ops.divide_no_nan(ops.sum(dice * weight, axis=-1), ops.sum(weight, axis=-1))
        counts = ops.cast(counts, "int32")
        parts = ops.cast(ops.round(each * float(_UNIT)), "int32")
        self.totals.add(ops.stack([ops.sum(parts * counts), ops.sum(counts)]))

    def compute(self) -> Tensor:
        """Dice per image."""
        parts, images = self.totals.value()[0], self.totals.value()[1]
        return ops.divide_no_nan(parts / float(_UNIT), images)

    def counts(self) -> np.ndarray:
        """`(2,)` float64: sum of the Dice of the images that count, and how many do; outside of compiled code."""
        return self.totals.exact() / np.array([_UNIT, 1])
