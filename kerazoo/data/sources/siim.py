"""The SIIM-ACR pneumothorax archive: X-rays as DICOM files, masks as run lengths in a CSV."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kerazoo.arguments import check_choice
from kerazoo.data.faults import DataError, FaultyError, MissingError, raise_all
from kerazoo.data.formats.dicom import WINDOWS, read_dicom, read_dicom_header, read_person
from kerazoo.data.formats.intensity import Window, check_window
from kerazoo.data.id_lists import IdList, read_ids
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source
from kerazoo.data.sources._names import Names, find, pack
from kerazoo.data.sources._pairing import directory
from kerazoo.data.sources._rle_table import RleTable, read_table
from kerazoo.data.threads import in_threads

_PROBED = 16  # files whose names are compared with the patient's that they hold


def siim(
    root: str | Path,
    csv: str | Path,
    *,
    suffix: str = ".dcm",
    window: Window = "header",
    bits: int | None = None,
    missing: str = "error",
    exclude: IdList | None = None,
    by_patient: bool = False,
) -> Source:
    """DICOM files under `root`, whose masks are run lengths in `csv`.

    The id of a sample is the name of its file without suffix, which the column `ImageId` names; in the archive that is
    the SOP instance UID. Nothing else that could tell who a patient is is taken from a file: not in errors, nor in
    anything that is written. But names of files appear there, and so must not hold names of patients: `source.warnings`
    says so if the first files do, which are then to be renamed.

    Args:
        root: Directory of the images; sub-directories are searched. Hidden files are skipped.
        csv: File with the columns `ImageId` and `EncodedPixels`, one row per mask instance, which are united; -1 stands
            for no foreground. Run lengths go down the columns, each start counted from the end before.
        suffix: Ending of the images' names, in whatever case; "" takes every file.
        window: Which intensities become black and white: "header", as the file asks to be displayed; "full", all that
            its bits can hold; "minmax", the image's own; or (low, high) after rescaling.
        bits: Of image values: 8 or 16. None: 8 for files that store up to 8 bits, else 16; images that are to be in
            one batch must agree.
        missing: "error"; or "skip": leave out ids of the CSV without image and images without row, which
            `source.warnings` lists.
        exclude: Ids to leave out: a list, or a file such as `kerazoo verify --fix` writes.
        by_patient: Make the images of one patient a group, which a split does not divide: every header is read for it,
            and the groups are numbered; the patient's id is not kept.

    Returns: The source, ordered by id. Labels are known from the CSV; no image is opened before it is asked for.

    Raises:
        FileNotFoundError: `root` or `csv` is missing, or with missing="error" an id has no image or an image no row.
        ValueError: an argument is wrong, `csv` is damaged, two images have one id, or nothing is left. Later, when a
            sample or the shapes are first used: an image cannot be read, or run lengths are faulty.
    """
    check_choice("siim", "missing", missing, ("error", "skip"))
    window = check_window(window, WINDOWS)
    if bits not in (None, 8, 16):
        raise ValueError(f"`bits` must be 8, 16 or None, received bits={bits!r}.")
    root, excluded = directory(root, "root"), read_ids(exclude, "exclude")
    stems, homes = _index(_files(root, suffix.lower()))
    if not len(stems):
        raise FileNotFoundError(f"No file under {root} ends in suffix={suffix!r}. Correct `root` or `suffix`.")
    table = read_table(csv, excluded=excluded)
    order = np.argsort(stems, kind="stable").astype(np.int32)  # homes stay as they are: a million of them are heavy
    stems = stems[order]
    kept = ~np.isin(stems, pack(sorted(excluded))) if excluded else np.ones(len(stems), bool)
    twice = np.flatnonzero((stems[1:] == stems[:-1]) & kept[1:])
    if len(twice):
        pairs = [[root / _path(homes[order[k]], stems[k]) for k in (place, place + 1)] for place in twice.tolist()]
        names = [os.fsdecode(stems[place]) for place in twice.tolist()]
        raise FaultyError(
            f"{len(twice)} ids are names of two images under {root}. The first are {pairs[0][0]} and {pairs[0][1]}; "
            "rename or remove one, or name the id in `exclude`.",
            [
                (id, "duplicate", f"{one} and {other} are two images with one id.")
                for id, (one, other) in zip(names, pairs, strict=True)
            ],
        )
    place = table.find(stems)
    rowless = kept & (place < 0)
    kept &= place >= 0
    lost = [
        (id, f"{id}: {table.path} names it, and there is no such image.") for id in _without(table, stems, excluded)
    ]
    lost += [(id, f"{id}: it is an image that {table.path} does not name.") for id in Names(stems[rowless])]
    if not kept.any():
        raise DataError(
            f"No ImageId of {table.path} is the name of an image under {root} that is not excluded. Correct them."
        )
    if lost and missing == "error":
        rows = len(lost) - int(rowless.sum())
        raise MissingError(
            f"{rows} ids of {table.path} have no image under {root}, and {len(lost) - rows} images have no row. The "
            f'first is {lost[0][0]}. Restore them, name them with `exclude`, or pass missing="skip".',
            lost,
        )
    return Source(
        Siim(
            root=root,
            table=table,
            stems=stems[kept],
            homes=homes,
            home=order[kept],
            place=place[kept].astype(np.int32),
            window=window,
            bits=bits,
            lost=tuple(text for _, text in lost),
            by_patient=by_patient,
        )
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class Siim(Reader):
    """Reads DICOM files, and masks from run lengths; `siim` makes it and documents the fields.

    Args:
        root: Directory of the images.
        table: The rows of the CSV.
        stems: `(n,)` ids as bytes, sorted.
        homes: Directory under `root` and suffix of files, with a NUL between them.
        home: `(n,)` int32: which of `homes` is each image's.
        place: `(n,)` place of each id in the table.
        window: Intensities that become black and white.
        bits: Of image values, or None.
        lost: What was left out, a sentence each.
        by_patient: Groups are patients.
    """

    root: Path
    table: RleTable
    stems: np.ndarray
    homes: np.ndarray
    home: np.ndarray
    place: np.ndarray
    window: Window
    bits: int | None
    lost: tuple[str, ...]
    by_patient: bool
    num_classes: int = 1
    class_names: tuple[str, ...] = ("pneumothorax",)

    @property
    def ids(self) -> Names:
        """Names of the files without suffix."""
        return Names(self.stems)

    @property
    def groups(self) -> list[str] | None:
        """Numbered patients, if they were asked for."""
        return [f"patient-{number:06d}" for number in self._patients.tolist()] if self.by_patient else None

    def image(self, index: int) -> np.ndarray:
        """Decode the DICOM file."""
        return read_dicom(self.path(index), window=self.window, bits=self.bits)

    def mask(self, index: int) -> np.ndarray:
        """Decode the run lengths, at the size that the DICOM header says."""
        height, width, _ = read_dicom_header(self.path(index)).shape
        return self.table.mask(int(self.place[index]), (height, width))

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.root / _path(self.homes[self.home[index]], self.stems[index])

    def fingerprint(self, index: int) -> str:
        """Size and time of the DICOM file and of the CSV, and how they are read."""
        path = self.path(index)
        stat = path.stat() if path.is_file() else None
        return f"{stat and (stat.st_size, stat.st_mtime_ns)} {self.table.now()} {self.window} {self.bits}"

    @cached_property
    def facts(self) -> Facts:
        """Labels from the CSV; a few headers are read for the warnings."""
        labels = self.table.foreground[self.place][:, np.newaxis]
        chosen = range(0, len(self.stems), max(1, -(-len(self.stems) // _PROBED)))
        revealing = [index for index in chosen if self._names_patient(index)]
        warnings: list[tuple[int | None, str]] = [(None, text) for text in self.lost]
        if revealing:
            warnings.append(
                (
                    None,
                    f"The names of {len(revealing)} of the {len(chosen)} files that were looked at hold the patient's "
                    "name or id, which would appear in errors and reports. Rename the files, and the ids in the CSV.",
                )
            )
        return Facts(labels, self._all_shapes, tuple(warnings))

    def _all_shapes(self) -> np.ndarray:
        return self._shapes

    @cached_property
    def _shapes(self) -> np.ndarray:
        return np.asarray([header.shape for header in self._each(read_dicom_header)], np.int32)

    @cached_property
    def _patients(self) -> np.ndarray:
        """`(n,)` int32 number of each image's patient, in the order of their first images."""
        numbers: dict[bytes, int] = {}
        ids = [id for id, _ in self._each(read_person)]
        nameless = [index for index, id in enumerate(ids) if not id]
        if nameless:
            raise DataError(
                f"by_patient=True needs a PatientID in every file, and {len(nameless)} of {len(ids)} have none. The "
                f"first is {self.path(nameless[0])}."
            )
        return np.asarray([numbers.setdefault(id, len(numbers)) for id in ids], np.int32)

    def _each(self, read: Any) -> list[Any]:
        """What `read` finds in every file; faults are collected before one is raised."""

        def attempt(index: int) -> Any:
            try:
                return read(self.path(index))
            except (ValueError, OSError) as error:
                return error

        found = [*in_threads(attempt, range(len(self.stems)))]
        raise_all([each for each in found if isinstance(each, Exception)], len(found), f"under {self.root}")
        return found

    def _names_patient(self, index: int) -> bool:
        try:
            words = read_person(self.path(index))[1]
        except (ValueError, OSError):
            return False  # said when the image is read
        name = os.fsencode(self.path(index).relative_to(self.root)).lower()
        return any(word in name for word in words)


def _files(root: Path, suffix: str) -> Iterator[tuple[str, str]]:
    r"""Of the files under `root`: the name without suffix, and the directory and the suffix as "a/b/\0.dcm"."""
    pending, seen = [""], set()
    while pending:
        inside = pending.pop()
        real = os.path.realpath(root / inside)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(root / inside) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append(f"{inside}{entry.name}/")
                elif entry.name.lower().endswith(suffix):
                    cut = len(entry.name) - len(suffix)
                    yield entry.name[:cut], f"{inside}\0{entry.name[cut:]}"


def _index(files: Iterable[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Both columns as bytes, a part at a time, so that a million files never are Python's strings at once."""
    stream, parts = iter(files), []
    while chunk := [*islice(stream, 1 << 16)]:
        parts.append([pack(column) for column in zip(*chunk, strict=True)])
    stems = np.concatenate([part.pop(0) for part in parts] or [pack([])])
    return stems, np.concatenate([part.pop() for part in parts] or [pack([])])


def _path(home: Any, stem: Any) -> str:
    """Path of a file under the root, from its two entries."""
    inside, _, ending = os.fsdecode(home).partition("\0")
    return f"{inside}{os.fsdecode(stem)}{ending}"


def _without(table: RleTable, stems: np.ndarray, excluded: frozenset[str]) -> Iterator[str]:
    """Ids of the table without image."""
    return (id for id in Names(table.ids[find(stems, table.ids) < 0]) if id not in excluded)
