"""Pascal VOC's layout: JPEG images, masks with a palette, lists of the images of each split."""

from collections.abc import Sequence
from pathlib import Path

from kerazoo.data.faults import DataError
from kerazoo.data.id_lists import IdList
from kerazoo.data.source import Source
from kerazoo.data.sources._label_values import label_values
from kerazoo.data.sources._pairing import directory
from kerazoo.data.sources.folder import folder

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The 20 classes, ids from 1 on. Everingham et al., 2010, https://doi.org/10.1007/s11263-009-0275-4"""

VOID = 255


def voc(
    root: str | Path,
    *,
    split: str | None = "trainval",
    mask_directory: str = "SegmentationClass",
    classes: Sequence[str] | None = None,
    void: str = "ignore",
    exclude: IdList | None = None,
) -> Source:
    """A directory with `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation`, as VOC2012 and exports have it.

    Masks are read by the index of their palette, or, where they were saved in color, by VOC's colors. If the
    directory has a `labelmap.txt`, as CVAT writes it, that says which classes and colors there are.

    Args:
        root: The directory, such as VOCdevkit/VOC2012.
        split: Name of a list in `ImageSets/Segmentation`; None takes every image that has a mask.
        mask_directory: Name of the directory of the masks.
        classes: Names of the classes to keep, in the order of their ids from 1; others are background. None keeps all.
        void: What the value 255, drawn around objects, becomes: "ignore", pixels that count nowhere, or "background".
        exclude: Ids to leave out: a list, or a file such as `kerazoo verify --fix` writes.

    Returns: The source, ordered by id. Labels are found by reading the masks once, on first use.

    Raises:
        FileNotFoundError: a directory or the list is missing, or an image of the list has no mask.
        ValueError: a class is unknown, or the list names an image that is not there. Later, when a sample or the labels
            are first used: a file is corrupt, sizes differ, or a mask has values that are no classes.
    """
    root = directory(root, "root")
    images, mask_root = (directory(root / name, "root") for name in ("JPEGImages", mask_directory))
    table = _label_map(root / "labelmap.txt") if (root / "labelmap.txt").is_file() else _standard()
    values, names = label_values(table, classes=classes, void=void)
    if split is None:
        include: IdList = sorted({path.stem for path in mask_root.glob("*.png")} & {p.stem for p in images.iterdir()})
    else:
        include = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not include.is_file():
            known = sorted(path.stem for path in include.parent.glob("*.txt"))
            raise FileNotFoundError(f"There is no list {include}; `split` is None or one of {known}.")
    return folder(
        images,
        masks=mask_root,
        mask_values=values,
        classes=names,
        ignore_class=VOID if void == "ignore" else None,
        include=include,
        exclude=exclude,
    )


def colors(count: int = 256) -> list[tuple[int, int, int]]:
    """VOC's color of each index: the bits of the index, spread over red, green and blue from the highest bit down."""
    return [
        (
            sum((index >> 3 * bit & 1) << 7 - bit for bit in range(3)),
            sum((index >> 3 * bit + 1 & 1) << 7 - bit for bit in range(3)),
            sum((index >> 3 * bit + 2 & 1) << 7 - bit for bit in range(3)),
        )
        for index in range(count)
    ]


def _standard() -> list[tuple[int | tuple[int, int, int], str | None]]:
    """Values and colors of the masks with the names of their classes; None is void."""
    names = [*enumerate(("background", *CLASSES)), (VOID, None)]
    palette = colors()
    return [*names, *((palette[index], name) for index, name in names)]


def _label_map(path: Path) -> list[tuple[int | tuple[int, int, int], str | None]]:
    """Lines `name:red,green,blue:…` of CVAT: the index of a class is its line, its color the second field."""
    table: list[tuple[int | tuple[int, int, int], str | None]] = [(VOID, None)]
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    for index, line in enumerate(lines):
        name, *fields = line.split(":")
        try:
            red, green, blue = (int(number) for number in fields[0].split(","))
        except (IndexError, ValueError) as error:
            raise DataError(f"{path} has the line {line!r}; a line is name:red,green,blue::") from error
        table += [(index, name), ((red, green, blue), name)]
    return table
