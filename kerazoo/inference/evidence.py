"""What any decision rule would count on a set of images, after one pass over them.

Whether a pixel is foreground depends on one number alone, how many thresholds its probability is above. So the
histogram of that number over the pixels of a class tells what every threshold predicts there, and no probability has to
be kept.
"""

from collections.abc import Iterable

import numpy as np
from keras import ops
from scipy import ndimage

from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.scores import Counts
from kerazoo.layers import Resize

PIXEL_THRESHOLDS = tuple(i / 200 for i in range(1, 200))
COMPONENT_THRESHOLDS = PIXEL_THRESHOLDS[9::10]
"""Thresholds at which components are labeled: 0.05, 0.10, …, 0.95."""

COMPONENT_AREAS = (0, *sorted({round(2 ** (i / 2)) for i in range(42)}))
"""Areas for which the pixels in components at least that large are counted: 0, 1, 2, 3, 4, 6, 8, …"""


class Evidence:
    """Counts of every image at every pixel threshold, collected image by image.

    For an image and a class it keeps three numbers per threshold (12 bytes), and for components two numbers per
    threshold and area; nothing that grows with the size of an image.

    Args:
        num_classes: 1 for ids {0, 1}, else the number of classes with the background.
        ignore_class: Id in the truth of pixels that count nowhere, or None.
        rules: The rules whose pixel thresholds, scores and areas of components must be known beside the grids.
    """

    def __init__(self, num_classes: int, *, ignore_class: int | None, rules: Iterable[DecisionRule]):
        rules = list(rules)
        own = {rule.pixel_threshold for rule in rules}
        self.classes, self.ignore_class = max(1, num_classes - 1), ignore_class
        self.pixel_thresholds = sorted(own.union(PIXEL_THRESHOLDS))
        self.components = any(rule.per_component for rule in rules)
        self.component_thresholds = sorted(own.union(COMPONENT_THRESHOLDS))
        self.component_areas = sorted({rule.min_area for rule in rules}.union(COMPONENT_AREAS))
        self._scorers = {(rule.score, rule.rank): rule for rule in rules}
        self._rows: list[dict[str, np.ndarray]] = []
        self._stacked: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, name: str, truth: np.ndarray, small: np.ndarray, full: np.ndarray, label: np.ndarray | None = None
    ) -> None:
        """Count one image.

        Args:
            name: Of the image, for errors.
            truth: `(H, W)` or `(H, W, 1)` class ids.
            small: `(h, w, C)` float32 probabilities at the resolution of the model.
            full: The same at `(H, W)`; `small` itself if that is their size.
            label: `(C,)` float32 probabilities of the label head, or None.

        Raises:
            ValueError: probabilities are not finite, do not fit the truth, or a rule needs the label that is not there.
        """
        truth = truth[..., 0] if truth.ndim == 3 else truth
        if truth.shape != full.shape[:2]:
            raise ValueError(f"The mask of {name!r} is {truth.shape}, and what the model gives is {full.shape[:2]}.")
        if not np.isfinite(small).all():
            raise ValueError(f"The model gives no finite probability for image {name!r}; there is nothing to tune.")
        valid = np.ones(truth.shape, bool) if self.ignore_class is None else truth != self.ignore_class
        small_classes, small_passed = self._pixels(small)
        classes, passed = (small_classes, small_passed) if full is small else self._pixels(full)
        correct = valid & (truth == classes + 1)
        row = {
            "pixels": np.count_nonzero(valid),
            "true": np.array([np.count_nonzero(valid & (truth == k + 1)) for k in range(self.classes)]),
            "area": self._pixels_above(small_classes, small_passed),
            "predicted": self._pixels_above(classes[valid], passed[valid]),
            "overlap": self._pixels_above(classes[correct], passed[correct]),
        }
        if self.components:
            nearest = None if full is small else _nearest(small, full)
            counts = [
                self._components(
                    small_passed * (small_classes == k), passed * (valid & (classes == k)), correct, nearest
                )
                for k in range(self.classes)
            ]
            row["predicted_components"], row["overlap_components"] = np.stack(counts, axis=-1)
        row = {key: np.asarray(value, "int32") for key, value in row.items()}
        batch = ops.convert_to_tensor(small[None]), None if label is None else ops.convert_to_tensor(label[None])
        scores = [float(rule.scores(batch[0], label=batch[1])[0]) for rule in self._scorers.values()]
        self._rows.append({**row, "scores": np.array(scores, "float32")})
        self._stacked.clear()

    def scores(self, rule: DecisionRule) -> np.ndarray:
        """`(n,)` float32: score of each image by the kind of score of the rule."""
        return self._all("scores")[:, list(self._scorers).index((rule.score, rule.rank))]

    @property
    def largest_area(self) -> int:
        """Most pixels of a class in an image at the lowest threshold, at the resolution of the model."""
        return int(max(row["area"].max() for row in self._rows))

    def counts(self, rule: DecisionRule) -> Counts:
        """What the rule counts on every image.

        Args:
            rule: Its pixel threshold is one of `pixel_thresholds`, its score that of a rule this was made for; if it is
                of components, threshold and area are of `component_thresholds` and `component_areas`.

        Raises:
            ValueError: it is none of these.
        """
        if rule.per_component:
            at = self.component_thresholds.index(rule.pixel_threshold), self.component_areas.index(rule.min_area)
            predicted, overlap = (self._all(name)[at] for name in ("predicted_components", "overlap_components"))
        else:
            at = self.pixel_thresholds.index(rule.pixel_threshold)
            kept = self._all("area")[at] >= rule.min_area
            predicted, overlap = (self._all(name)[at] * kept for name in ("predicted", "overlap"))
        if rule.image_threshold is not None:
            found = (self.scores(rule) > np.float32(rule.image_threshold))[:, None]
            predicted, overlap = predicted * found, overlap * found
        parts = (self._all("true"), predicted, overlap, self._all("pixels"))
        return Counts(*(part.astype("int64") for part in parts))

    def _all(self, name: str) -> np.ndarray:
        """The entry of every image, images and classes last: `(…, n, F)`."""
        if name not in self._stacked:
            stacked = np.stack([row[name] for row in self._rows])
            if stacked.ndim > 2:
                stacked = np.ascontiguousarray(np.moveaxis(stacked, 0, -2))
            self._stacked[name] = stacked
        return self._stacked[name]

    def _pixels(self, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Likeliest foreground class of each pixel, from 0, and how many thresholds its share is above."""
        thresholds = np.array(self.pixel_thresholds)
        if probability.shape[-1] == 1:
            passed = np.searchsorted(thresholds.astype("float32"), probability[..., 0], side="left")
            return np.zeros(passed.shape, int), passed
        background, best = probability[..., 0], probability[..., 1:].max(axis=-1)
        share, rest = thresholds.astype("float32"), (1 - thresholds).astype("float32")
        passed = np.searchsorted(thresholds, best / (best.astype("float64") + background), side="left")
        while True:  # correct the quotient to what products in float32 say, as `DecisionRule` compares
            below, here = np.maximum(passed - 1, 0), np.minimum(passed, len(thresholds) - 1)
            more = (passed < len(thresholds)) & (best * rest[here] > background * share[here])
            less = (passed > 0) & ~(best * rest[below] > background * share[below])
            if not (more | less).any():
                return probability[..., 1:].argmax(axis=-1), passed
            passed = passed + more - less

    def _pixels_above(self, classes: np.ndarray, passed: np.ndarray) -> np.ndarray:
        """`(T, F)` pixels of each class that are above each threshold."""
        bins = len(self.pixel_thresholds) + 1
        histogram = np.bincount(classes.ravel() * bins + passed.ravel(), minlength=self.classes * bins)
        return _numbers_above(histogram.reshape(self.classes, bins)).T

    def _components(
        self, small: np.ndarray, full: np.ndarray, correct: np.ndarray, nearest: np.ndarray | None
    ) -> np.ndarray:
        """`(2, t, a)`: pixels of one class, and the correct ones of them, in components of at least each area.

        `small` and `full` say how many thresholds a pixel of the class is above, and 0 elsewhere.
        """
        counts = []
        for threshold in self.component_thresholds:
            index = self.pixel_thresholds.index(threshold)
            components, _ = ndimage.label(small > index, np.ones((3, 3)))
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            areas = sizes[components]
            if nearest is not None:  # pixels next to a component count as part of it
                areas = np.where(areas > 0, areas, ndimage.maximum_filter(areas, 3)).ravel()[nearest]
            for pixels in (full > index, (full > index) & correct):
                enough = np.searchsorted(self.component_areas, areas[pixels], side="right")
                counts.append(_numbers_above(np.bincount(enough, minlength=len(self.component_areas) + 1)))
        return np.stack([counts[0::2], counts[1::2]])


def _nearest(small: np.ndarray, full: np.ndarray) -> np.ndarray:
    """`(H, W)` position in the flat `(h, w)` of the pixel that `Resize` takes for nearest."""
    positions = np.moveaxis(np.mgrid[: small.shape[0], : small.shape[1]], 0, -1).astype("float32")
    resized = Resize(interpolation="nearest", dtype="float32")(ops.convert_to_tensor(positions[None]), like=full[None])
    rows, columns = np.moveaxis(ops.convert_to_numpy(resized)[0].astype(int), -1, 0)
    return rows * small.shape[1] + columns


def _numbers_above(histogram: np.ndarray) -> np.ndarray:
    """From `(…, n + 1)` how many have each number, `(…, n)` how many have a number above 0, above 1 and so on."""
    return histogram[..., ::-1].cumsum(axis=-1)[..., -2::-1]
