"""What our metrics share: logits to predicted ids, ignored pixels, and the streaming confusion matrix."""

import abc
import math
from typing import Any, ClassVar, Literal, get_args

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import is_number, is_whole
from kerazoo.labels import Labels, check_ignore_class, has_foreground, read
from kerazoo.metrics._counts import Counter
from kerazoo.types import Tensor

Images = Literal["non_empty", "all"]
Average = Literal["foreground"] | None
Empty = Literal["skip", "one"]
OverlapEmpty = Literal["skip", "one", "penalize"]


class StreamingMetric(keras.metrics.Metric, abc.ABC):
    """Metric of logits and class ids in whole numbers, so that the result does not depend on how images are batched.

    Ignored pixels count nowhere, neither as truth nor as prediction. Ids outside of the classes make the result NaN.

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
    def see(self, labels: Labels, logits: Tensor) -> None:
        """Count one batch.

        Args:
            labels: Class ids.
            logits: `(B, ..., C)` float32, 0 at ignored pixels.
        """

    @abc.abstractmethod
    def compute(self) -> Tensor:
        """The result, from the counts."""

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
        self.see(labels, logits)

    def result(self) -> Tensor:
        """The metric over everything seen since the last reset."""
        result = self.compute()
        return ops.where(self.outside.value()[0] > 0, math.nan * ops.ones_like(result), result)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore_class": self.ignore_class}


class Metric(StreamingMetric):
    """Metric of predicted class ids.

    Args:
        threshold: A pixel is foreground if its sigmoid probability is greater. Only for one logit; of K logits the
            largest wins (the first of equals).
        ignore_class: See `StreamingMetric`.
        name: Name of the metric.
        dtype: See `StreamingMetric`.

    Raises:
        ValueError: `threshold` is not in (0, 1).
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_class=ignore_class, name=name, dtype=dtype)
        if not (is_number(threshold) and 0 < threshold < 1):
            raise ValueError(
                f"{type(self).__name__} takes a probability in (0, 1) as `threshold`, received {threshold!r}."
            )
        self.threshold = float(threshold)

    @abc.abstractmethod
    def update(self, labels: Labels, predicted: Tensor) -> None:
        """Count one batch.

        Args:
            labels: Class ids.
            predicted: `(B, ...)` int32 ids; 0 at ignored pixels.
        """

    def see(self, labels: Labels, logits: Tensor) -> None:
        """Count what the logits predict."""
        if logits.shape[-1] > 1 and self.threshold != 0.5:
            raise ValueError(
                f"{type(self).__name__} has threshold={self.threshold}, which is for models with one logit; received "
                f"{logits.shape[-1]} logits per pixel, of which the largest wins. Leave `threshold` out."
            )
        self.update(labels, predicted_ids(logits, labels, self.threshold))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


class PixelMetric(Metric):
    """Metric on the confusion matrix of all pixels of all images that take part.

    Args:
        num_classes: As the model's: 1 for one logit with mask ids {0, 1}, else K with ids 0..K-1, 0 the background.
        images: "non_empty": only images with a foreground pixel take part. "all": also empty ones, whose false
            positives then count.
        threshold: See `Metric`.
        ignore_class: See `Metric`.
        name: Name of the metric.
        dtype: See `Metric`.

    Raises:
        ValueError: `num_classes` is not at least 1 or `images` is unknown.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        images: Images,
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(threshold=threshold, ignore_class=ignore_class, name=name, dtype=dtype)
        self.num_classes, self.num_ids = check_num_classes(num_classes, type(self).__name__)
        self.images = check_images(images, type(self).__name__)
        self.confusion = Counter(self, self.num_ids**2, "confusion")

    def update(self, labels: Labels, predicted: Tensor) -> None:
        """Count pixels by true and predicted id."""
        check_num_ids(self, labels)
        counts = ops.logical_and(labels.valid, ops.logical_not(labels.outside))
        if self.images == "non_empty":
            taking_part = ops.reshape(has_foreground(labels), (-1,) + (1,) * len(labels.space))
            counts = ops.logical_and(counts, taking_part)
        cells = self.num_ids**2  # the last segment takes what does not count
        cell = ops.reshape(ops.where(counts, labels.ids * self.num_ids + predicted, cells), (-1,))
        self.confusion.add(ops.segment_sum(ops.ones_like(cell), cell, num_segments=cells + 1)[:-1])

    def matrix(self) -> Tensor:
        """`(K, K)` float32 pixel counts, rows the truth, columns the prediction."""
        return ops.reshape(self.confusion.value(), (self.num_ids, self.num_ids))

    def counts(self) -> np.ndarray:
        """`(K, K)` int64 exact pixel counts, rows the truth, columns the prediction; outside of compiled code."""
        return self.confusion.exact().reshape(self.num_ids, self.num_ids)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "images": self.images}


class ClassMetric(PixelMetric):
    """Pixel metric with a value per class.

    Args:
        num_classes: See `PixelMetric`.
        images: See `PixelMetric`.
        average: "foreground": mean over the foreground classes. None: a vector, one entry per mask id (the background
            first, also for one logit).
        empty: What a class is worth whose ratio is 0/0 over all images that take part. "skip": nothing, it is left out
            of the mean, and where no class is left (and in the vector) stands 0. "one": 1. "penalize", for some
            metrics: a class without a true pixel is worth `1 - log(1 + A) / log(1 + N)`, A the pixels that are
            predicted as the class, N all pixels of these images.
        threshold: See `Metric`.
        ignore_class: See `Metric`.
        name: Name of the metric.
        dtype: See `Metric`.

    Raises:
        ValueError: `average` or `empty` is unknown.
    """

    policies: ClassVar[tuple[str, ...]] = get_args(Empty)

    def __init__(
        self,
        num_classes: int,
        *,
        images: Images,
        average: Average = "foreground",
        empty: OverlapEmpty = "skip",
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            num_classes, images=images, threshold=threshold, ignore_class=ignore_class, name=name, dtype=dtype
        )
        if average not in ("foreground", None):
            raise ValueError(f"{type(self).__name__} takes `average` 'foreground' or None, received {average!r}.")
        if empty not in self.policies:
            raise ValueError(f"{type(self).__name__} takes `empty` one of {self.policies}, received {empty!r}.")
        self.average = average
        self.empty: OverlapEmpty = empty

    @abc.abstractmethod
    def ratio(self, hits: Tensor, false_positives: Tensor, false_negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator for each class, from `(K,)` pixel counts; undefined where the latter is 0."""

    def compute(self) -> Tensor:
        """Mean over the foreground classes, or the vector."""
        numerator, denominator = self._ratio()
        values = ops.divide_no_nan(numerator, denominator)
        defined = ops.cast(denominator[1:] > 0, values.dtype)
        if self.empty == "one":
            values = ops.where(denominator > 0, values, ops.ones_like(values))
            defined = ops.ones_like(defined)
        if self.average is None:
            return values
        return ops.divide_no_nan(ops.sum(values[1:] * defined), ops.sum(defined))

    def per_class(self) -> np.ndarray:
        """`(K,)` float64 values, one per mask id, background first; NaN for what is skipped. Not in compiled code."""
        numerator, denominator = (np.asarray(ops.convert_to_numpy(part), np.float64) for part in self._ratio())
        undefined = np.full(self.num_ids, 1.0 if self.empty == "one" else np.nan)
        return np.divide(numerator, denominator, out=undefined, where=denominator > 0)

    def _ratio(self) -> tuple[Tensor, Tensor]:
        matrix = self.matrix()
        hit = ops.eye(self.num_ids, dtype=matrix.dtype)
        wrong = matrix * (1.0 - hit)  # never `total - hits`: float32 would lose the small classes
        hits, false, missed = ops.sum(matrix * hit, axis=0), ops.sum(wrong, axis=0), ops.sum(wrong, axis=1)
        numerator, denominator = self.ratio(hits, false, missed)
        if self.empty == "penalize":
            absent, most = hits + missed <= 0, ops.log1p(ops.maximum(ops.sum(matrix), 1.0))
            numerator = ops.where(absent, most - ops.log1p(false), numerator)
            denominator = ops.where(absent, most, denominator)
        return numerator, denominator

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average": self.average, "empty": self.empty}


class ImageMetric(Metric):
    """Metric of what is predicted for whole images; a class is in an image with at least `min_area` of its pixels.

    In the truth one pixel is enough.

    Args:
        min_area: Pixels of a foreground class from which on an image is predicted to have it.
        threshold: See `Metric`.
        ignore_class: See `Metric`.
        name: Name of the metric.
        dtype: See `Metric`.

    Raises:
        ValueError: `min_area` is not at least 1.
    """

    def __init__(
        self,
        *,
        min_area: int = 1,
        threshold: float = 0.5,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(threshold=threshold, ignore_class=ignore_class, name=name, dtype=dtype)
        if not (is_whole(min_area) and min_area >= 1):
            raise ValueError(f"{type(self).__name__} takes `min_area` of at least 1 pixel, received {min_area!r}.")
        self.min_area = int(min_area)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "min_area": self.min_area}


def check_num_classes(num_classes: int, metric: str) -> tuple[int, int]:
    """`num_classes` as an int, and the number of mask ids.

    Raises:
        ValueError: it is not a whole number of at least 1.
    """
    if not (is_whole(num_classes) and num_classes >= 1):
        raise ValueError(f"{metric} takes `num_classes` of at least 1, received {num_classes!r}.")
    return int(num_classes), max(2, int(num_classes))


def check_images(images: str, metric: str) -> Images:
    """`images` if it says which images take part.

    Raises:
        ValueError: it does not.
    """
    for choice in get_args(Images):
        if images == choice:
            return choice
    raise ValueError(f"{metric} takes `images` one of {get_args(Images)}, received {images!r}.")


def check_num_ids(metric: Any, labels: Labels) -> None:
    """Raise ValueError unless the logits have the classes that the metric was built for."""
    if labels.num_ids != metric.num_ids:
        raise ValueError(
            f"{type(metric).__name__}(num_classes={metric.num_classes}) counts mask ids 0..{metric.num_ids - 1}, "
            f"received logits for ids 0..{labels.num_ids - 1}. Give it the `num_classes` of the model."
        )


def predicted_ids(logits: Tensor, labels: Labels, threshold: float) -> Tensor:
    """`(B, ...)` int32 ids that float32 `logits` `(B, ..., C)` predict; 0 at ignored pixels."""
    if logits.shape[-1] == 1:
        ids = ops.cast(logits[..., 0] > math.log(threshold / (1.0 - threshold)), "int32")
    else:
        ids = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.where(labels.valid, ids, 0)


def areas(ids: Tensor, labels: Labels) -> Tensor:
    """`(B, K - 1)` int32 pixels of each foreground class in each image; ignored pixels must have id 0."""
    images = ops.shape(ids)[0]
    first = ops.reshape(ops.arange(images, dtype="int32") * labels.num_ids, (-1,) + (1,) * len(labels.space))
    cell = ops.reshape(first + ids, (-1,))  # one per image and id, so that memory does not grow with the classes
    pixels = ops.segment_sum(ops.ones_like(cell), cell, num_segments=images * labels.num_ids)
    return ops.reshape(pixels, (-1, labels.num_ids))[:, 1:]
