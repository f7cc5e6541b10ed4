"""Class-balanced cross-entropy (Xie and Tu, 2015, https://arxiv.org/abs/1504.06375).

Differs from the paper: also for several classes, and an explicit policy for images of one class, where the paper's
weights are 0.
"""

from typing import Any, Literal, get_args

import keras
from keras import ops

from kerazoo.arguments import is_number
from kerazoo.labels import Labels, one_hot
from kerazoo.losses._base import Loss
from kerazoo.losses.cross_entropy import log_probs
from kerazoo.types import Tensor

Balance = Literal["skip", "penalize"]


@keras.saving.register_keras_serializable("kerazoo", name="losses.BalancedCrossEntropy")
class BalancedCrossEntropy(Loss):
    r"""Mean over valid pixels of `-(β t log p + (1 - β) (1 - t) log(1 - p))`.

    With `beta=None` β is, for each image, the share of its valid pixels that are background, so that foreground and
    background have the same total weight; with several classes each has the weight 1 - its share of the pixels. A
    number is the weight of all foreground classes, 1 - β that of the background.

    An empty image has β = 1 and background of weight 0: false positives there are free. (So does an image that one
    class fills.) `empty` says what such an image is worth, where `beta` is None:

    - "skip": nothing, its pixels take no part.
    - "penalize": half of the cross-entropy, which is what half an image of background weighs.

    There is no policy "one", because there is no 0/0 here.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)` or
        `(B, H, W)`.
    Returns: scalar; per pixel `(B, H, W)` with `reduction=None`.

    Args:
        beta: β in (0, 1), or None for the share of background of each image.
        empty: "skip" or "penalize", see above.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `beta` is not in (0, 1), `empty` is not a policy, or shapes do not fit.
    """

    per_pixel = True

    def __init__(
        self,
        *,
        beta: float | None = None,
        empty: Balance = "penalize",
        ignore_class: int | None = None,
        name: str | None = "balanced_cross_entropy",
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        if beta is not None and not (is_number(beta) and 0 < beta < 1):
            raise ValueError(f"BalancedCrossEntropy takes `beta` in (0, 1) or None, received {beta!r}.")
        if empty not in get_args(Balance):
            raise ValueError(f"BalancedCrossEntropy takes `empty` one of {get_args(Balance)}, received {empty!r}.")
        self.beta = None if beta is None else float(beta)
        self.empty: Balance = empty

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each pixel, and which pixels count."""
        target = one_hot(labels, logits.dtype)
        counts = labels.valid
        if self.beta is None:
            pixels = ops.sum(target, axis=labels.space, keepdims=True)
            shares = pixels / ops.maximum(ops.sum(pixels, axis=-1, keepdims=True), 1.0)
            uniform = ops.max(shares, axis=-1, keepdims=True) >= 1.0
            weights = ops.where(uniform, 0.5 if self.empty == "penalize" else 0.0, 1.0 - shares)
            if self.empty == "skip":
                counts = ops.logical_and(counts, ops.logical_not(ops.squeeze(uniform, axis=-1)))
        else:
            foreground = (self.beta,) * (labels.num_ids - 1)
            weights = ops.convert_to_tensor((1.0 - self.beta, *foreground), dtype=logits.dtype)
        values = -ops.sum(target * weights * log_probs(logits), axis=-1)
        return ops.where(counts, values, ops.zeros_like(values)), counts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta, "empty": self.empty}
