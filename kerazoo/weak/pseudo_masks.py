"""Masks from class maps, as a source that any segmenter can be trained on."""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from PIL import Image

from kerazoo.data import Source
from kerazoo.data.reader import Facts, Reader
from kerazoo.weak.maps import check_classes, class_maps
from kerazoo.weak.thresholds import Threshold

STAMP = "pseudo_masks.json"
IMAGE, MASK = ".png", "_mask.png"  # ends of file names


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoMasks(Reader):
    """Reader of the images of a source with other masks, which are held compressed.

    Attributes:
        source: Where the images come from; its masks are never opened.
        masks: `(height, width, compressed uint8 ids)` of each image.
        labels: `(n, num_classes)` of these masks.
        made: What they were made with.
    """

    source: Source
    masks: Sequence[tuple[int, int, bytes]] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    made: dict[str, Any]

    @property
    def ids(self) -> Sequence[str]:
        return self.source.ids

    @property
    def num_classes(self) -> int:
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def groups(self) -> Sequence[str] | None:
        return self.source.groups

    @property
    def ignore_class(self) -> int | None:
        """None: every pixel has a class."""
        return None

    @property
    def value_range(self) -> tuple[float, float]:
        return self.source.value_range

    @property
    def facts(self) -> Facts:
        """Labels are those of the new masks."""
        shapes = np.array([(*mask[:2], channels) for mask, channels in zip(self.masks, self.channels, strict=True)])
        return Facts(self.labels, shapes)

    @property
    def channels(self) -> list[int]:
        """Of each image."""
        return self.source.shapes[:, 2].tolist()

    def image(self, index: int) -> np.ndarray:
        return self.source.image(index)

    def mask(self, index: int) -> np.ndarray:
        """`(H, W)` uint8 class ids from the class maps."""
        height, width, data = self.masks[index]
        return np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, width)

    def fingerprint(self, index: int) -> str:
        """Changes with the image and with the mask."""
        return f"{self.source.subset([index]).fingerprint}-{zlib.crc32(self.masks[index][2])}"


def pseudo_masks(
    model: keras.Model,
    source: Source,
    *,
    threshold: float | Threshold,
    labels: Literal["given", "predicted"] = "given",
    refine: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
    to: str | Path | None = None,
    batch_size: int = 8,
    **options: Any,
) -> Source:
    """Make masks of the class maps of a source.

    A pixel is of the class whose map is highest there, if that is above the threshold and the image shows the class;
    else it is background.

    Args:
        model: Of `cam_alpha` or `cam_beta`, or any segmenter.
        source: Images with labels; their masks are never opened.
        threshold: Of `choose_threshold`, which also says what the maps are; a number is for maps of "sigmoid".
        labels: "given": classes that an image is known not to show get no pixel, and one that it shows and that nothing
            is above the threshold of gets the pixels where its map is highest. "predicted" asks the maps alone.
        refine: Function of the image `(H, W, C)`, the maps `(H, W, F)` in [0, 1] of the foreground classes and the mask
            `(H, W)`, that gives a better mask, such as `kerazoo.weak.random_walk`; None leaves masks as they are.
        to: Directory to write image and mask files to, with `pseudo_masks.json`, which says what they were made with:
            `kerazoo train` takes it as the data of a folder source with `mask_suffix="_mask.png"`. None keeps masks in
            memory.
        batch_size: Images in a batch.
        **options: `scales`, `tta` and `image_size` of `class_maps`; by default those of the threshold.

    Returns: a source of the same images, ids and groups with these masks.

    Raises:
        ValueError: an argument is unknown, the threshold is not in [0, 1], the model has other classes than the source,
            or with `to` the names of two files clash or a PNG does not hold an image.
        FileExistsError: `to` has files in it.
    """
    if labels not in ("given", "predicted"):
        raise ValueError(f"`labels` must be 'given' or 'predicted', received {labels!r}.")
    if not isinstance(threshold, Threshold):
        threshold = Threshold(value=float(threshold), normalize="sigmoid", using="argument")
    if not 0 <= threshold.value <= 1:
        raise ValueError(f"`threshold` must be in [0, 1], received {threshold.value}.")
    check_classes(model, source)
    options = {**threshold.options, **options}
    made = {"threshold": threshold.to_dict(), "labels": labels, "refined": refine is not None, "options": options}
    directory = None if to is None else _Directory(Path(to), source)
    given, masks = source.labels if labels == "given" else None, []
    mask_labels = np.zeros((len(source), source.num_classes), bool)
    maps = class_maps(model, source, normalize=threshold.normalize, batch_size=batch_size, **options)
    for index, output in enumerate(maps):
        foreground = output.maps if source.num_classes == 1 else output.maps[..., 1:]
        label = None if given is None else given[index] if source.num_classes == 1 else given[index, 1:]
        mask = mask_of(foreground, threshold.value, label)
        if refine is not None:
            mask = refine(source.image(index), foreground, mask).astype(np.uint8)
        masks.append((*mask.shape, zlib.compress(mask.tobytes(), 1)))
        if source.num_classes == 1:
            mask_labels[index] = mask.any()
        else:
            mask_labels[index, 1:] = np.isin(range(1, source.num_classes), mask)
            mask_labels[index, 0] = not mask.any()
        if directory is not None:
            directory.write(index, mask)
    if directory is not None:
        directory.stamp(made)
    return Source(PseudoMasks(source=source, masks=masks, labels=mask_labels, made=made))


def mask_of(maps: np.ndarray, threshold: float, label: np.ndarray | None = None) -> np.ndarray:
    """Class ids from maps.

    Args:
        maps: `(H, W, F)` of the foreground classes.
        threshold: What a map must be above.
        label: `(F,)` bool, which classes the image shows; None if that is not known.

    Returns: `(H, W)` uint8: 0, or 1 + the index of the highest map.
    """
    if label is not None:
        maps = np.where(label, maps, -np.inf)
    above = maps > threshold
    best = np.where(above, maps, -np.inf)
    if label is not None:
        for k in np.flatnonzero(label & ~above.any(axis=(0, 1))):
            peak = maps[..., k] >= maps[..., k].max()
            above[peak, k], best[peak, k] = True, np.inf  # also where another class is higher
    return np.where(above.any(axis=-1), 1 + best.argmax(axis=-1), 0).astype(np.uint8)


class _Directory:
    """Files of pseudo-masks: `<name>.png` and `<name>_mask.png`, class ids."""

    def __init__(self, path: Path, source: Source):
        if path.exists() and any(path.iterdir()):
            raise FileExistsError(f"{path} has files in it. Write the pseudo-masks to a new directory.")
        self.path, self.source = path, source
        self.names = [re.sub(r"[^\w.-]+", "_", name) for name in source.ids]
        if len({name + end for name in self.names for end in (IMAGE, MASK)}) < 2 * len(self.names):
            raise ValueError(
                "Two files would get the same name: images end in '.png' and masks in '_mask.png', and of their ids "
                "only letters, digits, '.', '_' and '-' are kept. Rename the images, or leave `to` out."
            )
        path.mkdir(parents=True, exist_ok=True)

    def write(self, index: int, mask: np.ndarray) -> None:
        image = self.source.image(index)
        if (image.dtype.name, image.shape[-1]) not in (("uint8", 1), ("uint8", 3), ("uint16", 1)):
            raise ValueError(
                f"Image {self.source.id(index)!r} is {image.dtype} with {image.shape[-1]} channels; files of "
                "pseudo-masks hold uint8 with 1 or 3 channels, or uint16 with 1. Leave `to` out: the source that is "
                "returned can be trained on."
            )
        name = self.path / self.names[index]
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(f"{name}{IMAGE}")
        Image.fromarray(mask).save(f"{name}{MASK}")

    def stamp(self, made: dict[str, Any]) -> None:
        text = json.dumps({**made, "classes": list(self.source.class_names)}, indent=2)
        (self.path / STAMP).write_text(text + "\n", encoding="utf-8")
