"""One image with its mask: what a source gives and the pipeline takes."""

from typing import NamedTuple

import numpy as np

VALUE_RANGE = (0.0, 255.0)
"""Black and white of images of uint8 and float32, unless their source says otherwise."""


class Sample(NamedTuple):
    """An image, its mask and its name.

    Attributes:
        image: `(H, W, C)`; uint8 or uint16 as stored, or float32. uint8 is in 0-255, uint16 in 0-65535, and float32
            in 0-255 or the `value_range` of the source.
        mask: `(H, W)` uint8 class ids: {0, 1} if the source has one class, else 0 (background) to num_classes - 1, and
            the source's `ignore_class` where it has one.
        id: Name of the sample, unique in its source.
    """

    image: np.ndarray
    mask: np.ndarray
    id: str
