"""Cityscapes' layout: a directory for each split and city, masks of label ids."""

from collections.abc import Sequence
from pathlib import Path

from kerazoo.data.id_lists import IdList
from kerazoo.data.source import Source
from kerazoo.data.sources._label_values import label_values
from kerazoo.data.sources._pairing import directory
from kerazoo.data.sources.folder import folder

CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Label ids of the 19 classes that the benchmark evaluates. Cordts et al., 2016, https://arxiv.org/abs/1604.01685"""


def cityscapes(
    root: str | Path,
    *,
    split: str = "train",
    classes: Sequence[str] | None = None,
    void: str = "ignore",
    exclude: IdList | None = None,
) -> Source:
    """`leftImg8bit/SPLIT/CITY/X_leftImg8bit.png` with `gtFine/SPLIT/CITY/X_gtFine_labelIds.png`.

    The classes have ids 1 to 19 in the order of their label ids; with all of them, background (0) does not occur. The
    city is the group of an image, so that a split divides no city.

    Args:
        root: Directory with `leftImg8bit` and `gtFine`.
        split: "train", "val" or another directory below both; the masks of "test" are public for nobody.
        classes: Names of the classes to keep, in the order of their ids from 1; others are background. None keeps all.
        void: What the other label ids (unlabeled, ego vehicle, …) become: "ignore", id 255, or "background".
        exclude: Ids (`CITY/X`) to leave out: a list, or a file such as `kerazoo verify --fix` writes.

    Returns: The source, ordered by id. Labels are found by reading the masks once, on first use.

    Raises:
        FileNotFoundError: a directory or a mask is missing.
        ValueError: a class is unknown, or there is no image. Later, when a sample or the labels are first used: a file
            is corrupt, sizes differ, or a mask has values that are no classes.
    """
    root = directory(root, "root")
    table = [(value, CLASSES.get(value)) for value in (*range(34), 255)]  # licence plates are -1, which is 255
    values, names = label_values(table, classes=classes, void=void)
    return folder(
        directory(root / "leftImg8bit" / split, "split"),
        masks=directory(root / "gtFine" / split, "split"),
        image_suffix="_leftImg8bit.png",
        mask_suffix="_gtFine_labelIds.png",
        mask_values=values,
        classes=names,
        ignore_class=255 if void == "ignore" else None,
        groups=lambda id: id.partition("/")[0],
        exclude=exclude,
    )
