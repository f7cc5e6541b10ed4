"""Auxiliary foreground loss: soft Dice over the images that have an object."""

from collections.abc import Sequence
from typing import Any

import keras

from kerazoo.labels import Labels
from kerazoo.losses._base import Loss
from kerazoo.losses._overlap import check_foreground_weights, foreground_weights, over_classes, regions
from kerazoo.losses.cross_entropy import as_list
from kerazoo.losses.soft_dice import dice
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.ForegroundDice")
class ForegroundDice(Loss):
    """Mean over images with a foreground pixel of the mean over their classes of `1 - 2 Σ t p / (Σ t + Σ p)`.

    Made to be added to a loss that sees every image, `CrossEntropy() + 0.1 * ForegroundDice()`. Empty images contribute
    nothing: to call 0/0 one there would reward predicting nothing. One image with an object in a batch of four gives
    the loss of that image alone; a batch without any gives 0 with a gradient of 0. It is `SoftDice(empty="skip")`
    without smoothing. With several classes the mean is over those the image has: the term of an absent class,
    `1 - 0 / Σ p`, is a constant without gradient, and 0/0 for a perfect prediction.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar in [0, 1]; per image `(B,)`, 0 for empty ones, with `reduction=None`.

    Args:
        class_weights: Weights of the mean over classes, one per mask id, background first. That
            of the background has no effect, nor has any where there is one foreground class. None: 1 each.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `class_weights` or shapes do not fit.
    """

    per_pixel = False

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        name: str | None = "foreground_dice",
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        self.class_weights = check_foreground_weights(class_weights, "ForegroundDice")

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images have a foreground pixel."""
        sizes = regions(labels, logits)
        weights = foreground_weights(self.class_weights, sizes, "ForegroundDice")
        return over_classes(1.0 - dice(sizes, smooth=0.0), sizes, "skip", class_weights=weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_weights": as_list(self.class_weights)}
