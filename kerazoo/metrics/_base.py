"""The two bases of our metrics: any stream of logits against class ids, and its confusion matrix of pixels."""

import abc
import inspect
import math
from typing import Any, ClassVar, Literal, get_args

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import check_choice, check_whole, is_number
from kerazoo.labels import Labels, check_ignore_class, has_foreground, read
from kerazoo.metrics._confusion import Empty, OverlapEmpty, Ratio, fill_empty, mean_ratio
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor

Images = Literal["non_empty", "all"]
Average = Literal["foreground"] | None


class StreamingMetric(keras.metrics.Metric, abc.ABC):
    """Metric of logits and class ids that keeps whole numbers, so that its value does not depend on the batches.

    Ignored pixels count nowhere, neither as truth nor as prediction. Ids outside of the classes make the result NaN.
    A subclass keeps each argument of its constructor in the attribute of that name, where `get_config` finds it.

    Args:
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`; counts are whole numbers and results float32 in any case.

    Raises:
        ValueError: `ignore_class` is not one id.
    """

    higher_is_better: ClassVar[bool] = True

    def __init__(self, *, ignore_class: int | None = None, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self._direction = "up" if self.higher_is_better else "down"  # what Keras's callbacks take for mode="auto"
        self.ignore_class = check_ignore_class(ignore_class, type(self).__name__)
        self.outside = Counter(self, 1, "outside")

    @abc.abstractmethod
    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count one batch.

        Args:
            labels: Class ids.
            logits: `(B, ..., C)` float32, 0 at ignored pixels.
        """

    @abc.abstractmethod
    def compute(self) -> Tensor:
        """The metric, from the counts."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch.

        Args:
            y_true: `(B, H, W)` or `(B, H, W, 1)` class ids.
            y_pred: `(B, H, W, C)` logits.
            sample_weight: None; whole pixels and images are counted.

        Raises:
            ValueError: shapes do not fit, there are weights, or a threshold is set for several logits.
        """
        reader = type(self).__name__
        if sample_weight is not None:
            raise ValueError(
                f"{reader} counts whole pixels and images and takes no `sample_weight`. Compile it under `metrics`, "
                "not `weighted_metrics`, and leave pixels out with `ignore_class`."
            )
        labels, logits = read(y_true, y_pred, ignore_class=self.ignore_class, reader=reader)
        self.outside.add(ops.reshape(ops.sum(ops.cast(labels.outside, "int32")), (1,)))
        self.update_from_logits(labels, logits)

    def result(self) -> Tensor:
        """The metric of all batches since the last reset."""
        result = self.compute()
        return ops.where(self.outside.value()[0] > 0, math.nan * ops.ones_like(result), result)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        arguments = _arguments(type(self)) - {"name", "dtype"}
        return {**super().get_config(), **{name: getattr(self, name) for name in sorted(arguments)}}


class ConfusionMetric(StreamingMetric):
    """Ratio of pixel counts, from the confusion matrix of the pixels of all images together.

    A subclass gives the formula, `ratio`, and if need be other defaults in the class attributes.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "non_empty": only images with a foreground pixel take part. "all": also empty ones, whose false
            positives then count. None: `default_images`.
        average: "foreground": mean over the foreground classes. None: what `ratio` gives, a vector with one entry per
            mask id (the background first, also for one logit).
        empty: What a class is worth whose ratio is 0/0 over all images that take part, one of `policies`. "skip":
            nothing, it is left out of the mean, and where no class is left (and in the vector) stands 0. "one": 1.
            "penalize": a class without a true pixel is worth `1 - log(1 + A) / log(1 + N)`, A the pixels that are
            predicted as the class, N all pixels of these images.
        threshold: A pixel is foreground if its sigmoid probability is greater. Only for one logit; of K logits the
            largest wins (the first of equals).
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the metric. None: `default_name`, or the name of the class in lower case.
        dtype: As in `keras.metrics.Metric`; counts are whole numbers and results float32 in any case.

    Raises:
        ValueError: an argument is outside its range.
    """

    default_name: ClassVar[str | None] = None
    default_images: ClassVar[Images] = "all"
    policies: ClassVar[tuple[str, ...]] = get_args(Empty)

    def __init__(
        self,
        num_classes: int,
        *,
        images: Images | None = None,
        average: Average = "foreground",
        empty: OverlapEmpty = "skip",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        owner = type(self).__name__
        super().__init__(ignore_class=ignore_class, name=name or self.default_name or owner.lower(), dtype=dtype)
        self.images: Images = self.default_images if images is None else images
        self.num_classes, self.num_ids = check_num_classes(num_classes, owner)
        check_choice(owner, "images", self.images, get_args(Images))
        check_choice(owner, "average", average, ("foreground", None))
        check_choice(owner, "empty", empty, self.policies)
        self.average, self.empty = average, empty
        self.threshold = check_threshold(threshold, owner)
        self.confusion = Counter(self, self.num_ids**2, "confusion")

    @staticmethod
    @abc.abstractmethod
    def ratio(confusion: Tensor) -> Ratio:
        """Numerator and denominator from the `(K, K)` confusion matrix: `(K,)`, or one of all classes together."""

    def update_from_logits(self, labels: Labels, logits: Tensor) -> None:
        """Count pixels by true and predicted class."""
        check_num_ids(self, labels)
        cells = self.num_ids**2  # the last segment takes what does not count
        cell = labels.ids * self.num_ids + predicted_ids(self, labels, logits)
        cell = ops.reshape(ops.where(takes_part(labels, self.images), cell, cells), (-1,))
        self.confusion.add(ops.segment_sum(ops.ones_like(cell), cell, num_segments=cells + 1)[:-1])

    def compute(self) -> Tensor:
        """Mean over the foreground classes, or the vector."""
        numerator, denominator = self._ratios()
        if self.average is None:
            return ops.divide_no_nan(numerator, denominator)
        return mean_ratio(numerator[1:], denominator[1:])

    def counts(self) -> np.ndarray:
        """`(K, K)` int64 exact pixel counts, rows the truth, columns the prediction; outside of compiled code."""
        return self.confusion.exact().reshape(self.num_ids, self.num_ids)

    def per_class(self) -> np.ndarray:
        """`(K,)` float64 values, one per mask id, background first; NaN for what is skipped. Not in compiled code."""
        numerator, denominator = (np.asarray(ops.convert_to_numpy(part), np.float64) for part in self._ratios())
        return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)

    def _ratios(self) -> Ratio:
        confusion = ops.reshape(self.confusion.value(), (self.num_ids, self.num_ids))
        return fill_empty(self.ratio(confusion), confusion, self.empty)


def _arguments(kind: type) -> set[str]:
    """Names of the constructor's arguments; where some are hidden in `**kwargs`, those of the base that takes them."""
    parameters = inspect.signature(kind).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return _arguments(kind.__mro__[1])
    return {parameter.name for parameter in parameters}


def check_num_classes(num_classes: int, metric: str) -> tuple[int, int]:
    """`num_classes` as an int, and the number of mask ids.

    Raises:
        ValueError: it is not a whole number of at least 1.
    """
    check_whole(metric, "num_classes", num_classes)
    return int(num_classes), max(2, int(num_classes))


def check_threshold(threshold: float, metric: str) -> float:
    """`threshold` as a float.

    Raises:
        ValueError: it is not in (0, 1).
    """
    if not (is_number(threshold) and 0 < threshold < 1):
        raise ValueError(f"{metric} takes a probability in (0, 1) as `threshold`, received {threshold!r}.")
    return float(threshold)


def check_num_ids(metric: Any, labels: Labels) -> None:
    """Raise ValueError unless the logits have the classes that the metric was built for."""
    if labels.num_ids != metric.num_ids:
        raise ValueError(
            f"{type(metric).__name__}(num_classes={metric.num_classes}) counts mask ids 0..{metric.num_ids - 1}, "
            f"received logits for ids 0..{labels.num_ids - 1}. Give it the `num_classes` of the model."
        )


def predicted_ids(metric: Any, labels: Labels, logits: Tensor) -> Tensor:
    """`(B, ...)` int32 ids that float32 `logits` `(B, ..., C)` predict; 0 at ignored pixels.

    Raises:
        ValueError: the metric has a threshold, and there are several logits.
    """
    threshold, channels = metric.threshold, logits.shape[-1]
    if channels > 1 and threshold != 0.5:
        raise ValueError(
            f"{type(metric).__name__} has threshold={threshold}, which is for models with one logit; received "
            f"{channels} logits per pixel, of which the largest wins. Leave `threshold` out."
        )
    if channels == 1:
        ids = ops.cast(logits[..., 0] > math.log(threshold / (1.0 - threshold)), "int32")
    else:
        ids = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.where(labels.valid, ids, 0)


def takes_part(labels: Labels, images: Images) -> Tensor:
    """`(B, ...)` bool: the pixel counts; with "non_empty" only in images that have a foreground pixel."""
    counts = ops.logical_and(labels.valid, ops.logical_not(labels.outside))
    if images == "non_empty":
        shown = ops.reshape(has_foreground(labels), (-1,) + (1,) * len(labels.space))
        counts = ops.logical_and(counts, shown)
    return counts


def areas(ids: Tensor, labels: Labels) -> Tensor:
    """`(B, K - 1)` int32 pixels of each foreground class in each image; ignored pixels must have id 0."""
    images = ops.shape(ids)[0]
    first = ops.reshape(ops.arange(images, dtype="int32") * labels.num_ids, (-1,) + (1,) * len(labels.space))
    cell = ops.reshape(first + ids, (-1,))  # one per image and id, so that memory does not grow with the classes
    pixels = ops.segment_sum(ops.ones_like(cell), cell, num_segments=images * labels.num_ids)
    return ops.reshape(pixels, (-1, labels.num_ids))[:, 1:]
