"""Small data sets on disk and in memory for the tests of `kerazoo.data`."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source


def figure(height=32, width=48):
    """`(height, width)` bool: an F off the center, which no flip, turn or shift maps onto itself."""
    mask = np.zeros((height, width), bool)
    top, left = height // 6, width // 8
    mask[top : height - 4, left : left + 4] = True
    mask[top : top + 4, left : width // 2] = True
    mask[height // 2 : height // 2 + 3, left : width // 3] = True
    return mask


def write(path, pixels, **options):
    """Save pixels as an image file, with its directories."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def write_pair(root, name, mask, *, suffix=".jpg", scale=255):
    """An image that is bright where `mask` is, and the mask beside it as PNG with values × `scale`."""
    image = np.where(mask > 0, 220, 30).astype(np.uint8)
    write(Path(root) / f"{name}{suffix}", image, **({"quality": 95} if suffix == ".jpg" else {}))
    write(Path(root) / f"{name}.png", (np.asarray(mask, np.uint8) * scale).astype(np.uint8))


@dataclass(frozen=True, kw_only=True)
class Arrays(Reader):
    """A reader of arrays in memory that counts what it is asked for."""

    images: np.ndarray
    masks: np.ndarray
    num_classes: int = 1
    groups: tuple | None = None
    ignore_class: int | None = None
    version: str = "1"
    names: tuple | None = None
    reads: dict = field(default_factory=lambda: {"image": 0, "mask": 0})

    @property
    def ids(self):
        return tuple(f"sample-{i:03d}" for i in range(len(self.images)))

    @property
    def class_names(self):
        return self.names or tuple(f"class_{k}" for k in range(self.num_classes))

    @property
    def facts(self):
        shown = np.stack([[(mask == k).any() for k in range(max(self.num_classes, 2))] for mask in self.masks])
        shown[:, 0] = ~shown[:, 1:].any(axis=1)
        labels = shown[:, 1:] if self.num_classes == 1 else shown
        return Facts(labels, np.stack([image.shape for image in self.images]))

    def image(self, index):
        self.reads["image"] += 1
        return self.images[index]

    def mask(self, index):
        self.reads["mask"] += 1
        return self.masks[index]

    def fingerprint(self, index):
        return self.version


def arrays(n=12, *, positives=4, size=(16, 16), dtype=np.uint8, channels=1, **fields):
    """A source whose image i is filled with the value i, and whose first `positives` masks have foreground."""
    images = np.stack([np.full((*size, channels), i, dtype) for i in range(n)])
    masks = np.zeros((n, *size), np.uint8)
    masks[:positives, 2:5, 3:9] = 1
    return Source(Arrays(images=images, masks=masks, **fields))


def labeled(labels, groups=None):
    """A source of 1×1 images, one for each label: 0 is empty, k shows class k."""
    masks = np.asarray(labels, np.uint8).reshape(-1, 1, 1)
    classes = 1 if masks.max() <= 1 else int(masks.max()) + 1
    images = np.zeros((len(masks), 1, 1, 1), np.uint8)
    return Source(Arrays(images=images, masks=masks, num_classes=classes, groups=groups))


class Faulty:
    """A function of an item that can be sent to other processes, and is faulty there."""

    def __call__(self, item):
        if item == 3:
            raise ValueError("Cannot read b.png: it is truncated.")
        if item == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return item
