"""The LiTS archive of livers and their lesions: slices of CT volumes in NIfTI files, with volumes of masks."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerazoo.arguments import check_choice, check_whole
from kerazoo.data.faults import DataError, MissingError, raise_all
from kerazoo.data.formats.intensity import Window, check_window, to_unit
from kerazoo.data.formats.nifti import Volume, as_ids, check_orientation
from kerazoo.data.id_lists import IdList, read_ids
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source
from kerazoo.data.sources._mask_rule import MaskRule, count_classes
from kerazoo.data.sources._pairing import directory
from kerazoo.data.sources._volumes import Scan, open_all, pair, present_values

_CLASSES = ("liver", "lesion")


def lits(
    root: str | Path,
    *,
    slices_per_volume: int | None = None,
    masks: str | Path | None = None,
    volume_prefix: str = "volume-",
    mask_prefix: str = "segmentation-",
    mask_values: Mapping[int | tuple[int, int, int], int] | None = None,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    ignore_class: int | None = None,
    window: Window = (-160.0, 240.0),
    value_range: tuple[float, float] = (0.0, 255.0),
    orientation: str | None = None,
    missing: str = "error",
    exclude: IdList | None = None,
    index: str | Path | None = None,
    unpack_to: str | Path | None = None,
    seed: int = 0,
) -> Source:
    """Axial slices of volumes under `root`, each with a volume of masks of the same grid.

    Slices are turned as the files' affines say: the first row is anterior, the first column is the patient's right, and
    they are counted from the feet. The id of a slice is the name of its volume and its number, "volume-7/0123"; the
    volume is its group, so no split divides one.

    A `.nii` is mapped into memory, and only a slice is read. A `.nii.gz` has to be read from beginning to end for every
    slice, seconds for a large one: decompress the files, pass `unpack_to`, or use `kz.data.prepare`;
    `source.warnings` says so.

    Args:
        root: Directory of the files; sub-directories are searched.
        slices_per_volume: Draw so many slices with foreground and as many without from each volume, all of them where
            there are fewer. The draw depends on `seed` and the volume's name alone. None means every slice.
        masks: Directory of the masks; None means `root`.
        volume_prefix: What comes before the part of the name that a volume shares with its mask.
        mask_prefix: The same for masks: `volume-7.nii` and `segmentation-7.nii.gz` belong together.
        mask_values: Class id of each value in the masks. `{0: 0, 1: 1, 2: 1}` merges lesions into the liver. None
            means that the values are ids.
        classes: Names of the foreground classes, by id from 1. None means liver and lesion, or the liver if
            `mask_values` leaves one class.
        num_classes: 1, or K ≥ 2 with the background. None means what `classes` or `mask_values` say, else 3.
        ignore_class: Mask id, at most 255, of pixels that count nowhere.
        window: Hounsfield units (low, high) that become black and white, here those of the liver; or "minmax": the
            least and the greatest of each slice.
        value_range: What black and white become. (-1, 1) is for models that are made with preprocessing=False, and
            taught on it; the others take 0 to 255. The pipeline's augmentations follow it.
        orientation: Where the stored axes lead, "RAS" or "LPS", in files that do not say.
        missing: "error"; or "skip": leave out volumes without mask and masks without volume, which `source.warnings`
            lists.
        exclude: Ids of slices or names of volumes to leave out: a list, or a file such as `kerazoo verify --fix`
            writes. The files of a volume that is left out are not opened.
        index: JSON file that keeps which classes the slices show. All masks are read once for that when the source is
            made; with an index only those that are new or have changed. None means no file.
        unpack_to: Directory that keeps decompressed copies of `.nii.gz` files, made when first needed; None for none.
        seed: Of the draw of slices.

    Returns: The source, ordered by volume and slice; images are float32 `(H, W, 1)`.

    Raises:
        FileNotFoundError: a directory is missing, there is no volume, or with missing="error" a volume has no mask or a
            mask no volume.
        ValueError: an argument is wrong; a file is damaged, a mask has another grid than its volume, or values that are
            no classes (`kz.data.verify` lists every such volume, to exclude). Later, when an image is asked for: its
            volume is damaged, or holds NaN.
    """
    check_choice("lits", "missing", missing, ("error", "skip"))
    window = check_window(window, ("minmax",))
    check_orientation(orientation)
    if slices_per_volume is not None:
        check_whole("lits", "slices_per_volume", slices_per_volume)
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise ValueError(f"`value_range` must be (low, high) with low < high, received {value_range}.")
    if mask_values is None and classes is None and num_classes is None:
        classes = _CLASSES
    count = count_classes(num_classes, classes, mask_values, ignore_class)
    names = tuple(classes or (_CLASSES if count == 3 else ["liver"] if count == 1 else _numbered(count)))
    rule = MaskRule(
        num_ids=max(count, 2),
        values=None if mask_values is None else tuple(mask_values.items()),
        ignore_class=ignore_class,
    )
    root, excluded = directory(root, "root"), read_ids(exclude, "exclude")
    mask_root = root if masks is None else directory(masks, "masks")
    pairs, lost = pair(root, mask_root, volume_prefix, mask_prefix, excluded)
    if not pairs:
        raise FileNotFoundError(
            f"No volume under {root} has a mask: {len(lost)} files begin with volume_prefix={volume_prefix!r} or "
            f"mask_prefix={mask_prefix!r} and end in .nii or .nii.gz. Correct `root`, `masks` or the prefixes."
        )
    if lost and missing == "error":
        raise MissingError(
            f"{len(lost)} volumes or masks lack the other. The first: {lost[0][1]} Restore them, name them with "
            '`exclude`, or pass missing="skip".',
            lost,
        )
    scans = open_all(pairs, orientation, root)
    present = present_values(scans, mask_root, None if index is None else Path(index))
    labels = _all_labels(scans, present, rule, mask_root)
    warnings = [*(text for _, text in lost), *(scan.warning for scan in scans if scan.warning)]
    chosen: list[np.ndarray] = []
    for scan, shown in zip(scans, labels, strict=True):
        planes, few = _draw(shown[:, 0], slices_per_volume, seed, scan.name)
        warnings += few
        chosen.append(np.array([k for k in planes.tolist() if _id(scan.name, k) not in excluded], np.int32))
    if not any(len(planes) for planes in chosen):
        raise ValueError(f"`exclude` names every slice of {len(scans)} volumes under {root}; a source cannot be empty.")
    compressed = sum(scan.image.compressed for scan in scans)
    if compressed and unpack_to is None:
        warnings.append(
            f"{compressed} of {len(scans)} volumes are compressed, and each slice reads its file from beginning to "
            "end. Pass `unpack_to`, decompress them, or use kz.data.prepare."
        )
    return Source(
        Lits(
            scans=tuple(scans),
            number=np.repeat(np.arange(len(scans), dtype=np.int32), [len(planes) for planes in chosen]),
            plane=np.concatenate(chosen),
            shown=np.concatenate([shown[planes] for shown, planes in zip(labels, chosen, strict=True)]),
            rule=rule,
            names=names,
            num_classes=count,
            window=window,
            value_range=(float(value_range[0]), float(value_range[1])),
            warnings=tuple(warnings),
            unpack_to=None if unpack_to is None else Path(unpack_to),
        )
    )


class _Ids(Sequence[str]):
    """Ids of slices, made when asked for."""

    def __init__(self, names: Sequence[str], number: np.ndarray, plane: np.ndarray):
        self._names, self._number, self._plane = names, number, plane

    def __len__(self) -> int:
        return len(self._number)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Ids(self._names, self._number[index], self._plane[index])
        return _id(self._names[int(self._number[index])], int(self._plane[index]))


@dataclass(frozen=True, kw_only=True, repr=False)
class Lits(Reader):
    """Reads axial slices of volumes; `lits` makes it and documents the fields.

    Args:
        scans: The volumes.
        number: `(n,)` int32: which volume each slice is of.
        plane: `(n,)` int32: which slice of it.
        shown: `(n, max(num_classes, 2))` bool: column 0 says that the slice is empty, k that it shows class k.
        rule: How mask values become ids.
        names: Of the foreground classes.
        num_classes: As a model counts them.
        window: Values that become black and white.
        value_range: What these become.
        warnings: Sentences.
        unpack_to: Directory of decompressed copies, or None.
    """

    scans: tuple[Scan, ...]
    number: np.ndarray
    plane: np.ndarray
    shown: np.ndarray
    rule: MaskRule
    names: tuple[str, ...]
    num_classes: int
    window: Window
    value_range: tuple[float, float]
    warnings: tuple[str, ...]
    unpack_to: Path | None

    @property
    def ids(self) -> Sequence[str]:
        """Volume and slice."""
        return _Ids([scan.name for scan in self.scans], self.number, self.plane)

    @property
    def groups(self) -> Sequence[str]:
        """The volumes."""
        names = [scan.name for scan in self.scans]
        return [names[number] for number in self.number.tolist()]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, with the background if there are several."""
        return self.names if self.num_classes == 1 else ("background", *self.names)

    @property
    def ignore_class(self) -> int | None:
        """Ignored id of the rule for mask values."""
        return self.rule.ignore_class

    @cached_property
    def facts(self) -> Facts:
        """Labels from the pass over the masks when the source was made, sizes from the headers."""
        labels = self.shown[:, 1:] if self.num_classes == 1 else self.shown
        sizes = np.array([(*scan.image.shape[1:], 1) for scan in self.scans], np.int32)
        return Facts(labels, sizes[self.number], tuple((None, text) for text in self.warnings))

    def image(self, index: int) -> np.ndarray:
        """Read a slice of the volume, windowed, as `value_range` says."""
        volume = self._scan(index).image
        values = self._unpacked(volume).plane(int(self.plane[index]))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DataError(
                f"Slice {int(self.plane[index])} of {volume.path} holds NaN or infinity. Repair it or leave it out.",
                "not_finite",
            )
        low, high = (values.min(), values.max()) if isinstance(self.window, str) else self.window
        black, white = self.value_range
        return (to_unit(values, low, high) * np.float32(white - black) + np.float32(black))[..., np.newaxis]

    def mask(self, index: int) -> np.ndarray:
        """Read a slice of the volume of the mask."""
        volume = self._scan(index).mask
        values = as_ids(self._unpacked(volume).plane(int(self.plane[index])), volume.path)
        return self.rule.apply(values, volume.path)

    def fingerprint(self, index: int) -> str:
        """Size and time of both files, and how they are read."""
        scan = self._scan(index)
        stats = [path.stat() if path.is_file() else None for path in (scan.image.path, scan.mask.path)]
        found = [stat and (stat.st_size, stat.st_mtime_ns) for stat in stats]
        return f"{found} {scan.image.axes} {scan.mask.axes} {self.rule} {self.names} {self.window} {self.value_range}"

    def _scan(self, index: int) -> Scan:
        return self.scans[self.number[index]]

    def _unpacked(self, volume: Volume) -> Volume:
        return volume if self.unpack_to is None else volume.unpack(self.unpack_to)


def _id(name: str, plane: int) -> str:
    return f"{name}/{plane:04d}"


def _numbered(count: int) -> list[str]:
    return [f"class_{k}" for k in range(1, count)]


def _all_labels(scans: list[Scan], present: list[np.ndarray], rule: MaskRule, root: Path) -> list[np.ndarray]:
    """`_labels` of every mask; every fault is collected before one is raised."""
    labels: list[np.ndarray] = []
    faults: dict[str, Exception] = {}
    for scan, values in zip(scans, present, strict=True):
        try:
            labels.append(_labels(values, rule, scan.mask.path))
        except DataError as error:
            faults[scan.name] = error
    raise_all([*faults.values()], len(scans), f"under {root}", [*faults])
    return labels


def _labels(present: np.ndarray, rule: MaskRule, path: Path) -> np.ndarray:
    """`(D, num_ids)` bool: column 0 says that a slice is empty, k that it shows class k."""
    values = np.flatnonzero(present.any(axis=0))
    ids = rule.apply(values[np.newaxis], path)[0]
    shown = np.zeros((len(present), rule.num_ids), bool)
    for value, id in zip(values.tolist(), ids.tolist(), strict=True):
        if id < rule.num_ids:
            shown[:, id] |= present[:, value]
    shown[:, 0] = ~shown[:, 1:].any(axis=1)
    return shown


def _draw(empty: np.ndarray, count: int | None, seed: int, name: str) -> tuple[np.ndarray, list[str]]:
    """Slices of one volume, ascending; and a sentence if there are fewer than asked for."""
    if count is None:
        return np.arange(len(empty)), []
    rng = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))])
    kinds = (np.flatnonzero(~empty), np.flatnonzero(empty))
    drawn = [rng.choice(kind, min(count, len(kind)), replace=False) for kind in kinds]
    few = [
        f"{name} has {len(kind)} slices with{out} foreground, and {count} were asked for."
        for kind, out in zip(kinds, ("", "out"), strict=True)
        if len(kind) < count
    ]
    return np.sort(np.concatenate(drawn)), few
