"""Base class of the losses: float32, ignored pixels, sample weights, weighted sums."""

import abc
import inspect
import math
import numbers
from collections.abc import Iterable
from typing import Any, ClassVar

import keras
from keras import ops

from kerazoo.labels import Labels, check_ignore_class, is_16_bit, read
from kerazoo.types import Tensor

_MEANS = ("sum_over_batch_size", "mean")


_ADD_A_TERM = "Add a term that takes it: CrossEntropy({argument}=…) + {loss}(…)."
_INSTEAD = {
    "class_weights": f"Its own arguments say what classes weigh. {_ADD_A_TERM}",
    "label_smoothing": f"It compares with certain labels. {_ADD_A_TERM}",
    "from_logits": "Every loss of kerazoo takes logits: leave out the activation of the last layer too.",
    "ignore_index": "The id of ignored pixels is `ignore_class`.",
}
"""What to do instead, for arguments that other losses or other libraries have."""


def _refusal(loss: type, argument: str) -> str:
    """Error message for an unknown argument."""
    kinds = [kind for kind in loss.__mro__ if issubclass(kind, Loss)]
    taken = {name for kind in kinds for name in inspect.signature(kind).parameters} - {"kwargs", "unknown"}
    instead = _INSTEAD.get(argument, "").format(argument=argument, loss=loss.__name__)
    return " ".join(
        filter(None, [f"{loss.__name__} takes no `{argument}`.", instead, f"It takes {', '.join(sorted(taken))}."])
    )


class _Summable:
    """Operators that make `a + b`, `0.1 * a` and `sum([a, b])` losses."""

    def __add__(self, other: Any) -> "WeightedSum":
        if isinstance(other, numbers.Real) and other == 0:  # where `sum` starts
            return WeightedSum([(1.0, self)])
        return WeightedSum([(1.0, self), (1.0, other)]) if isinstance(other, keras.losses.Loss) else NotImplemented

    def __radd__(self, other: Any) -> "WeightedSum":
        if isinstance(other, keras.losses.Loss):
            return WeightedSum([(1.0, other), (1.0, self)])
        return self.__add__(other)

    def __mul__(self, weight: Any) -> "WeightedSum":
        return WeightedSum([(float(weight), self)]) if isinstance(weight, numbers.Real) else NotImplemented

    __rmul__ = __mul__


class Loss(keras.losses.Loss, _Summable, abc.ABC):
    """Loss on logits and class ids.

    A mean (the default reduction) is over what counts: pixels that are not ignored, or images that take part. If
    nothing counts it is 0 with a gradient of 0. Ids outside of the classes make the loss NaN; they do not change the
    gradient of the other pixels or images.

    Args:
        ignore_class: Id of pixels that count nowhere, or None.
        weighted: Whether `sample_weight` reaches this loss. False lets a sum use a map of pixel weights in one term
            only.
        name: Name of the loss.
        reduction: "sum_over_batch_size" or "mean" for the mean, "sum", or None for values without reduction.
        dtype: "float32" (also None, whatever the precision policy) or "float64".
        **unknown: Always an error, which says what to do instead.

    Raises:
        TypeError: there is an argument that the loss does not take.
        ValueError: `dtype` has 16 bits, or `ignore_class` is not one id.
    """

    per_pixel: ClassVar[bool]  # one value per pixel, or per image
    needs_weight: ClassVar[str | None] = None  # what `sample_weight` has to be, if the loss requires it

    def __init__(
        self,
        *,
        ignore_class: int | None = None,
        weighted: bool = True,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
        **unknown: Any,
    ):
        if unknown:
            raise TypeError(_refusal(type(self), next(iter(unknown))))
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if is_16_bit(self.dtype):
            raise ValueError(
                f"{type(self).__name__} sums over pixels, which {self.dtype} cannot. Leave `dtype` out: the loss is "
                "float32 under every precision policy."
            )
        self.ignore_class = check_ignore_class(ignore_class, type(self).__name__)
        self.weighted = bool(weighted)
        self._reduce = _Reduce(name=self.name, reduction=reduction, dtype=self.dtype)

    @abc.abstractmethod
    def values(self, labels: Labels, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss before reduction.

        Args:
            labels: Class ids.
            logits: `(B, ..., C)` in the dtype of the loss, 0 at ignored pixels.

        Returns:
            Values, `(B, ...)` if `per_pixel` else `(B,)`, and a bool tensor of that shape: which of them count. Values
            that do not count are 0.
        """

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        values, counts = self._values(y_true, y_pred)
        if self.needs_weight and sample_weight is None:
            raise ValueError(f"{type(self).__name__} needs `sample_weight`, {self.needs_weight}.")
        weight = ops.cast(counts, values.dtype)
        if self.reduction in _MEANS:  # Keras divides by all values: make that the ones that count
            weight = ops.divide_no_nan(weight, ops.mean(weight))
        if sample_weight is not None and self.weighted:
            weight = weight * self._fit_weight(ops.convert_to_tensor(sample_weight, dtype=values.dtype), values)
        return self._reduce(values, values, sample_weight=weight)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Values before reduction: `(B, ...)` if `per_pixel`, else `(B,)`; 0 where they do not count."""
        return self._values(y_true, y_pred)[0]

    def _values(self, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
        labels, logits = read(
            y_true, y_pred, ignore_class=self.ignore_class, reader=type(self).__name__, dtype=self.dtype
        )
        values, counts = self.values(labels, logits)
        outside = labels.outside if self.per_pixel else ops.any(labels.outside, axis=labels.space)
        return ops.where(outside, math.nan, values), counts

    def _fit_weight(self, weight: Tensor, values: Tensor) -> Tensor:
        """`sample_weight` in a shape that broadcasts to `values`, one number per image or per pixel."""
        rank, shape = len(values.shape), tuple(weight.shape)
        per_image = all(size == 1 for size in shape[1:])
        if not shape:
            return weight
        if per_image and None not in (shape[0], values.shape[0]) and shape[0] != values.shape[0]:
            raise ValueError(
                f"{type(self).__name__} takes one `sample_weight` per image, received {shape} for a batch of "
                f"{values.shape[0]}."
            )
        if per_image:
            return ops.reshape(weight, (-1,) + (1,) * (rank - 1))
        if not self.per_pixel:
            raise ValueError(
                f"{type(self).__name__} has one value per image, so `sample_weight` must be (B,), received {shape}. "
                f"In a sum whose other terms take pixel weights, write {type(self).__name__}(weighted=False)."
            )
        if len(shape) == rank + 1 and shape[-1] == 1:
            shape, weight = shape[:-1], ops.squeeze(weight, axis=-1)
        fits = len(shape) == rank and all(
            1 in (a, b) or None in (a, b) or a == b for a, b in zip(shape, values.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{type(self).__name__} takes `sample_weight` of shape (B,) or one weight per pixel, "
                f"{tuple(values.shape)}; received {shape}."
            )
        return weight

    def get_config(self) -> dict[str, Any]:
        own = {"ignore_class": self.ignore_class, "weighted": self.weighted, "dtype": self.dtype}  # Keras omits dtype
        return {**super().get_config(), **own}


class _Reduce(keras.losses.Loss):
    """Keras's own reduction, which handles `tf.distribute`, applied to computed values."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


@keras.saving.register_keras_serializable("kerazoo", name="losses.WeightedSum")
class WeightedSum(keras.losses.Loss, _Summable):
    """Weighted sum of losses, each with its own reduction: what `CrossEntropy() + 0.1 * ForegroundDice()` builds.

    `sample_weight` is passed to every term.

    Args:
        terms: Pairs `(weight, loss)`; a loss that is a sum itself is flattened. Any `keras.losses.Loss` may be a term.
        name: Name of the loss.

    Raises:
        TypeError: a term is not a loss, or a weight not a number.
        ValueError: there is no term, a weight is not finite, or a term has no reduction.
    """

    def __init__(self, terms: Iterable[tuple[float, keras.losses.Loss]], *, name: str | None = "weighted_sum"):
        flat: list[tuple[float, keras.losses.Loss]] = []
        for weight, loss in terms:
            if not isinstance(loss, keras.losses.Loss) or not isinstance(weight, numbers.Real):
                raise TypeError(
                    f"WeightedSum takes pairs (number, keras.losses.Loss), received ({weight!r}, {loss!r})."
                )
            if not math.isfinite(weight):
                raise ValueError(f"Weights of losses are finite, received {weight} for {loss.name!r}.")
            if loss.reduction in (None, "none"):
                raise ValueError(f"A loss in a sum needs a reduction, {loss.name!r} has reduction={loss.reduction!r}.")
            inner = loss.terms if isinstance(loss, WeightedSum) else ((1.0, loss),)
            flat += [(float(weight) * factor, term) for factor, term in inner]
        if not flat:
            raise ValueError("WeightedSum needs at least one term, received none.")
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.terms = tuple(flat)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        values = [weight * loss(y_true, y_pred, sample_weight=sample_weight) for weight, loss in self.terms]
        return sum(values[1:], start=values[0])

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """The sum of the reduced terms."""
        return self(y_true, y_pred)

    def __repr__(self) -> str:
        return " + ".join(f"{weight:g} * {type(loss).__name__}" for weight, loss in self.terms)

    def get_config(self) -> dict[str, Any]:
        terms = [[weight, keras.saving.serialize_keras_object(loss)] for weight, loss in self.terms]
        return {"name": self.name, "terms": terms}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedSum":
        terms = [(weight, keras.saving.deserialize_keras_object(loss)) for weight, loss in config["terms"]]
        return cls(terms, name=config["name"])
