"""Read axial slices of NIfTI volumes, turned as the affine says, without loading the volume.

Volumes are stored in any order and direction of their axes. Here a slice is always seen as a radiologist sees it and as
DICOM orders it (LPS): the first row is anterior, the first column is the patient's right; slices go from the feet to
the head. https://nifti.nimh.nih.gov/nifti-1, https://nipy.org/nibabel/coordinate_systems.html

Of a header only what describes the array is read. Its texts and its extensions, which may name a patient, are not.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kerazoo.data.faults import DataError

SUFFIXES = (".nii", ".nii.gz")
"""Endings of the files, in lower case."""

MAX_BYTES = 1 << 36
"""Of the largest volume that is read."""

_MAX_SLICE = 1 << 26  # pixels
_LONGEST_HEADER = 540  # of NIfTI-2
_MAX_OFFSET = 1 << 26  # of the array in the file: what is before it are extensions
_INFLATION = 1032  # deflate makes at most so many bytes of one
_TRAILING = 1 << 20  # bytes that may follow the array
_CHUNK = 1 << 18
_CODES = (("R", "L"), ("A", "P"), ("S", "I"))


@dataclass(frozen=True, kw_only=True)
class Volume:
    """What the header of a NIfTI file says; `read_volume` makes it.

    Attributes:
        path: The file.
        stored: Shape of the array in the file.
        dtype: Of the array, as text.
        offset: Of the array, in bytes.
        slope: Factor of stored values.
        intercept: Added to stored values after that.
        axes: Letters of where the stored axes lead, "RAS".
        affine: Rows of the matrix from stored indices to millimeters, to the patient's right, front and head.
    """

    path: Path
    stored: tuple[int, int, int]
    dtype: str
    offset: int
    slope: float
    intercept: float
    axes: str
    affine: tuple[tuple[float, ...], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns: (D, H, W)."""
        slices, rows, columns = (self.stored[axis] for axis in self._order)
        return slices, rows, columns

    @property
    def compressed(self) -> bool:
        """Every slice reads the whole file."""
        return self.path.name.lower().endswith(".gz")

    @property
    def corners(self) -> np.ndarray:
        """`(8, 3)` millimeters of the corners of the volume as it is turned: (D, H, W) at 0 and at the end."""
        ends = np.array(np.meshgrid(*((0, size - 1) for size in self.shape), indexing="ij")).reshape(3, 8)
        places = np.empty((3, 8))
        for axis, backwards, end in zip(self._order, self._backwards, ends, strict=True):
            places[axis] = self.stored[axis] - 1 - end if backwards else end
        matrix = np.asarray(self.affine)
        return (matrix[:, :3] @ places + matrix[:, 3:]).T

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimeters between slices, rows and columns."""
        lengths = np.linalg.norm(np.asarray(self.affine)[:, :3], axis=0)
        slices, rows, columns = (float(lengths[axis]) for axis in self._order)
        return slices, rows, columns

    def plane(self, index: int) -> np.ndarray:
        """`(H, W)` values of a slice, with slope and intercept: floating point, or integers if these are 1 and 0.

        A file without compression is mapped into memory, and only the slice is read. A compressed one is read from
        beginning to end, because its checksum is at the end; no more than the slice is kept.

        Raises:
            DataError: the file is damaged or truncated.
        """
        axis, size = self._order[0], self.shape[0]
        place = size - 1 - index if self._backwards[0] else index
        if not self.compressed:
            picked = np.array(_cut(self._map(), place, axis))
        elif axis == 2:
            (picked,) = (slab for number, slab in enumerate(self._slabs()) if number == place)
        else:
            picked = np.stack([np.array(_cut(slab, place, axis)) for slab in self._slabs()], axis=1)
        return self._scaled(self._turn(picked))

    def present(self) -> np.ndarray:
        """`(D, 256)` bool: which class ids each slice of a mask has, from one pass over the file.

        Raises:
            DataError: the file is damaged or truncated, or has values that are no whole numbers of 0 to 255.
        """
        axis = self._order[0]
        found = np.zeros((self.shape[0], 256), bool)
        volume = None if self.compressed else self._map()
        slabs = self._slabs() if volume is None else (volume[..., place] for place in range(self.stored[2]))
        for number, slab in enumerate(slabs):
            values = as_ids(self._scaled(np.asarray(slab)), self.path)
            for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist():
                if axis == 2:
                    found[number, value] = True
                else:
                    found[:, value] |= (values == value).any(axis=1 - axis)
        return found[::-1] if self._backwards[0] else found

    def unpack(self, directory: Path) -> "Volume":
        """The volume without compression, from a copy that `directory` keeps; itself if it is not compressed.

        A copy that is there is taken if the file has not changed since.

        Raises:
            DataError: the file is damaged or truncated.
        """
        if not self.compressed:
            return self
        stat = self.path.stat()
        mark = zlib.crc32(f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode("utf-8", "surrogateescape"))
        copy = directory / f"{self.path.name[: -len('.nii.gz')]}-{mark:08x}.nii"
        if not copy.exists():
            directory.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f"{copy.name}.{np.random.default_rng().integers(1 << 32):08x}.partial")
            try:
                with partial.open("wb") as file:
                    for slab in self._slabs():
                        file.write(slab.tobytes(order="F"))
                partial.replace(copy)
            finally:
                partial.unlink(missing_ok=True)
        return replace(self, path=copy, offset=0)

    @property
    def _order(self) -> tuple[int, int, int]:
        """Stored axes of slices, rows and columns."""
        slices, rows, columns = (
            next(axis for axis in range(3) if self.axes[axis] in codes) for codes in reversed(_CODES)
        )
        return slices, rows, columns

    @property
    def _backwards(self) -> tuple[bool, bool, bool]:
        """Whether slices (to the head), rows (to the back) and columns (to the left) are stored the other way."""
        slices, rows, columns = (self.axes[axis] for axis in self._order)
        return slices == "I", rows == "A", columns == "R"

    def _turn(self, picked: np.ndarray) -> np.ndarray:
        """A slice as stored, its two axes in their order, as rows and columns."""
        _, rows, columns = self._order
        _, upside_down, mirrored = self._backwards
        turned = picked if rows < columns else picked.T
        turned = turned[::-1] if upside_down else turned
        return turned[:, ::-1] if mirrored else turned

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        if (self.slope, self.intercept) == (1, 0):
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return values * np.float64(self.slope) + self.intercept

    def _map(self) -> np.ndarray:
        try:
            _check_size(self.path, self._bytes)
            return np.memmap(self.path, self.dtype, "r", self.offset, self.stored, order="F")
        except OSError as error:
            raise _unreadable(self.path, error) from error

    @property
    def _bytes(self) -> int:
        """From the beginning of the file to the end of the array."""
        return self.offset + _product(self.stored) * np.dtype(self.dtype).itemsize

    def _slabs(self) -> Iterator[np.ndarray]:
        """Slices along the last stored axis of a compressed file, in turn, `(n0, n1)`; the end checks the file."""
        size = self.stored[0] * self.stored[1] * np.dtype(self.dtype).itemsize
        try:
            with gzip.open(self.path) as file:
                _read(file, self.offset, self.path)
                for _ in range(self.stored[2]):
                    slab = np.frombuffer(_read(file, size, self.path), self.dtype)
                    yield slab.reshape(self.stored[:2], order="F")
                trailing = 0
                while chunk := file.read(_CHUNK):
                    trailing += len(chunk)
                    if trailing > _TRAILING:
                        raise DataError(
                            f"{self.path} goes on after its {self._bytes} bytes. It is damaged: restore or remove it.",
                            "unreadable",
                        )
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.path, error) from error


def read_volume(path: str | Path, *, orientation: str | None = None) -> Volume:
    """The header of a NIfTI file (.nii or .nii.gz, NIfTI-1 or 2) with one volume.

    Args:
        path: The file.
        orientation: Where the stored axes lead, "RAS" or "LPS", in files that do not say.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is no NIfTI, is damaged or truncated, has several volumes or values that are no real
            numbers, or does not say how it is oriented; or it claims more than `MAX_BYTES`.
        ValueError: `orientation` is no orientation.
    """
    from nibabel import orientations
    from nibabel.spatialimages import HeaderDataError

    check_orientation(orientation)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    header = _header(path)
    dims = [int(size) for size in header["dim"]]
    if not 3 <= dims[0] <= 7 or min(dims[1:4]) < 1 or any(size > 1 for size in dims[4 : dims[0] + 1]):
        raise DataError(
            f"{path} must hold one volume of three axes; its header says {dims[0]} axes of sizes "
            f"{dims[1 : 1 + min(max(dims[0], 3), 7)]}. Take one volume of it, or restore it."
        )
    stored = (dims[1], dims[2], dims[3])
    try:
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        offset = float(header["vox_offset"])
    except (HeaderDataError, KeyError) as error:
        raise _unreadable(path, type(error).__name__) from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(
            f"{path} has values of type {dtype}; integers and floats of up to 64 bits are read. Convert it."
        )
    least = header.sizeof_hdr
    if not least <= offset <= _MAX_OFFSET:
        raise _unreadable(path, f"its header says that the array begins at byte {offset:g}")
    size = int(offset) + _product(stored) * dtype.itemsize
    if size > MAX_BYTES or stored[0] * stored[1] > _MAX_SLICE or max(stored) > _MAX_SLICE:
        raise DataError(f"{path} claims {stored} values of {dtype}, {size} bytes; up to {MAX_BYTES} are read.")
    _check_size(path, size)
    matrix = _affine(header, path, orientation)
    axes = "".join(orientations.aff2axcodes(matrix))
    return Volume(
        path=path,
        stored=stored,
        dtype=dtype.str,
        offset=int(offset),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        axes=axes,
        affine=tuple(tuple(map(float, row)) for row in matrix[:3]),
    )


def check_orientation(orientation: str | None) -> None:
    """Raise ValueError unless it is None or three letters, one of each pair of opposites."""
    if orientation is None:
        return
    if len(orientation) != 3 or any(sum(code in orientation for code in codes) != 1 for codes in _CODES):
        raise ValueError(
            f"`orientation` must be three letters, one of R and L, one of A and P, and one of S and I, as 'RAS'; "
            f"received {orientation!r}."
        )


def as_ids(values: np.ndarray, path: Path) -> np.ndarray:
    """The values of a mask as uint8.

    Raises:
        DataError: a value is no whole number of 0 to 255.
    """
    if values.dtype == np.uint8:
        return values
    with np.errstate(invalid="ignore"):
        ids = values.astype(np.uint8)
    strange = values[ids != values]
    if len(strange):
        raise DataError(
            f"Mask {path} has values that are no whole numbers of 0 to 255: {strange[0]:g}. Was it interpolated, or is "
            "it an image? Save class ids.",
            "values",
        )
    return ids


def _header(path: Path) -> Any:
    """The header, of which nothing is checked yet."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            block = file.read(_LONGEST_HEADER)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    lengths = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    kind = Nifti1Header if 348 in lengths else Nifti2Header if 540 in lengths else None
    magic = block[344:348] if kind is Nifti1Header else block[4:8]
    if kind is None or magic not in (b"n+1\0", b"n+2\0") or len(block) < kind.sizeof_hdr:
        raise _unreadable(path, "it is no NIfTI file of one part (.nii or .nii.gz)")
    return kind(block[: kind.sizeof_hdr], check=False)


def _affine(header: Any, path: Path, orientation: str | None) -> np.ndarray:
    """`(4, 4)` from stored indices to millimeters: the sform, else the qform, else what the caller says."""
    from nibabel import orientations
    from nibabel.spatialimages import HeaderDataError

    if header["sform_code"] > 0 or header["qform_code"] > 0:
        try:
            matrix = np.asarray(header.get_best_affine(), np.float64)
        except (HeaderDataError, ValueError, ArithmeticError) as error:
            raise _unreadable(path, f"its orientation is damaged ({type(error).__name__})") from None
    elif orientation is None:
        raise DataError(
            f"{path} does not say how it is oriented (sform_code and qform_code are 0). Pass `orientation` if you know "
            'where its axes lead: "RAS" is to the right, to the front and to the head.'
        )
    else:
        codes = orientations.axcodes2ornt(orientation)
        spacing = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        matrix[codes[:, 0].astype(int), range(3)] = codes[:, 1] * np.where(spacing > 0, spacing, 1)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12 or np.abs(matrix).max() > 1e6:
        raise DataError(f"{path} has an affine that is no orientation: it is damaged. Restore it.", "unreadable")
    axes = orientations.aff2axcodes(matrix)
    if sorted(axes.index(code) for codes in _CODES for code in codes if code in axes) != [0, 1, 2]:
        raise DataError(f"{path} has an affine that is no orientation: it is damaged. Restore it.", "unreadable")
    return matrix


def _check_size(path: Path, size: int) -> None:
    """A file is long enough for the array that it claims, before anything is allocated for it."""
    there = path.stat().st_size
    most = there * _INFLATION if path.name.lower().endswith(".gz") else there
    if size > most:
        raise DataError(
            f"{path} is truncated, or its header is damaged: it claims {size} bytes, and there are {there}"
            f"{', compressed' if most > there else ''}. Restore it.",
            "unreadable",
        )


def _read(file: BinaryIO | gzip.GzipFile, size: int, path: Path) -> bytes:
    """`size` bytes of a compressed file, allocated as they come."""
    parts, left = [], size
    while left:
        part = file.read(min(left, _CHUNK))
        if not part:
            raise DataError(f"{path} is truncated: {left} bytes are missing. Restore it.", "unreadable")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _cut(array: np.ndarray, place: int, axis: int) -> np.ndarray:
    """A view of one place along an axis; `numpy.take` would read all of a mapped file."""
    return array[(slice(None),) * axis + (place,)]


def _product(shape: tuple[int, ...]) -> int:
    """In Python's integers, which do not overflow."""
    count = 1
    for size in shape:
        count *= size
    return count


def _unreadable(path: Path, error: object) -> DataError:
    return DataError(
        f"Cannot read {path}: {error}. The file is damaged or truncated: restore or remove it.", "unreadable"
    )
