"""The interface between a data set and `Source`: what every reader supplies, and what it may supply besides."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from kerazoo.data.sample import VALUE_RANGE


class Facts(NamedTuple):
    """What is known of every image of a reader without holding any of them.

    Attributes:
        labels: `(n, num_classes)` bool: which classes the image shows. With one class: does it have foreground. With
            more, column 0 says that the image is empty (background only) and column k that class k is there.
        shapes: `(n, 3)` int: height, width, channels; or a function that gives them (the same each time), for formats
            that know the labels before they have opened an image.
        warnings: `(index, sentence)` pairs; index None speaks of the set as a whole.
    """

    labels: np.ndarray
    shapes: np.ndarray | Callable[[], np.ndarray]
    warnings: tuple[tuple[int | None, str], ...] = ()


class Reader(Protocol):
    """Reads the images and masks of a data set; `Source(reader)` adds splits, subsets, labels and all else.

    A reader of your own inherits this class, so that what it does not define has the default.

    Attributes:
        ids: Unique names, in a fixed order.
        num_classes: 1, or the number of classes with the background.
        class_names: One name per class; with more than one class the first is the background's.
        facts: `Facts`, computed on first use and kept.
        groups: What a split must not divide (patient, tile), one per image; None by default.
        ignore_class: Mask id of pixels that count nowhere; None by default.
        value_range: Black and white of the images; (0, 255) by default.
        has_masks: False if there are image labels alone; True by default.
        orphans: Files or records of no sample, a sentence each; none by default.
    """

    ids: Sequence[str]
    num_classes: int
    class_names: tuple[str, ...]
    facts: Facts
    groups: Sequence[str] | None = None
    ignore_class: int | None = None
    value_range: tuple[float, float] = VALUE_RANGE
    has_masks: bool = True
    orphans: Sequence[str] = ()

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Decode an image: `(H, W, C)`, uint8 or uint16 as stored, or float32 in `value_range`."""
        ...

    @abstractmethod
    def mask(self, index: int) -> np.ndarray:
        """Decode a mask: `(H, W)` uint8 class ids."""
        ...

    @abstractmethod
    def fingerprint(self, index: int) -> str:
        """A text that changes when the image, its mask or their interpretation may have changed; cheap to compute."""
        ...

    @property
    def expects_foreground(self) -> np.ndarray | None:
        """`(n,)` bool: something besides the mask, as a directory's name, says that there is foreground.

        None if only the other images of a directory can tell. By default False for all: empty images are ordinary.
        """
        return np.zeros(len(self.ids), bool)
