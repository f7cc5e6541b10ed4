"""Class ids and logits as losses and metrics read them: shapes, classes, ignored pixels.

Only static facts (ranks, sizes that are known) are checked. Ids outside of the classes are marked, never looked at.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from kerazoo.arguments import is_whole
from kerazoo.types import Tensor


class Labels(NamedTuple):
    """Class ids of a batch.

    Attributes:
        ids: `(B, ...)` int32 in 0..K-1; 0 where `valid` is False or `outside` is True.
        valid: `(B, ...)` bool, False where the pixel is ignored.
        outside: `(B, ...)` bool, True where a pixel that is not ignored has an id that no class has.
        num_ids: K, the number of mask ids: 2 for one sigmoid logit, else the number of logits.
    """

    ids: Tensor
    valid: Tensor
    outside: Tensor
    num_ids: int

    @property
    def space(self) -> tuple[int, ...]:
        """Axes of `ids` that are not the batch."""
        return tuple(range(1, len(self.ids.shape)))


def read(
    y_true: Any, y_pred: Any, *, ignore_class: int | None, reader: str, dtype: str = "float32"
) -> tuple[Labels, Tensor]:
    """Labels and logits from what Keras hands to a loss or metric.

    Args:
        y_true: `(B, ...)` or `(B, ..., 1)` class ids, any dtype that holds whole numbers (Keras may hand over floats).
        y_pred: `(B, ..., C)` logits of any floating dtype; C = 1 is a sigmoid logit with mask ids {0, 1}.
        ignore_class: Id of pixels that count nowhere, inside or outside of 0..K-1, or None.
        reader: Name of the loss or metric, for messages.
        dtype: Dtype of the logits that are returned.

    Returns:
        Labels, and logits `(B, ..., C)` that are 0 at ignored pixels, so that not even a NaN there counts.

    Raises:
        TypeError: a dict of outputs is given.
        ValueError: ranks or sizes do not fit, or `y_pred` are visibly probabilities.
    """
    for argument, value in {"y_true": y_true, "y_pred": y_pred}.items():
        if isinstance(value, Mapping):
            raise TypeError(
                f"{reader} takes one tensor, received a dict of outputs {sorted(value)} as `{argument}`. "
                f'Name the output it belongs to: compile(..., {{"mask": {reader}(...)}}).'
            )
    _refuse_probabilities(y_pred, reader)
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    truth_shape, logits_shape = _static_shapes(y_true, y_pred, reader)
    if len(truth_shape) == len(logits_shape):
        y_true = ops.squeeze(y_true, axis=-1)
    num_ids = max(2, logits_shape[-1])
    ids = ops.cast(y_true, "int32")
    valid = ops.ones_like(ids, dtype="bool") if ignore_class is None else ids != ignore_class
    inside = ops.logical_and(ids >= 0, ids < num_ids)
    outside = ops.logical_and(valid, ops.logical_not(inside))
    labels = Labels(ops.where(ops.logical_and(valid, inside), ids, 0), valid, outside, num_ids)
    logits = ops.cast(y_pred, dtype)
    if ignore_class is not None:
        logits = ops.where(ops.expand_dims(valid, -1), logits, ops.zeros_like(logits))
    return labels, logits


_ACTIVATIONS = {
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "SigmoidBackward0": "sigmoid",
    "SoftmaxBackward0": "softmax",
}


def _refuse_probabilities(y_pred: Any, reader: str) -> None:
    """Raise ValueError if a sigmoid or softmax made `y_pred`, as far as the backend tells without looking at values.

    TensorFlow tells inside of `fit` (the type of the graph's operation), PyTorch while it records gradients, JAX never.
    """
    operation = getattr(getattr(y_pred, "op", None), "type", None) or type(getattr(y_pred, "grad_fn", None)).__name__
    if activation := _ACTIVATIONS.get(operation):
        raise ValueError(
            f"{reader} takes logits, and `y_pred` are probabilities: a {activation} made them, and {reader} applies "
            f'its own. Leave activation="{activation}" out of the last layer of the model.'
        )


def _static_shapes(y_true: Tensor, y_pred: Tensor, reader: str) -> tuple[tuple, tuple]:
    """Shapes with None for unknown sizes, after the checks of `read`."""
    try:
        truth, logits = tuple(y_true.shape), tuple(y_pred.shape)
    except ValueError:  # TensorFlow: a shape of unknown rank has no length
        raise ValueError(
            f"{reader} needs `y_true` and `y_pred` of known rank, received shapes {y_true.shape} and {y_pred.shape}. "
            "Set the shape where the data comes from, e.g. with `tf.ensure_shape`."
        ) from None
    received = f"received y_true {truth} and y_pred {logits}."
    if len(logits) < 3 or logits[-1] is None:
        raise ValueError(f"{reader} takes logits `y_pred` (B, H, W, C) with a known number of channels C, {received}")
    if len(truth) == len(logits) and truth[-1] not in (1, None):
        raise ValueError(
            f"{reader} takes class ids `y_true` (B, H, W) or (B, H, W, 1), {received} "
            "Turn one-hot masks into ids: keras.ops.argmax(y_true, axis=-1)."
        )
    if len(logits) - len(truth) not in (0, 1):
        raise ValueError(f"{reader} takes class ids `y_true` (B, H, W) for logits `y_pred` (B, H, W, C), {received}")
    for true_size, logits_size in zip(truth[: len(logits) - 1], logits[:-1], strict=True):
        if None not in (true_size, logits_size) and true_size != logits_size:
            raise ValueError(
                f"{reader} needs a mask as large as the logits, {received} Resize the mask with nearest neighbors, "
                "or the logits to the size of the mask."
            )
    return truth, logits


def check_ignore_class(ignore_class: int | None, reader: str) -> int | None:
    """`ignore_class` as an int or None.

    Raises:
        ValueError: it is neither.
    """
    if ignore_class is None:
        return None
    if not is_whole(ignore_class):
        raise ValueError(f"{reader} takes one class id or None as `ignore_class`, received {ignore_class!r}.")
    return int(ignore_class)


def one_hot(labels: Labels, dtype: str) -> Tensor:
    """`(B, ..., K)`: 1 at the class of each valid pixel, 0 elsewhere and at ignored pixels and ids outside."""
    counts = ops.logical_and(labels.valid, ops.logical_not(labels.outside))
    return ops.one_hot(labels.ids, labels.num_ids, dtype=dtype) * ops.cast(ops.expand_dims(counts, -1), dtype)


def has_valid(labels: Labels) -> Tensor:
    """`(B,)` bool: the image has a valid pixel."""
    return ops.any(labels.valid, axis=labels.space)


def has_foreground(labels: Labels) -> Tensor:
    """`(B,)` bool: the image has a valid pixel of a class other than the background."""
    return ops.any(labels.ids > 0, axis=labels.space)


def is_empty(labels: Labels) -> Tensor:
    """`(B,)` bool: the image has valid pixels, and all of them are background."""
    return ops.logical_and(has_valid(labels), ops.logical_not(has_foreground(labels)))


def is_16_bit(dtype: str) -> bool:
    """Whether sums over pixels would lose counts in this dtype."""
    return keras.backend.standardize_dtype(dtype) in ("float16", "bfloat16")
