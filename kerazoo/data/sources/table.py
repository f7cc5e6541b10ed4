"""A CSV or Parquet file with a row for each image: its path, and its mask's, or its labels, or both."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerazoo.data.faults import DataError, MissingError, raise_all
from kerazoo.data.formats.images import check_intensity_range, read_header
from kerazoo.data.id_lists import IdList, read_ids
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source
from kerazoo.data.sources._mask_rule import MaskRule, count_classes
from kerazoo.data.sources._pairing import Pairs, directory, without_suffix
from kerazoo.data.sources.folder import Folder
from kerazoo.data.threads import in_threads
from kerazoo.requires import require

_BACKGROUND = ("", "0", "false", "none", "nan", "no", "background", "empty", "normal")
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no", "nan", "none")


def table(
    path: str | Path,
    *,
    root: str | Path | None = None,
    image: str = "image",
    mask: str | None = None,
    label: str | Sequence[str] | None = None,
    separator: str = "|",
    id: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    mask_values: Mapping[int | tuple[int, int, int], int] | None = None,
    mask_threshold: float | None = None,
    ignore_class: int | None = None,
    exclude: IdList | None = None,
    exif_orientation: bool = True,
    intensity_range: tuple[float, float] | None = None,
) -> Source:
    """Images with masks, with labels or with both, as the rows of a table name them.

    With a column of labels the labels of the source come from it, and no mask is opened for them. Without a column of
    masks the source is one of image labels alone: `mask` and indexing are errors, `image` and `labels` are not.

    Args:
        path: The file: Parquet if its name ends in .parquet (needs the extra `parquet`), else CSV with a header; TSV if
            it ends in .tsv.
        root: Directory that paths in the table are relative to; None means the table's own.
        image: Column of the images' paths.
        mask: Column of the masks' paths, an empty one for an image without foreground; None means no masks.
        label: Column with the name of each image's class, or several between `separator`; nothing, 0, "none",
            "background", "empty" or "normal" is empty. Or columns with 0 or 1 each, which are named as the classes are.
        separator: Between the names in one label.
        id: Column of the ids; None means the images' paths without suffix.
        group: Column of what a split must not divide (the patient), or None.
        classes: Names of the foreground classes, ids from 1 on. None means the columns of `label`, or every name in it,
            sorted; a single column of 0 and 1 is one class with the column's name.
        num_classes: 1, or K ≥ 2 with the background. None means what `classes` or `mask_values` say, else 1.
        mask_values: Class id of each value in mask files, or of each color; None means that the values are ids.
        mask_threshold: Foreground is where the mask is greater: for anti-aliased or JPEG-compressed masks.
        ignore_class: Mask id, at most 255, of pixels that count nowhere; allowed beside the classes.
        exclude: Ids to leave out: a list, or a file such as `kerazoo verify --fix` writes.
        exif_orientation: Turn images and masks as their EXIF tag says.
        intensity_range: Image values (low, high) that become 0 and 255, as float32, clipped; None leaves them.

    Returns: The source, in the order of the rows.

    Raises:
        FileNotFoundError: the table is missing, or an image or a mask of a row.
        ModuleNotFoundError: the table is Parquet, and pyarrow is not installed.
        ValueError: the table is damaged, a column is not there, two rows have one id, a label is no class, or neither
            `mask` nor `label` is given. Later, when a sample or the labels are first used: a file is corrupt, sizes
            differ, or a mask has values that are no classes.
    """
    path, place = Path(path), directory(Path(path).parent if root is None else root, "root")
    intensity_range = check_intensity_range(intensity_range)
    if mask is None and label is None:
        raise ValueError("A table needs the column of masks, of labels, or both: pass `mask` or `label`.")
    columns = _read(path)
    labels = (label,) if isinstance(label, str) else tuple(label or ())
    for argument, names in {
        "image": (image,),
        "mask": (mask,),
        "label": labels,
        "id": (id,),
        "group": (group,),
    }.items():
        for name in names:
            if name is not None and name not in columns:
                raise ValueError(f"{path} has no column {name!r}; it has {list(columns)}. Correct `{argument}`.")
    blank = [row for row, text in enumerate(columns[image], start=1) if not text]
    if blank:
        raise ValueError(f"{path} names no image in {len(blank)} rows. The first is row {blank[0]} after the header.")
    ids = columns[id] if id is not None else [without_suffix(text) for text in columns[image]]
    out = read_ids(exclude, "exclude")
    rows = [row for row, name in enumerate(ids) if name not in out]
    if not rows:
        raise ValueError(f"{path} has no row" + (", once those that are excluded are left out." if ids else "."))
    columns = {name: [values[row] for row in rows] for name, values in columns.items()}
    ids = tuple(ids[row] for row in rows)
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f"{path} has two rows with the id {twice!r}. Name a column of ids that differ with `id`.")
    shown, names = (None, classes) if not labels else _labels(path, columns, labels, separator, classes)
    count = count_classes(num_classes, names, mask_values, ignore_class)
    masks = tuple(text or None for text in columns[mask]) if mask is not None else (None,) * len(ids)
    _check_files(path, place, ids, columns[image], masks)
    pixels = Folder(
        root=place,
        mask_root=place,
        pairs=Pairs(ids, tuple(columns[image]), masks, ()),
        rule=MaskRule(
            num_ids=max(count, 2),
            values=None if mask_values is None else tuple(mask_values.items()),
            threshold=mask_threshold,
            ignore_class=ignore_class,
        ),
        by_directory=False,
        classes=None if names is None else tuple(names),
        asked=count,
        groups=None if group is None else tuple(columns[group]),
        exif_orientation=exif_orientation,
        intensity_range=intensity_range,
    )
    if shown is None:
        return Source(pixels)
    shown = shown if count > 1 else shown[:, 1:]
    return Source(Labeled(pixels=pixels, labels=shown, has_masks=mask is not None))


@dataclass(frozen=True, kw_only=True)
class Labeled(Reader):
    """Reads files of images whose labels are known without their masks; `table` makes it.

    Args:
        pixels: Where images and masks come from.
        labels: `(n, num_classes)` bool, with more than one class column 0 for empty images.
        has_masks: Whether there are masks.
    """

    pixels: Folder
    labels: np.ndarray
    has_masks: bool

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the images."""
        return self.pixels.ids

    @property
    def num_classes(self) -> int:
        """Number of classes that was asked for."""
        return self.pixels.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the labels name."""
        return self.pixels.class_names

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Column of groups, or None."""
        return self.pixels.groups

    @property
    def ignore_class(self) -> int | None:
        """Ignored id of the masks, or None."""
        return self.pixels.ignore_class

    @property
    def facts(self) -> Facts:
        """Labels of the table; shapes when they are asked for."""
        return Facts(self.labels, self._all_shapes)

    def image(self, index: int) -> np.ndarray:
        """Decode the image file."""
        return self.pixels.image(index)

    def mask(self, index: int) -> np.ndarray:
        """Decode the mask file; an error where there are labels alone."""
        if not self.has_masks:
            raise ValueError(
                f"{self.ids[index]!r} has an image label and no mask. Take `source.image` and `source.labels`, or "
                'outputs="label" in `pipeline`; masks need the `mask` column of the table.'
            )
        return self.pixels.mask(index)

    def fingerprint(self, index: int) -> str:
        """Changes with the files, the labels and how they are read."""
        return f"{self.pixels.fingerprint(index)} {np.flatnonzero(self.labels[index]).tolist()} {self.has_masks}"

    def _all_shapes(self) -> np.ndarray:  # a method, unlike a lambda, can be pickled for other processes
        return self._shapes

    @cached_property
    def _shapes(self) -> np.ndarray:
        def shape(index: int) -> tuple[int, int, int] | Exception:
            file = self.pixels.root / self.pixels.pairs.images[index]
            try:
                return read_header(file, exif_orientation=self.pixels.exif_orientation).shape
            except (ValueError, OSError) as error:
                return error

        shapes = [*in_threads(shape, range(len(self.ids)))]
        raise_all([one for one in shapes if isinstance(one, Exception)], len(shapes), f"under {self.pixels.root}")
        return np.asarray(shapes, np.int64)


def _read(path: Path) -> dict[str, list[str]]:
    """Columns of the table as text; nothing is an empty text."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no table {path} (working directory {Path.cwd()}).")
    if path.suffix.lower() == ".parquet":
        parquet = require("pyarrow.parquet", extra="parquet")
        try:
            content: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
        except (ValueError, OSError) as error:
            raise DataError(f"{path} is no Parquet file: {error}.", "unreadable") from error
        return {name: ["" if value is None else str(value) for value in values] for name, values in content.items()}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",") if row]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}.", "unreadable") from error
    if not rows or len(set(rows[0])) < len(rows[0]):
        raise DataError(
            f"{path} needs a header with a name for each column, received {rows[0] if rows else 'nothing'}."
        )
    uneven = [number for number, row in enumerate(rows[1:], start=1) if len(row) != len(rows[0])]
    if uneven:
        raise DataError(
            f"Row {uneven[0]} after the header of {path} has {len(rows[uneven[0]])} fields, and the header "
            f"{len(rows[0])}. {len(uneven)} rows are so."
        )
    return {name.strip(): [row[place].strip() for row in rows[1:]] for place, name in enumerate(rows[0])}


def _labels(
    path: Path, columns: Mapping[str, list[str]], label: Sequence[str], separator: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`(n, classes + 1)` bool, column 0 for empty, and the names of the classes."""
    said = columns[label[0]]
    flags = len(label) > 1 or (classes is None and all(text.lower() in (*_TRUE, *_FALSE) for text in said))
    if flags:
        names = tuple(label)
        if classes is not None and set(classes) != set(names):
            raise ValueError(f"`classes` must name the columns {list(names)} of `label`, received {list(classes)}.")
        names = names if classes is None else tuple(classes)
        wrong = [(name, text) for name in names for text in columns[name] if text.lower() not in (*_TRUE, *_FALSE)]
        if wrong:
            raise ValueError(f"The column {wrong[0][0]!r} of {path} must hold 0 or 1, received {wrong[0][1]!r}.")
        shown = np.array([[text.lower() in _TRUE for text in columns[name]] for name in names], bool).T
    else:
        each = [[part.strip() for part in text.split(separator) if part.strip()] for text in said]
        each = [[part for part in parts if part.lower() not in _BACKGROUND] for parts in each]
        names = tuple(classes) if classes is not None else tuple(sorted({part for parts in each for part in parts}))
        unknown = sorted({part for parts in each for part in parts} - set(names))
        if not names:
            raise ValueError(
                f"The column {label[0]!r} of {path} names no class: all of its {len(each)} rows are empty images. Pass "
                "`classes`, or correct `label`."
            )
        if unknown:
            raise ValueError(
                f"The column {label[0]!r} of {path} names the class {unknown[0]!r}, which is none of {list(names)}. "
                "Correct `classes`, or `label`."
            )
        shown = np.array([[name in parts for name in names] for parts in each], bool).reshape(len(each), len(names))
    return np.insert(shown, 0, ~shown.any(axis=1), axis=1), names


def _check_files(
    path: Path, root: Path, ids: Sequence[str], images: Sequence[str], masks: Sequence[str | None]
) -> None:
    missing = [
        (id, f"The {what} {root / name} is missing, which {path.name} names.")
        for what, names in (("image", images), ("mask", masks))
        for id, name in zip(ids, names, strict=True)
        if name is not None and not (root / name).is_file()
    ]
    if missing:
        raise MissingError(
            f"{len(missing)} files that {path} names are missing under {root}. The first: {missing[0][1]} Correct "
            "`root`, or name the rows that are lost with `exclude`.",
            missing,
        )
