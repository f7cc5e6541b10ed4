"""Cross-entropy of the hardest pixels (Wu et al., 2016, https://arxiv.org/abs/1604.04339).

Differs from the paper: a share of the pixels of each image instead of a number and a threshold, as nnU-Net's TopK loss.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.arguments import is_number
from kerazoo.labels import Labels
from kerazoo.losses.cross_entropy import CrossEntropy
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.CrossEntropyTopK")
class CrossEntropyTopK(CrossEntropy):
    r"""Mean over images of the cross-entropy of their hardest pixels, a fixed share of the valid ones.

    Every image contributes the same share, so that an empty image is represented by its worst false positives and an
    image with an object by what is missed of it.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)`.
    Returns: scalar; per image `(B,)` with `reduction=None`. An image whose pixels are all ignored does not count.

    Args:
        fraction: Share of the valid pixels that count, in (0, 1]; at least one pixel does. 1 is the mean over images of
            the cross-entropy.
        class_weights: One weight per mask id (two for one logit), background first; pixels are chosen by the weighted
            cross-entropy. None: 1 each.
        label_smoothing: ε in [0, 1), the share of the label that is spread over all K classes.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `fraction` is not in (0, 1], or what `CrossEntropy` raises.
    """

    per_pixel = False

    def __init__(
        self,
        *,
        fraction: float = 0.1,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        name: str | None = "cross_entropy_top_k",
        **kwargs: Any,
    ):
        super().__init__(
            class_weights=class_weights, label_smoothing=label_smoothing, ignore_class=ignore_class, name=name, **kwargs
        )
        if not (is_number(fraction) and 0 < fraction <= 1):
            raise ValueError(f"CrossEntropyTopK takes `fraction` in (0, 1], received {fraction!r}.")
        self.fraction = float(fraction)

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each image, and which images have a valid pixel."""
        each, valid = super().values(labels, logits)
        each = ops.reshape(each, (ops.shape(each)[0], -1))
        valid = ops.cast(ops.reshape(valid, ops.shape(each)), each.dtype)
        pixels = ops.sum(valid, axis=1)
        number = ops.maximum(ops.floor(self.fraction * pixels + 0.5), ops.minimum(pixels, 1.0))
        # Ignored pixels have a cost of 0, and with at least as many other pixels as are taken they change nothing.
        hardest = -ops.sort(-each, axis=1)
        taken = ops.cast(ops.arange(ops.shape(each)[1]), each.dtype) < ops.expand_dims(number, -1)
        total = ops.sum(ops.where(taken, hardest, ops.zeros_like(hardest)), axis=1)
        return total / ops.maximum(number, 1.0), pixels > 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fraction": self.fraction}
