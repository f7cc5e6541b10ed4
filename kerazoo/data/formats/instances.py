"""Outlined and run-length coded objects, as COCO stores them, and the pixels they cover.

pycocotools draws polygons and decodes runs in C, which trusts what it is given: here everything is checked before.
"""

import hashlib
import importlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kerazoo.data.faults import DataError

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused, as Pillow does: a damaged header would otherwise take all memory."""

_MAX_OUTLINE = 5_000_000  # pixels along a polygon; its memory is in proportion
_CHARACTERS = 7  # of one run length; 5 bits each
_SLIVER = 2.0  # a polygon that is thinner, in pixels, may cover none
_MARGIN = 1.0  # pixels by which outlines may leave the image without a word


class Runs(NamedTuple):
    """Run lengths in column-major order, background first: the numbers, or their compressed form."""

    counts: Sequence[int] | str


class Instances:
    """Objects of a data set, in the order in which they are added; polygons share one array.

    All are added before any is looked at.

    Attributes:
        names: What errors call each object.
    """

    def __init__(self):
        self.names: list[str] = []
        self._images, self._labels, self._crowd = array("q"), array("B"), array("b")
        self._runs: dict[int, Runs] = {}
        self._points = array("d")
        self._ends = array("q", [0])  # of polygons, in numbers of `_points`
        self._owners = array("q")

    def add(self, image: int, label: int, crowd: bool, name: str, segmentation: Any, size: tuple[int, int]) -> None:
        """Add an object of the image number `image`, which is `size` = (height, width).

        Raises:
            DataError: the segmentation is neither polygons nor runs of that size; nothing is added.
        """
        if isinstance(segmentation, dict):
            self._runs[len(self.names)] = _runs(segmentation, name, size)
        else:
            for polygon in _polygons(segmentation, name):
                self._points.extend(polygon)
                self._ends.append(len(self._points))
                self._owners.append(len(self.names))
        self._images.append(image)
        self._labels.append(label)
        self._crowd.append(crowd)
        self.names.append(name)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def images(self) -> np.ndarray:
        """`(n,)` int64: index of the image of each object."""
        return np.array(self._images, np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        """`(n,)` uint8: class id of each object."""
        return np.array(self._labels, np.uint8)

    @cached_property
    def crowd(self) -> np.ndarray:
        """`(n,)` bool: whether an object is a region with many objects."""
        return np.array(self._crowd, bool)

    def of(self, image: int) -> np.ndarray:
        """Numbers of the objects of an image, in the order of the file."""
        order, starts = self._by_image
        return order[starts[image] : starts[image + 1]] if image + 1 < len(starts) else order[:0]

    def check(self, sizes: np.ndarray) -> tuple[list[tuple[int, DataError]], list[tuple[int, str]]]:
        """Compare every polygon with its image.

        Args:
            sizes: `(images, 2)`: height and width.

        Returns: Faults and warnings, each with the index of its image.
        """
        faults: list[tuple[int, DataError]] = []
        warnings: list[tuple[int, str]] = []
        if not len(self._owners):
            return faults, warnings
        owners = np.array(self._owners)
        height, width = sizes[self.images[owners]].T
        low, high, outline, finite = self._extent
        over = np.maximum(np.maximum(-low, high - np.stack([width, height], 1)), 0)
        ways = {
            "has a coordinate that is no finite number": ~finite,
            "lies outside the image": (high <= 0).any(1) | (low[:, 0] >= width) | (low[:, 1] >= height),
            "leaves the image by more than its size: it was drawn in another image, or in other units": (
                over > np.stack([width, height], 1)
            ).any(1),
            "has an outline longer than any figure of the image": outline
            > np.minimum(4.0 * height * width + 1000, _MAX_OUTLINE),
        }
        told = np.zeros(len(owners), bool)
        for what, where in ways.items():
            for polygon in np.flatnonzero(where & ~told).tolist():
                owner = int(owners[polygon])
                box = f"x {low[polygon, 0]:g} to {high[polygon, 0]:g}, y {low[polygon, 1]:g} to {high[polygon, 1]:g}"
                text = (
                    f"A polygon of {self.names[owner]} {what}: {box}, in an image of "
                    f"{height[polygon]}x{width[polygon]} (height x width). Correct it, or exclude the image."
                )
                faults.append((int(self.images[owner]), DataError(text, "outside")))
            told |= where
        for polygon in np.flatnonzero((over > _MARGIN).any(1) & ~told).tolist():
            owner = int(owners[polygon])
            far = over[polygon].max()
            text = f"A polygon of {self.names[owner]} leaves the image by {far:g} pixels; it is cut off."
            warnings.append((int(self.images[owner]), text))
        return faults, warnings

    def slivers(self) -> np.ndarray:
        """Numbers of the objects of which every polygon is so thin that it may cover no pixel."""
        if not len(self._owners):
            return np.empty(0, np.int64)
        low, high, _, _ = self._extent
        wide = ((high - low) >= _SLIVER).all(1)
        owners = np.array(self._owners)
        return np.setdiff1d(owners, owners[wide])

    def encode(self, number: int, size: tuple[int, int]) -> dict[str, Any]:
        """The object as pycocotools keeps it, `{"size", "counts"}`, checked.

        Args:
            number: Of the object.
            size: (height, width) of its image; polygons must have passed `check`.

        Raises:
            DataError: run lengths are damaged or do not fill the image.
        """
        coder, (height, width) = _coder(), size
        if number in self._runs:
            counts = self._runs[number].counts
            checked = _decoded(counts, self.names[number]) if isinstance(counts, str) else [*counts]
            _fills(checked, self.names[number], size)
            return coder.frPyObjects({"size": [height, width], "counts": checked}, height, width)
        first, last = self._range(number)
        polygons = [self._points[self._ends[k] : self._ends[k + 1]].tolist() for k in range(first, last)]
        return coder.merge(coder.frPyObjects(polygons, height, width))

    def describe(self, number: int) -> str:
        """Everything of the object that its pixels depend on."""
        first, last = self._range(number)
        points = self._points[self._ends[first] : self._ends[last]].tobytes()
        ends = self._ends[first : last + 1].tolist()
        digest = hashlib.sha256(points + repr((ends, self._runs.get(number))).encode()).hexdigest()
        return f"{self._labels[number]} {self._crowd[number]} {digest}"

    def _range(self, number: int) -> tuple[int, int]:
        return bisect_left(self._owners, number), bisect_left(self._owners, number + 1)

    @cached_property
    def _by_image(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.images, kind="stable")
        last = int(self.images.max(initial=-1)) + 1
        return order, np.searchsorted(self.images[order], np.arange(last + 1))

    @cached_property
    def _extent(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each polygon: least and greatest (x, y), length of the outline in pixels, and are all numbers finite."""
        points = np.array(self._points).reshape(-1, 2)
        starts = np.array(self._ends)[:-1] // 2
        finite = np.logical_and.reduceat(np.isfinite(points).all(1), starts)
        points = np.clip(np.nan_to_num(points), -1e12, 1e12)
        steps = np.abs(np.diff(points, axis=0, append=points[-1:])).max(1)
        steps[starts[1:] - 1] = 0  # from one polygon to the next
        return (
            np.minimum.reduceat(points, starts),
            np.maximum.reduceat(points, starts),
            np.add.reduceat(steps, starts),
            finite,
        )


def decode(encoded: dict[str, Any]) -> np.ndarray:
    """`(H, W)` bool: the pixels of what `Instances.encode` gives."""
    return _coder().decode(encoded) > 0


def areas(encoded: Sequence[dict[str, Any]]) -> np.ndarray:
    """`(n,)` int64: numbers of pixels."""
    return _coder().area(list(encoded)).astype(np.int64) if encoded else np.empty(0, np.int64)


def _coder() -> Any:
    return importlib.import_module("pycocotools.mask")


def _polygons(segmentation: Any, name: str) -> list["array[float]"]:
    """The coordinates of each polygon, x and y in turn.

    Raises:
        DataError: they are none.
    """
    if not isinstance(segmentation, list) or not segmentation:
        what = "a box alone" if not segmentation else f"a {type(segmentation).__name__}"
        raise DataError(
            f"The segmentation of {name} is {what}; a mask needs polygons [[x, y, …], …] or run lengths.", "annotation"
        )
    polygons = []
    for polygon in segmentation:
        if not isinstance(polygon, list):
            raise DataError(
                f"The segmentation of {name} is no list of polygons [[x, y, …], …]: it holds {str(polygon)[:40]}.",
                "annotation",
            )
        if len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"A polygon of {name} has {len(polygon)} numbers; it needs x and y of at least three points.",
                "annotation",
            )
        try:
            polygons.append(array("d", polygon))
        except (TypeError, OverflowError) as error:
            raise DataError(
                f"A polygon of {name} has a coordinate that is no number: {error}.", "annotation"
            ) from error
    return polygons


def _runs(segmentation: dict[str, Any], name: str, size: tuple[int, int]) -> Runs:
    counts, said = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(said, list) or len(said) != 2 or not isinstance(counts, str | list):
        raise DataError(
            f'The segmentation of {name} must be {{"size": [height, width], "counts": …}}, received the keys '
            f"{sorted(map(str, segmentation))[:5]}.",
            "annotation",
        )
    if said != list(size):
        turned = " It is [width, height]; COCO has the height first." if said == [size[1], size[0]] else ""
        raise DataError(
            f"The run lengths of {name} are of size {str(said)[:40]}, and its image is {size[0]}x{size[1]} (height x "
            f"width).{turned}",
            "size",
        )
    if isinstance(counts, list):
        wrong = [run for run in counts if isinstance(run, bool) or not isinstance(run, int) or run < 0]
        if wrong:
            raise DataError(
                f"The run lengths of {name} must be whole numbers of at least 0, received {str(wrong[0])[:40]}.",
                "annotation",
            )
        _fills(counts, name, size)
        return Runs(array("I", counts))
    return Runs(counts)


def _decoded(text: str, name: str) -> list[int]:
    """Run lengths of COCO's compressed form: 5 bits a character, each number less the one before the last.

    Raises:
        DataError: the text is no such form.
    """
    counts: list[int] = []
    value = position = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or position >= _CHARACTERS:
            raise DataError(f"The compressed run lengths of {name} are damaged at {text[:20]!r}….", "annotation")
        value |= (bits & 31) << (5 * position)
        position += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << (5 * position)
        if len(counts) > 2:
            value += counts[-2]
        if value < 0:
            raise DataError(f"The compressed run lengths of {name} hold the negative number {value}.", "annotation")
        counts.append(value)
        value = position = 0
    if position:
        raise DataError(f"The compressed run lengths of {name} end in the middle of a number.", "annotation")
    return counts


def _fills(counts: Sequence[int], name: str, size: tuple[int, int]) -> None:
    covered, pixels = sum(counts), size[0] * size[1]
    if covered != pixels:
        what = "run outside the image" if covered > pixels else "end before the image does"
        raise DataError(
            f"The run lengths of {name} {what}: they cover {covered} pixels, and the image has {size[0]}x{size[1]} = "
            f"{pixels}.",
            "outside",
        )
