"""Pixel-wise cross-entropy.

Beyond Keras's `BinaryCrossentropy` and `SparseCategoricalCrossentropy`: one class for one and for many logits, class
weights, label smoothing on ids, and a mean over valid pixels (Keras's `ignore_class` divides by all pixels).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerazoo.arguments import is_number
from kerazoo.labels import Labels
from kerazoo.losses._base import Loss
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="losses.CrossEntropy")
class CrossEntropy(Loss):
    r"""Mean over valid pixels of `-Σ_c w_c t_c log p_c`.

    `p` is the sigmoid (one logit: classes background, foreground) or softmax of the logits, `t` the one-hot truth, with
    label smoothing ε `t ← (1 - ε) t + ε / K`. Computed from the logits, so finite with a finite gradient at ±1e4. The
    mean divides by the number of valid pixels and not by the sum of their weights: class weights keep their effect in a
    batch of one class.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B,)` or
        `(B, H, W)`.
    Returns: scalar; per pixel `(B, H, W)` with `reduction=None`.

    Args:
        class_weights: One weight per mask id (two for one logit), background first; None: 1 each.
        label_smoothing: ε in [0, 1), the share of the label that is spread over all K classes.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: a class weight is negative or their number is not that of the mask ids; `label_smoothing` is outside
            of [0, 1); shapes do not fit.
    """

    per_pixel = True

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        name: str | None = "cross_entropy",
        **kwargs: Any,
    ):
        super().__init__(ignore_class=ignore_class, name=name, **kwargs)
        if not (is_number(label_smoothing) and 0 <= label_smoothing < 1):
            raise ValueError(f"CrossEntropy takes `label_smoothing` in [0, 1), received {label_smoothing!r}.")
        self.class_weights = check_class_weights(class_weights, "CrossEntropy", "class_weights")
        self.label_smoothing = float(label_smoothing)

    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each pixel, and which pixels are valid."""
        target = ops.one_hot(labels.ids, labels.num_ids, dtype=logits.dtype)
        target = (1.0 - self.label_smoothing) * target + self.label_smoothing / labels.num_ids
        if self.class_weights is not None:
            weights = fit_class_weights(self.class_weights, labels.num_ids, "CrossEntropy", "class_weights")
            target = target * ops.convert_to_tensor(weights, dtype=logits.dtype)
        values = -ops.sum(target * log_probs(logits), axis=-1)
        return ops.where(labels.valid, values, ops.zeros_like(values)), labels.valid

    def get_config(self) -> dict[str, Any]:
        own = {"class_weights": as_list(self.class_weights), "label_smoothing": self.label_smoothing}
        return {**super().get_config(), **own}


def log_probs(logits: Tensor) -> Tensor:
    """`(B, ..., K)` log-probabilities of the mask ids for `(B, ..., C)` logits, finite for finite logits."""
    if logits.shape[-1] == 1:
        return -ops.concatenate([ops.softplus(logits), ops.softplus(-logits)], axis=-1)
    return ops.log_softmax(logits, axis=-1)


def check_class_weights(weights: Any, loss: str, argument: str) -> tuple[float, ...] | None:
    """Weights as floats, or None.

    Raises:
        ValueError: there are none, or one is not a number of at least 0.
    """
    if weights is None:
        return None
    if isinstance(weights, Mapping):  # as Keras's `class_weight`; taken for a sequence it would weigh by its keys
        raise ValueError(
            f"{loss} takes `{argument}` as a sequence, one per mask id, background first; received the mapping "
            f"{weights!r}. Use {[*weights.values()]}, in the order of the ids."
        )
    numbers = tuple(weights) if isinstance(weights, Iterable) else ()
    if not numbers or not all(is_number(weight) and weight >= 0 for weight in numbers):
        raise ValueError(f"{loss} takes `{argument}` of at least 0, one per mask id, received {weights!r}.")
    return tuple(float(weight) for weight in numbers)


def fit_class_weights(weights: tuple[float, ...], num_ids: int, loss: str, argument: str) -> tuple[float, ...]:
    """`weights` if there is one per mask id.

    Raises:
        ValueError: there is not.
    """
    if len(weights) != num_ids:
        raise ValueError(
            f"{loss} needs one entry of `{argument}` per mask id: the logits have ids 0..{num_ids - 1} "
            f"({num_ids} weights, background first), received {len(weights)}: {weights}."
        )
    return weights


def as_list(weights: tuple[float, ...] | None) -> list[float] | None:
    """Weights for a config: Keras wraps tuples in a dict."""
    return None if weights is None else [*weights]
