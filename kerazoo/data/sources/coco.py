"""Images with COCO's instances: polygons and run lengths in one JSON file become masks of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from kerazoo.arguments import check_choice
from kerazoo.data.faults import DataError, MissingError, raise_all
from kerazoo.data.formats.coco import CocoFile, read_coco
from kerazoo.data.formats.images import SUFFIXES, check_intensity_range, read_header, read_image
from kerazoo.data.formats.instances import areas, decode
from kerazoo.data.id_lists import IdList, read_ids
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source
from kerazoo.data.sources._pairing import directory, list_files, without_suffix
from kerazoo.data.threads import in_threads

IGNORE = 255
"""Mask id of pixels that count nowhere, where a source makes them itself."""


def coco(
    images: str | Path,
    annotations: str | Path,
    *,
    classes: Sequence[str] | None = None,
    crowd: str = "class",
    overlap: str = "smaller",
    exclude: IdList | None = None,
    exif_orientation: bool = True,
    intensity_range: tuple[float, float] | None = None,
) -> Source:
    """Images of a directory whose objects a JSON file in COCO's format outlines.

    Every image of the file is a sample, also without any object: pixels of no object, and of objects of other classes,
    are background. The id of a sample is its file name without suffix. Instances become one mask of classes; their
    order where they overlap is `overlap`, and regions of crowds lie below all instances.

    Args:
        images: Directory of the images.
        annotations: JSON file with the lists `images`, `annotations` and `categories`.
        classes: Names of categories; one makes a binary source, K make K + 1 classes with the background, in the order
            given. None means all categories, by their ids.
        crowd: What a region with many objects (`iscrowd`) is: "class", foreground of its class; "ignore", pixels that
            count nowhere; or "background".
        overlap: "smaller": an instance with fewer pixels lies above one with more, so that nothing small is hidden, and
            of two of one size the later. "last": later in the file lies above. "ignore": pixels of two classes count
            nowhere. With "ignore" here or for `crowd` the source's `ignore_class` is 255.
        exclude: Ids to leave out: a list, or a file such as `kerazoo verify --fix` writes. Their images and annotations
            are not looked at.
        exif_orientation: Turn images as their EXIF tag says; COCO's own have none.
        intensity_range: Image values (low, high) that become 0 and 255, as float32, clipped.

    Returns: The source, ordered by id. Labels are known from the annotations: what is annotated with at least a pixel
        counts as shown, even if something else hides it. No image is opened before it is asked for.

    Raises:
        FileNotFoundError: the directory or the file is missing, or an image is.
        ValueError: the file is damaged, a class is unknown (near matches are named), or an argument is wrong. Later,
            when labels or the sample are first used: an annotation is faulty or lies outside its image, run lengths do
            not fill the image, or an image is corrupt or of another size than the file says.
    """
    check_choice("coco", "crowd", crowd, ("class", "ignore", "background"))
    check_choice("coco", "overlap", overlap, ("smaller", "last", "ignore"))
    intensity_range = check_intensity_range(intensity_range)
    root, excluded = directory(images, "images"), read_ids(exclude, "exclude")

    def id_of(name: str) -> str | None:
        id = without_suffix(name)
        return None if id in excluded else id

    file = read_coco(annotations, classes, id_of)
    ids = tuple(without_suffix(name) for name in file.files)
    for name, id, before in zip(file.files[1:], ids[1:], ids, strict=False):
        if id == before:
            raise ValueError(f"{annotations} has two images with the id {id!r}, one of them {name}; rename one.")
    found = list_files(root)
    there = set(found)
    lacking = [(id, name) for id, name in zip(ids, file.files, strict=True) if name not in there]
    if lacking:
        inside = [name for _, name in lacking if PurePosixPath(name).name in there]
        hint = " The names in the file have a directory in front that `images` ends with already;" if inside else ""
        raise MissingError(
            f"{len(lacking)} of {len(ids)} images of {annotations} are missing in {root}. The first is "
            f"{lacking[0][1]}.{hint} Correct `images`, or name those that are lost with `exclude`.",
            [(id, f"The image {root / name} is missing, which {annotations} names.") for id, name in lacking],
        )
    listed = {*file.files}
    orphans = tuple(
        f"{name} is an image that {Path(annotations).name} does not name."
        for name in found
        if name not in listed and name.lower().endswith(SUFFIXES) and without_suffix(name) not in excluded
    )
    return Source(
        Coco(
            root=root,
            file=file,
            ids=ids,
            crowd=crowd,
            overlap=overlap,
            orphans=(*file.strays, *orphans),
            exif_orientation=exif_orientation,
            intensity_range=intensity_range,
        )
    )


@dataclass(frozen=True, kw_only=True)
class Coco(Reader):
    """Reads images and draws the masks of their instances; `coco` makes it and documents the fields.

    Args:
        root: Directory of the images.
        file: What the JSON file says.
        ids: File names without suffix.
        crowd: What regions of crowds are.
        overlap: What lies above.
        orphans: Images that the file does not name, and annotations of no image, a sentence each.
        exif_orientation: Turn images as EXIF says.
        intensity_range: Values that become 0 and 255, or None.
    """

    root: Path
    file: CocoFile
    ids: tuple[str, ...]
    crowd: str
    overlap: str
    orphans: tuple[str, ...]
    exif_orientation: bool
    intensity_range: tuple[float, float] | None

    @property
    def num_classes(self) -> int:
        """1 for one category, else one more than there are."""
        return 1 if len(self.file.class_names) == 1 else 1 + len(self.file.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The categories."""
        return self.file.class_names if self.num_classes == 1 else ("background", *self.file.class_names)

    @property
    def ignore_class(self) -> int | None:
        """255 if anything is ignored."""
        return IGNORE if "ignore" in (self.crowd, self.overlap) else None

    def image(self, index: int) -> np.ndarray:
        """Decode the image file, which must have the size that its annotations are for."""
        path = self.root / self.file.files[index]
        pixels = read_image(path, exif_orientation=self.exif_orientation, intensity_range=self.intensity_range)
        self._check_size(index, pixels.shape[:2])
        return pixels

    def mask(self, index: int) -> np.ndarray:
        """Draw the instances: crowds first, then what lies above."""
        if index in self._faults:
            raise self._faults[index]
        instances, size = self.file.instances, self._size(index)
        numbers = instances.of(index)
        crowds = instances.crowd[numbers]
        mask = np.zeros(size, np.uint8)
        if self.crowd != "background":
            for number in numbers[crowds].tolist():
                region = decode(instances.encode(number, size))
                mask[region] = instances.labels[number] if self.crowd == "class" else IGNORE
        numbers = numbers[~crowds]
        drawn = [instances.encode(number, size) for number in numbers.tolist()]
        above = np.argsort(-areas(drawn), kind="stable")
        taken = np.zeros(size, np.uint8)
        for place in above.tolist() if self.overlap == "smaller" else range(len(drawn)):
            label = instances.labels[numbers[place]]
            region = decode(drawn[place])
            if self.overlap == "ignore":
                mask[region] = np.where((taken[region] == 0) | (taken[region] == label), label, IGNORE)
                taken[region] = mask[region]
            else:
                mask[region] = label
        return mask

    def fingerprint(self, index: int) -> str:
        """Size and time of the image file, its annotations, and how they are drawn."""
        path, instances = self.root / self.file.files[index], self.file.instances
        stat = path.stat() if path.is_file() else None
        objects = [instances.describe(number) for number in instances.of(index).tolist()]
        return (
            f"{stat and (stat.st_size, stat.st_mtime_ns)} {objects} {self.class_names} {self.crowd} {self.overlap} "
            f"{self.exif_orientation} {self.intensity_range}"
        )

    @cached_property
    def facts(self) -> Facts:
        """Labels from the annotations; every faulty annotation is collected before an error is raised."""
        raise_all([self._faults[index] for index in sorted(self._faults)], len(self.ids), f"of {self.root}")
        instances = self.file.instances
        shown = np.zeros((len(self.ids), 1 + len(self.file.class_names)), bool)
        counts = np.ones(len(instances), bool) if self.crowd == "class" else ~instances.crowd
        for number in instances.slivers().tolist():  # the only ones that may cover no pixel
            counts[number] = areas([instances.encode(number, self._size(int(instances.images[number])))])[0] > 0
        shown[instances.images[counts], instances.labels[counts]] = True
        shown[:, 0] = ~shown[:, 1:].any(axis=1)
        labels = shown[:, 1:] if self.num_classes == 1 else shown
        return Facts(labels, self._all_shapes, tuple(self._checked[1]))

    def _all_shapes(self) -> np.ndarray:  # a method, unlike a lambda, can be pickled for other processes
        return self._shapes

    @cached_property
    def _shapes(self) -> np.ndarray:
        def shape(index: int) -> tuple[int, int, int] | Exception:
            try:
                found = read_header(self.root / self.file.files[index], exif_orientation=self.exif_orientation).shape
                self._check_size(index, found[:2])
                return found
            except (ValueError, OSError) as error:
                return error

        shapes = [*in_threads(shape, range(len(self.ids)))]
        raise_all([found for found in shapes if isinstance(found, Exception)], len(shapes), f"of {self.root}")
        return np.asarray(shapes, np.int64)

    @cached_property
    def _checked(self) -> tuple[list[tuple[int, DataError]], list[tuple[int, str]]]:
        return self.file.instances.check(self.file.sizes)

    @cached_property
    def _faults(self) -> dict[int, DataError]:
        """First fault of each image that has one, and how many more."""
        found: dict[int, list[DataError]] = {}
        for index, fault in (*self.file.faults, *self._checked[0]):
            found.setdefault(index, []).append(fault)
        return {
            index: DataError(f"{faults[0]}{f' {len(faults) - 1} more like this.' * (len(faults) > 1)}", faults[0].kind)
            for index, faults in found.items()
        }

    def _size(self, index: int) -> tuple[int, int]:
        return int(self.file.sizes[index, 0]), int(self.file.sizes[index, 1])

    def _check_size(self, index: int, size: tuple[int, ...]) -> None:
        said = self._size(index)
        if tuple(size) != said:
            turned = f" EXIF may turn it: pass `exif_orientation={not self.exif_orientation}`."
            raise DataError(
                f"Image {self.root / self.file.files[index]} is {size[0]}x{size[1]}, and its annotations are for "
                f"{said[0]}x{said[1]} (height x width): it was resized or replaced."
                f"{turned if tuple(size) == said[::-1] else ''}",
                "size",
            )
