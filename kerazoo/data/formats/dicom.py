"""Read DICOM images as a viewer shows them: rescaled, windowed, and dark where they are to be dark.

What is asked of a file are the elements that describe its pixels, and no others: nothing that identifies a patient is
decoded, and no error quotes an element's text, nor an error of pydicom's. DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2,
https://dicom.nema.org/medical/dicom/current/output/html/part03.html
"""

import importlib.util
import math
import os
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from kerazoo.data.faults import DataError
from kerazoo.data.formats.intensity import Window, check_window, to_unit

WINDOWS = ("header", "full", "minmax")
"""Windows that have a name; `read_dicom` says what they are."""

MAX_PIXELS = 1 << 27
"""Pixels of the largest image that is read: ten times a mammogram."""

_MAX_BYTES = 1 << 30  # of a file
_HEAD = 2048  # the transfer syntax lies in these first bytes, among the first five elements of a file
_DEFLATED = b"1.2.840.10008.1.2.1.99"

_SHAPE = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation")
_BITS = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_PIXELS = ("PlanarConfiguration", "PixelData")
_LEVELS = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
_VIEW = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_PERSON = ("PatientID", "PatientName")

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PLUGINS = {  # transfer syntax → who decodes it; all that is not here is not compressed, or unknown
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended; 12 bits are refused by Pillow and GDCM
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pillow",
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "gdcm",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "gdcm",
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


class DicomHeader(NamedTuple):
    """What a DICOM file says of its image.

    Attributes:
        shape: Height, width and channels that `read_dicom` gives.
        bits: Bits of a stored value.
        signed: Stored values may be negative.
        inverted: The least value is white.
    """

    shape: tuple[int, int, int]
    bits: int
    signed: bool
    inverted: bool


def read_dicom(path: str | Path, *, window: Window = "header", bits: int | None = None) -> np.ndarray:
    """Decode a DICOM file with one image.

    Stored values are rescaled as the file says (slope and intercept, or a table), windowed, and inverted if they are
    MONOCHROME1, so that bright is bright.

    Args:
        path: The file.
        window: Which rescaled values become black and white: "header": the window or the table that the file gives
            for display, the first if there are several, and else "full"; "full": the range that its bits can hold;
            "minmax": the least and the greatest of the image; or (low, high), in Hounsfield units for CT. Color
            images are taken as they are.
        bits: 8 or 16 bits of a value that is given back. None: 8 for files that store up to 8 bits, else 16.

    Returns: `(H, W, C)` uint8 in 0-255, or uint16 in 0-65535; C is 1 for gray and 3 for color (RGB).

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is no DICOM, is corrupt or truncated, has no pixels, several frames or a photometric
            interpretation or a compression that cannot be read; or more than `MAX_PIXELS`.
        ValueError: an argument is outside what is said above.
    """
    check_window(window, WINDOWS)
    if bits not in (None, 8, 16):
        raise ValueError(f"`bits` must be 8, 16 or None, received bits={bits!r}.")
    with _UNQUOTED:
        return _image(path, window, bits)


def read_dicom_header(path: str | Path) -> DicomHeader:
    """Size and depth of the image in a DICOM file, without its pixels.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: as `read_dicom`, for what can be known without pixels.
    """
    with _UNQUOTED:
        return _header(_open(path, (*_SHAPE, *_BITS)), path)


def read_person(path: str | Path) -> tuple[bytes, tuple[bytes, ...]]:
    """The patient's id, and the words of name and id, as bytes in lower case; to compare, and never to be shown.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is no DICOM.
    """
    with _UNQUOTED:
        data = _open(path, _PERSON)
    raw = []
    for name in _PERSON:
        value = data.get_item(name).value if name in data else None
        raw.append(value.strip(b" \0").lower() if isinstance(value, bytes) else b"")
    words = raw[1].replace(b"^", b" ").replace(b"=", b" ").split()
    return raw[0], tuple(word for word in (raw[0], *words) if len(word) > 2)


def _image(path: str | Path, window: Window, bits: int | None) -> np.ndarray:
    """Decode, rescale, window and invert; the arguments are checked."""
    data = _open(path, (*_SHAPE, *_BITS, *_PIXELS, *_LEVELS, *_VIEW), pixels=True)
    header = _header(data, path)
    stored = _decode(data, header, path)
    steps = 255 if (bits or (8 if header.bits <= 8 else 16)) == 8 else 65535
    if header.shape[2] == 3:
        return stored if steps == 255 else stored.astype(np.uint16) * 257
    low = -(1 << header.bits - 1) if header.signed else 0
    unused = 8 * stored.dtype.itemsize - header.bits
    stored = stored << unused >> unused  # overlays of old files lie in the bits above; the shift keeps the sign
    try:
        with np.errstate(all="ignore"):
            levels = _levels(data, np.arange(low, low + (1 << header.bits)), stored, window)
    except Exception as error:  # pydicom raises whatever a damaged table or number leads to
        raise _damaged(path, "its rescaling or window is", error) from None
    table = np.rint((1 - levels if header.inverted else levels) * steps).astype(np.uint8 if steps == 255 else np.uint16)
    return table[stored.astype(np.int64) - low][..., np.newaxis]


class _Unquoted:
    """While it is entered, in whatever threads, pydicom does not validate values: its warnings and logs quote them.

    In a damaged file any element may hold the patient's name. The setting is pydicom's own, for the whole process; it
    is put back when the last thread leaves.
    """

    def __init__(self):
        self._lock, self._inside = Lock(), 0
        self._before: Any = None

    def __enter__(self) -> None:
        from pydicom import config

        with self._lock:
            if not self._inside:
                self._before = config.settings.reading_validation_mode
                config.settings.reading_validation_mode = config.IGNORE
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        from pydicom import config

        with self._lock:
            self._inside -= 1
            if not self._inside:
                config.settings.reading_validation_mode = self._before


_UNQUOTED = _Unquoted()


class _Clipped:
    """A file whose `read` allocates no more than the file holds, whatever length an element claims.

    Args:
        file: Open for reading.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, self._size) if size is not None and size >= 0 else self._size)


def _open(path: str | Path, tags: tuple[str, ...], *, pixels: bool = False) -> Any:
    """The dataset in a file, with no element but `tags`."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with Path(path).open("rb") as file:
            if _DEFLATED in file.read(_HEAD):
                raise DataError(f"{path} is deflated as a whole, which is not read. Convert it: dcmconv +te IN OUT.")
            file.seek(0, os.SEEK_END)
            if file.tell() > _MAX_BYTES:
                raise DataError(f"{path} has {file.tell()} bytes; files of up to {_MAX_BYTES} are read.")
            file.seek(0)
            stream: Any = BytesIO(file.read()) if pixels else _Clipped(file)
            return pydicom.dcmread(stream, stop_before_pixels=not pixels, specific_tags=[*tags])
    except DataError:
        raise
    except InvalidDicomError:
        raise DataError(
            f"{path} is no DICOM file: it lacks the letters DICM after 128 bytes. Restore it or remove it.",
            "unreadable",
        ) from None
    except Exception as error:  # pydicom raises whatever damaged bytes lead to
        raise _damaged(path, "it is", error) from None


def _header(data: Any, path: str | Path) -> DicomHeader:
    """Check what describes the image, before anything is allocated for it."""
    try:
        rows, columns, samples = (int(data.get(name) or 0) for name in _SHAPE[:3])
        frames = int(data.get("NumberOfFrames") or 1)
        allocated, stored = int(data.get("BitsAllocated") or 0), int(data.get("BitsStored") or 0)
        high_bit = int(data.get("HighBit", stored - 1))
        signed = bool(int(data.get("PixelRepresentation") or 0))
        photometric = str(data.get("PhotometricInterpretation", ""))
    except Exception as error:
        raise _damaged(path, "the description of its image is", error) from None
    if rows < 1 or columns < 1:
        raise DataError(
            f"{path} has no image: it says {rows} rows and {columns} columns. It is truncated, or a report: restore it "
            "or leave it out.",
            "unreadable",
        )
    if rows * columns > MAX_PIXELS:
        raise DataError(
            f"{path} says that it has {rows} rows and {columns} columns; images of up to {MAX_PIXELS} pixels are "
            "read. The file is damaged, or to be divided into tiles."
        )
    if frames != 1:
        raise DataError(f"{path} has {frames} frames, and one image is expected. Save each frame as a file.")
    color = photometric in _COLOR
    if samples != (3 if color else 1) or not (color or photometric in _GRAY):
        known = photometric if photometric in (*_GRAY, *_COLOR, "PALETTE COLOR") else "unknown"
        raise DataError(
            f"{path} has the photometric interpretation {known} with {samples} samples per pixel; {', '.join(_GRAY)} "
            f"with 1 and {', '.join(_COLOR)} with 3 are read. Convert it to one of them."
        )
    if allocated not in (8, 16) or not 1 <= stored <= allocated or high_bit != stored - 1 or (color and stored != 8):
        raise DataError(
            f"{path} stores {stored} bits in {allocated}, the highest being bit {high_bit}; up to 8 in 8 or up to 16 "
            f"in 16 are read, from bit 0 on, and 8 in 8 for color. Convert it."
        )
    return DicomHeader((rows, columns, samples), stored, signed, photometric == _GRAY[0])


def _decode(data: Any, header: DicomHeader, path: str | Path) -> np.ndarray:
    """`(H, W)` or `(H, W, 3)` stored values."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels.utils import pixel_array

    rows, columns, samples = header.shape
    try:
        syntax, value = str(getattr(data.file_meta, "TransferSyntaxUID", "")), data.get("PixelData")
    except Exception as error:
        raise _damaged(path, "its pixel data are", error) from None
    if not isinstance(value, bytes) or not value:
        raise DataError(f"{path} has no pixel data. Restore it or leave it out.")
    if syntax not in _PLAIN and syntax not in _PLUGINS:
        raise DataError(
            f"{path} is compressed in a way that is not read: transfer syntax {_known_name(syntax)}. Convert it: "
            "gdcmconv --raw IN OUT."
        )
    plugin = _PLUGINS.get(syntax, "")
    extended = syntax.endswith(".4.51") and header.bits != 8
    if extended or (plugin == "gdcm" and not importlib.util.find_spec("gdcm")):
        advice = "Convert it: dcmdjpeg IN OUT." if extended else "Type: pip install 'kerazoo[gdcm]'"
        raise DataError(
            f"{path} is compressed as {_known_name(syntax)} with {header.bits} bits, which Pillow cannot decode. "
            f"{advice}"
        )
    if not plugin:
        halved = data.PhotometricInterpretation == "YBR_FULL_422"
        expected = math.ceil(rows * columns * (2 if halved else samples) * int(data.BitsAllocated) / 8)
        if len(value) < expected:
            raise DataError(
                f"{path} is truncated: {rows}x{columns} pixels are {expected} bytes, and it has {len(value)}. Restore "
                "it.",
                "unreadable",
            )
    try:
        if plugin == "pillow":
            with Image.open(BytesIO(next(generate_frames(value, number_of_frames=1)))) as image:
                size = image.size
            if size != (columns, rows):
                raise DataError(
                    f"{path} says {rows}x{columns} pixels, and its compressed image has {size[1]}x{size[0]}. Restore "
                    "it.",
                    "unreadable",
                )
        pixels = np.asarray(pixel_array(data, decoding_plugin=plugin))
    except DataError:
        raise
    except Exception as error:  # pydicom and the decoders raise whatever damaged bytes lead to
        raise _damaged(path, "its pixel data are", error) from None
    shape = (rows, columns) if samples == 1 else header.shape
    if pixels.shape != shape or pixels.dtype.kind != ("i" if header.signed else "u"):
        raise DataError(f"{path}: its pixel data do not fill {rows}x{columns} pixels. Restore it.", "unreadable")
    return pixels


def _levels(data: Any, values: np.ndarray, stored: np.ndarray, window: Window) -> np.ndarray:
    """`(n,)` float32 in 0-1: the level of each value that can be stored, `values`, ascending."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    scaled = np.asarray(apply_modality_lut(values, data), np.float64)
    if not np.isfinite(scaled).all():
        raise ValueError("not finite")
    if isinstance(window, tuple | list):
        return to_unit(scaled, *window)
    if window == "minmax":
        used = np.unique(stored)
        there = scaled[used.astype(np.int64) - values[0]]
        return to_unit(scaled, there.min(), there.max())
    if window == "header" and data.get("VOILUTSequence"):
        depth = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return to_unit(apply_voi(scaled.astype(np.int64), data), 0, (1 << depth) - 1)
    if window == "header" and data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        center, width = _first(data.WindowCenter), _first(data.WindowWidth)
        function = str(data.get("VOILUTFunction") or "LINEAR").upper()
        if not math.isfinite(center + width):
            raise ValueError("not finite")
        if function == "LINEAR" and width >= 1:
            return to_unit(scaled, center - width / 2, center + width / 2 - 1)
        if function == "LINEAR_EXACT" and width > 0:
            return to_unit(scaled, center - width / 2, center + width / 2)
        if function == "SIGMOID" and width > 0:
            return (1 / (1 + np.exp(np.clip(-4 * (scaled - center) / width, -700, 700)))).astype(np.float32)
        raise ValueError("no such window")
    return to_unit(scaled, scaled.min(), scaled.max())


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__getitem__") else value)


def _known_name(syntax: str) -> str:
    from pydicom.config import IGNORE
    from pydicom.uid import UID

    name = UID(syntax, validation_mode=IGNORE).name
    return "unknown" if name == syntax else f"{name} ({syntax})"


def _damaged(path: str | Path, what: str, error: BaseException) -> DataError:
    """Names the kind of the error only: its text may quote what the file says of the patient."""
    return DataError(
        f"Cannot read {path}: {what} damaged or truncated ({type(error).__name__}). Restore or remove it.", "unreadable"
    )
