"""Images and masks as files: in one folder or two, the class from the pixel's value or from the directory's name."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kerazoo.arguments import check_choice
from kerazoo.data.emptiness import empty_among_full
from kerazoo.data.faults import DataError, MissingError, raise_all
from kerazoo.data.formats.images import check_intensity_range, read_header, read_image, read_mask
from kerazoo.data.id_lists import IdList, check_known, read_ids
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source
from kerazoo.data.sources._mask_rule import MaskRule, count_classes
from kerazoo.data.sources._pairing import Pairs, directory, pair
from kerazoo.data.threads import in_threads

_FLOATS = (".tif", ".tiff")  # suffixes of files that can hold floats
_PROBED = 16  # TIFF images that are decoded to see whether floats are in 0-1


def folder(
    root: str | Path,
    *,
    masks: str | Path | None = None,
    image_suffix: str | Sequence[str] | None = None,
    mask_suffix: str = ".png",
    mask_values: Mapping[int | tuple[int, int, int], int] | None = None,
    mask_threshold: float | None = None,
    class_from: str = "pixel",
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    ignore_class: int | None = None,
    missing_mask: str = "error",
    groups: str | Callable[[str], str] | None = None,
    include: IdList | None = None,
    exclude: IdList | None = None,
    recursive: bool = True,
    exif_orientation: bool = True,
    intensity_range: tuple[float, float] | None = None,
) -> Source:
    r"""Image files under `root`, each with a mask file whose name is the image's with another ending.

    The image `a/b.jpg` has the mask `a/b` + `mask_suffix`, under `root` or under `masks`. The id of the sample is the
    image's path under `root` without suffix, `a/b`. Hidden files are skipped.

    Args:
        root: Directory of the images.
        masks: Directory of the masks, with the same sub-directories; None means beside the images.
        image_suffix: Ending, or endings, of image files (".tif", "_image.png"), cut off to get the id; None means every
            common format. Where masks lie beside images, what ends in `mask_suffix` is no image.
        mask_suffix: What follows the image's id in the mask's name: ".png", "_mask.png".
        mask_values: Class id of each value in mask files, `{0: 0, 255: 1}`, or of each color,
            `{(0, 0, 0): 0, (255, 0, 0): 1}`. None means that the values are ids already; a palette's are its indices.
        mask_threshold: Foreground is where the mask is greater: for anti-aliased or JPEG-compressed masks.
        class_from: "pixel": the mask says the class. "directory": the mask says foreground or not, and the directory in
            the image's path that has the name of a class says which.
        classes: Names of the foreground classes, in the order of their ids from 1. With class_from="directory" None
            means each first directory under `root` that has a mask with foreground, sorted, for which every mask is
            read at the start; naming them also keeps the ids when a folder lacks a class.
        num_classes: 1, or K ≥ 2 with the background. None means what `classes` or `mask_values` say, else 1.
        ignore_class: Mask id, at most 255, of pixels that count nowhere; allowed beside the classes.
        missing_mask: "error", or "empty": an image without mask file has no foreground.
        groups: What a split must not divide: a regular expression searched in the id, whose first group (or whole
            match) is the name, as `r"(patient\d+)"`; or a function from id to name.
        include: Ids to take: a list, or a file with one id a line, as many data sets list their splits; None takes all.
        exclude: Ids to leave out, likewise, or a file such as `kerazoo verify --fix` writes. They are not looked at.
        recursive: Look in sub-directories too.
        exif_orientation: Turn images and masks as their EXIF tag says.
        intensity_range: Image values (low, high) that become 0 and 255, as float32, clipped: for 12-bit and float
            images. None leaves the values as stored.

    Returns: The source, ordered by id. Only file names are looked at here; sizes, labels and `source.warnings` are
        found on first use, and pixels are decoded when a sample is asked for.

    Raises:
        FileNotFoundError: a directory is missing, or an image has no mask and missing_mask="error".
        ValueError: no image is found, two images have one id, or arguments contradict each other. Later, when a sample
            or the labels are first used: a file is corrupt, sizes differ, or a mask has values that are no classes.
    """
    check_choice("folder", "class_from", class_from, ("pixel", "directory"))
    check_choice("folder", "missing_mask", missing_mask, ("error", "empty"))
    intensity_range = check_intensity_range(intensity_range)
    by_directory = class_from == "directory"
    count = count_classes(num_classes, classes, None if by_directory else mask_values, ignore_class)
    rule = MaskRule(
        num_ids=2 if by_directory else max(count, 2),
        values=None if mask_values is None else tuple(mask_values.items()),
        threshold=mask_threshold,
        ignore_class=ignore_class,
    )
    root = directory(root, "root")
    mask_root = root if masks is None else directory(masks, "masks")
    pairs = pair(root, mask_root, image_suffix=image_suffix, mask_suffix=mask_suffix, recursive=recursive)
    pairs = _chosen(pairs, include, exclude, root)
    lacking = [
        (id, image) for id, image, mask in zip(pairs.ids, pairs.images, pairs.masks, strict=True) if mask is None
    ]
    if lacking and missing_mask == "error":
        missing = [(id, f"Image {root / image} has no mask {mask_root / id}{mask_suffix}.") for id, image in lacking]
        raise MissingError(
            f"{len(lacking)} of {len(pairs.ids)} images have no mask. The first is {root / lacking[0][1]}, whose mask "
            f"would be {mask_root / lacking[0][0]}{mask_suffix}. Correct `mask_suffix` or `masks`, or pass "
            'missing_mask="empty" if such images have no foreground.',
            missing,
        )
    reader = Folder(
        root=root,
        mask_root=mask_root,
        pairs=pairs,
        rule=rule,
        by_directory=by_directory,
        classes=None if classes is None else tuple(classes),
        asked=num_classes if by_directory and classes is None else count,
        groups=None if groups is None else tuple(_group(groups, id) for id in pairs.ids),
        exif_orientation=exif_orientation,
        intensity_range=intensity_range,
    )
    if by_directory and classes is not None:
        _ = reader.directory_ids  # names the classes that are no directory
    return Source(reader)


@dataclass(frozen=True, kw_only=True)
class Folder(Reader):
    """Reads pairs of image and mask files; `folder` makes it and documents the fields.

    Args:
        root: Directory of the images.
        mask_root: Directory of the masks.
        pairs: The files.
        rule: How mask values become ids; with `by_directory` only 0 and 1.
        by_directory: The class is a directory's name.
        classes: Names of the foreground classes, or None.
        asked: The number of classes; None means that it is discovered.
        groups: Group of each sample, or None.
        exif_orientation: Turn images and masks as EXIF says.
        intensity_range: Values that become 0 and 255, or None.
    """

    root: Path
    mask_root: Path
    pairs: Pairs
    rule: MaskRule
    by_directory: bool
    classes: tuple[str, ...] | None
    asked: int | None
    groups: tuple[str, ...] | None
    exif_orientation: bool
    intensity_range: tuple[float, float] | None

    @property
    def ids(self) -> tuple[str, ...]:
        """Paths of the images without suffix."""
        return self.pairs.ids

    @property
    def orphans(self) -> tuple[str, ...]:
        """Masks of no image, a sentence each."""
        return tuple(f"{name} is a mask of no image." for name in self.pairs.orphans)

    @property
    def ignore_class(self) -> int | None:
        """Ignored id of the rule for mask values."""
        return self.rule.ignore_class

    @property
    def num_classes(self) -> int:
        """The number that was asked for, else one more than the directories with foreground."""
        return self.asked or (1 if len(self._names) == 1 else 1 + len(self._names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names that were given, or those of the directories, or numbered ones."""
        return self._names if self.num_classes == 1 else ("background", *self._names)

    def image(self, index: int) -> np.ndarray:
        """Decode the image file."""
        path = self.root / self.pairs.images[index]
        return read_image(path, exif_orientation=self.exif_orientation, intensity_range=self.intensity_range)

    def mask(self, index: int) -> np.ndarray:
        """Decode the mask file and turn its values into class ids; an image without one is all background."""
        name = self.pairs.masks[index]
        if name is None:
            path = self.root / self.pairs.images[index]
            return np.zeros(read_header(path, exif_orientation=self.exif_orientation).shape[:2], np.uint8)
        ids = self.rule.apply(self._values(name), self.mask_root / name)
        if not self.by_directory:
            return ids
        label = self.directory_ids[index]
        if label == 0 and (ids == 1).any():
            raise DataError(self._no_directory(index), "values")
        return np.where(ids == 1, np.uint8(label), ids)

    def fingerprint(self, index: int) -> str:
        """Size and time of both files, and how they are read."""
        names = (self.root / self.pairs.images[index], self.mask_root / (self.pairs.masks[index] or ""))
        stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in names if path.is_file()]
        return f"{stats} {self.rule} {self.by_directory} {self.classes} {self.exif_orientation} {self.intensity_range}"

    @cached_property
    def facts(self) -> Facts:
        """Labels, shapes and warnings from one pass over the files; every fault is collected before one is raised."""
        shown = np.zeros((len(self.ids), max(self.num_classes, 2)), bool)
        found = self._scans["shown"]
        if self.by_directory:
            homeless = np.flatnonzero(found[:, 1] & (self.directory_ids == 0))
            if len(homeless):
                raise DataError(self._no_directory(int(homeless[0])), "values")
            shown[np.arange(len(shown)), self.directory_ids] = found[:, 1]
        else:
            shown[:] = found[:, : shown.shape[1]]
        positive = np.asarray(shown[:, 1:].any(axis=1))
        shown[:, 0] = ~positive
        labels = shown[:, 1:] if self.num_classes == 1 else shown
        empty = empty_among_full(self.ids, positive, self.expects_foreground)
        return Facts(labels, self._scans["shape"], (*empty, *self._oddities(), *self._dark_floats()))

    @property
    def expects_foreground(self) -> np.ndarray | None:
        """`(n,)` bool: the image lies in the directory of a class; None if directories are no classes."""
        return self.directory_ids > 0 if self.by_directory else None

    @cached_property
    def directory_ids(self) -> np.ndarray:
        """`(n,)` int: class id of each image by its path, 0 where no directory is a class.

        Raises:
            ValueError: a class is no directory's name, or an image lies under two classes.
        """
        number = {name: k for k, name in enumerate(self._names, start=1)}
        ids = np.zeros(len(self.ids), np.int64)
        for index, id in enumerate(self.ids):
            parts = PurePosixPath(id).parts[:-1]
            found = {number[part] for part in (parts if self.classes else parts[:1]) if part in number}
            if len(found) > 1:
                raise ValueError(f"{self.root / id} lies under two directories that are `classes`: {parts}.")
            ids[index] = found.pop() if found else 0
        absent = [name for name, k in number.items() if not (ids == k).any()]
        if absent:
            known = sorted({part for id in self.ids for part in PurePosixPath(id).parts[:-1]})
            raise ValueError(
                f"No image under {self.root} lies in a directory named {absent[0]!r}; the directories are "
                f"{known[:20]}. Correct `classes`."
            )
        return ids

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of the foreground classes."""
        if self.classes is not None:
            return self.classes
        if not self.by_directory:
            return ("foreground",) if self.asked == 1 else tuple(f"class_{k}" for k in range(1, self.asked or 2))
        positive = [self.ids[index] for index in np.flatnonzero(self._scans["shown"][:, 1]).tolist()]
        names = tuple(sorted({PurePosixPath(id).parts[0] for id in positive if "/" in id}))
        if not names or (self.asked is not None and len(names) != max(self.asked, 2) - 1):
            raise ValueError(
                f"The directories under {self.root} with foreground in a mask are {list(names)}"
                + (f", and num_classes={self.asked}" if self.asked else "")
                + ". Name the directories that are classes with `classes`."
            )
        return names

    @cached_property
    def _scans(self) -> np.ndarray:
        """`(n,)` of what one pass over the files finds: of the image its header, of the mask which ids it shows."""
        fields = [("shape", "<i4", (3,)), ("shown", "?", (self.rule.num_ids,)), ("odd", "?", (2,)), ("peak", "<i4")]
        scans = np.zeros(len(self.ids), fields)
        faults: list[Exception] = []
        for index, scan in enumerate(in_threads(self._scan, range(len(self.ids)))):
            if isinstance(scan, Exception):
                faults.append(scan)
            else:
                scans[index] = scan
        raise_all(faults, len(self.ids), f"under {self.root}")
        peak = int(scans["peak"].max())
        if self.rule.threshold is not None and 0 < peak <= self.rule.threshold:
            raise ValueError(
                f"mask_threshold={self.rule.threshold:g} leaves no foreground in any mask under {self.mask_root}: the "
                f"greatest value is {peak}. Lower it, or leave it out if values are class ids."
            )
        return scans

    def _scan(self, index: int) -> tuple[Any, ...] | Exception:
        try:
            path, name = self.root / self.pairs.images[index], self.pairs.masks[index]
            header = read_header(path, exif_orientation=self.exif_orientation)
            if name is None:
                return header.shape, False, (header.turned, header.alpha), 0
            values = self._values(name)
            if values.shape[:2] != header.shape[:2]:
                hint = "; EXIF turns the image, and exif_orientation=False would not" if header.turned else ""
                raise DataError(
                    f"Image {path} and mask {self.mask_root / name} differ in size: "
                    f"{header.shape[0]}x{header.shape[1]} and {values.shape[0]}x{values.shape[1]} (height x "
                    f"width){hint}.",
                    "size",
                )
            ids = self.rule.apply(values, self.mask_root / name)
            shown = np.bincount(ids.ravel(), minlength=self.rule.num_ids)[: self.rule.num_ids] > 0
            peak = 255 if values.dtype == bool and values.any() else int(values.max(initial=0))
            return header.shape, shown, (header.turned, header.alpha), peak
        except (ValueError, OSError) as error:
            return error

    def _values(self, name: str) -> np.ndarray:
        return read_mask(self.mask_root / name, exif_orientation=self.exif_orientation)

    def _no_directory(self, index: int) -> str:
        return (
            f"Mask {self.mask_root / str(self.pairs.masks[index])} has foreground, but no directory in its path is "
            f"one of the classes {list(self._names)}. Add the class to `classes`, or clear the mask."
        )

    def _oddities(self) -> list[tuple[int | None, str]]:
        texts = (
            "are turned by their EXIF orientation, as `exif_orientation` says",
            "have an alpha channel, which is dropped",
        )
        found = [np.flatnonzero(flags).tolist() for flags in self._scans["odd"].T]
        return [
            (None, f"{len(images)} images {text}. The first is {self.ids[images[0]]}.")
            for text, images in zip(texts, found, strict=True)
            if images
        ]

    def _dark_floats(self) -> list[tuple[int | None, str]]:
        """Float images, a few of which are looked at, in 0-1 where models take 0-255."""
        if self.intensity_range is not None:
            return []
        stored = [index for index, name in enumerate(self.pairs.images) if Path(name).suffix.lower() in _FLOATS]
        chosen = stored[:: max(1, -(-len(stored) // _PROBED))]
        images = [image for image in in_threads(self.image, chosen) if image.dtype == np.float32]
        if not images or not 0 < (peak := max(float(image.max(initial=0)) for image in images)) <= 1:
            return []
        return [
            (
                None,
                f"Images are floating point with values up to {peak:g}, where 0-255 is expected. If they are in 0-1, "
                "pass intensity_range=(0, 1).",
            )
        ]


def _chosen(pairs: Pairs, include: IdList | None, exclude: IdList | None, root: Path) -> Pairs:
    """The pairs that are asked for; masks of others are no orphans."""
    if include is None and exclude is None:
        return pairs
    wanted, unwanted = read_ids(include, "include"), read_ids(exclude, "exclude")
    check_known(wanted - unwanted, pairs.ids, "include", f"among the {len(pairs.ids)} images under {root}")
    keep = [id not in unwanted and (include is None or id in wanted) for id in pairs.ids]
    if not any(keep):
        raise ValueError(f"`include` and `exclude` leave none of the {len(keep)} images under {root}.")
    ids, images, masks = compress(pairs.ids, keep), compress(pairs.images, keep), compress(pairs.masks, keep)
    return Pairs(tuple(ids), tuple(images), tuple(masks), pairs.orphans)


def _group(groups: str | Callable[[str], str], id: str) -> str:
    if not isinstance(groups, str):
        return groups(id)
    match = re.search(groups, id)
    if match is None:
        raise ValueError(f"groups={groups!r} is not found in the id {id!r}; every image needs a group.")
    return match.group(1 if match.re.groups else 0)
