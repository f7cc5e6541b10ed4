"""Read and resize images and masks with Pillow and NumPy; every fault names the file."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from kerazoo.data.faults import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Suffixes, in lower case, of the files that count as images."""

_GRAY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # EXIF tag
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


UINT16_PER_LEVEL = 257
"""Steps of a 16-bit image in one of the 255 steps that models take: 65535 / 255."""


class Header(NamedTuple):
    """What an image file says before its pixels.

    Attributes:
        shape: Height, width and channels that `read_image` will give.
        turned: EXIF turns the image, and it was asked for.
        alpha: There is an alpha channel, which `read_image` drops.
    """

    shape: tuple[int, int, int]
    turned: bool
    alpha: bool


def read_image(
    path: str | Path, *, exif_orientation: bool = True, intensity_range: tuple[float, float] | None = None
) -> np.ndarray:
    """Decode an image file.

    Args:
        path: The file.
        exif_orientation: Turn the image as its EXIF tag says, as every viewer does.
        intensity_range: Image values (low, high) that become 0 and 255, as float32, clipped; None leaves them as
            stored.

    Returns: `(H, W, C)` uint8, uint16 (16-bit gray) or float32 (float or 32-bit gray TIFF). C is 1 for gray and 3 for
        color; palettes are resolved, CMYK is converted and an alpha channel is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is corrupt or truncated, has several frames, or holds NaN or infinity; or
            `intensity_range` is not (low, high).
    """
    check_intensity_range(intensity_range)
    image = _decode(path, exif_orientation)
    if image.mode == "P" or image.mode in {"CMYK", "YCbCr", "LAB", "HSV", "RGBX", "PA"}:
        image = image.convert("RGB")
    elif image.mode in {"1", "LA", "La"}:
        image = image.convert("L")
    elif image.mode in {"RGBA", "RGBa"}:
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype.kind == "i" or pixels.dtype == np.float64:
        pixels = pixels.astype(np.float32)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"Image {path} holds NaN or infinity. Repair it or leave it out.", "not_finite")
    if pixels.dtype == np.dtype(">u2"):
        pixels = pixels.astype(np.uint16)
    if intensity_range is not None:
        low, high = intensity_range
        pixels = np.clip((pixels.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def check_intensity_range(intensity_range: Sequence[float] | None) -> tuple[float, float] | None:
    """`intensity_range` as a tuple of floats, or None.

    Raises:
        ValueError: it is neither None nor (low, high) with low < high.
    """
    if intensity_range is None:
        return None
    if len(intensity_range) != 2 or not intensity_range[0] < intensity_range[1]:
        raise ValueError(f"`intensity_range` must be (low, high) with low < high, received {intensity_range}.")
    return float(intensity_range[0]), float(intensity_range[1])


def read_mask(path: str | Path, *, exif_orientation: bool = True) -> np.ndarray:
    """Decode a mask file without interpreting its values.

    Args:
        path: The file. A palette gives its indices, an opaque alpha channel is dropped, and three equal channels are
            one.
        exif_orientation: Turn the mask as its EXIF tag says.

    Returns: `(H, W)` of bool (1-bit files), uint8, uint16 or int32; or `(H, W, 3)` uint8 if the channels differ.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is corrupt or truncated, has several frames, floating-point values or
            transparent pixels.
    """
    image = _decode(path, exif_orientation)
    if image.mode in {"LA", "PA", "RGBA"}:
        alpha = np.asarray(image.getchannel("A"))
        if (alpha != 255).any():
            raise DataError(
                f"Mask {path} has transparent pixels: their class is unknown. Save it without alpha channel.", "values"
            )
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    values = np.asarray(image)
    if values.dtype.kind == "f":
        raise DataError(
            f"Mask {path} has floating-point values (mode {image.mode}). Save it as integer class ids.", "values"
        )
    if values.ndim == 3 and values.shape[2] == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    return values


def read_header(path: str | Path, *, exif_orientation: bool = True) -> Header:
    """Shape and oddities of an image file, without decoding it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the header cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turn = image.getexif().get(_ORIENTATION, 1) if exif_orientation else 1
            if turn in (5, 6, 7, 8):
                width, height = height, width
            channels = 1 if image.mode in _GRAY else 3
            return Header((height, width, channels), turn in range(2, 9), image.mode in _ALPHA)
    except FileNotFoundError:
        raise
    except _FAULTS as error:
        raise _unreadable(path, error) from error


def to_byte_range(image: np.ndarray) -> np.ndarray:
    """Turn the 0-65535 of a uint16 image into 0-255 float32; an image of any other dtype is given back as it is.

    Whatever feeds a model calls this, before it resizes: the pipeline, prediction and, in TensorFlow, an export.
    """
    return image.astype(np.float32) / np.float32(UINT16_PER_LEVEL) if image.dtype == np.uint16 else image


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize `(H, W, C)` to `size` = (height, width), bilinear and antialiased; dtype and range are kept."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8 and image.shape[2] in (1, 3):
        pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        resized = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))
        return resized[..., np.newaxis] if resized.ndim == 2 else resized
    channels = [
        Image.fromarray(image[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        for c in range(image.shape[2])
    ]
    resized = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    return np.rint(resized).astype(image.dtype) if image.dtype.kind == "u" else resized.astype(image.dtype)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize `(H, W)` uint8 ids to `size` = (height, width) by the nearest pixel, so no new id appears."""
    height, width = size
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Turn gray `(H, W, 1)` into `channels` equal ones, or RGB into gray (ITU-R 601 luma); dtype is kept.

    Raises:
        ValueError: the image has neither one channel nor `channels`, and is not RGB asked for as gray.
    """
    have = image.shape[2]
    if have == channels:
        return image
    if have == 1:
        return np.repeat(image, channels, axis=2)
    if have == 3 and channels == 1:
        luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return (np.rint(luma).astype(image.dtype) if image.dtype.kind == "u" else luma)[..., np.newaxis]
    raise ValueError(
        f"An image of {have} channels cannot become one of channels={channels}; pass channels={have} or None."
    )


def _decode(path: str | Path, exif_orientation: bool) -> Image.Image:
    try:
        with Path(path).open("rb") as file, Image.open(_checked(file)) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its preview
            image.load()
            decoded = ImageOps.exif_transpose(image) if exif_orientation else image.copy()
    except FileNotFoundError:
        raise
    except _FAULTS as error:
        raise _unreadable(path, error) from error
    if frames > 1:
        raise DataError(f"{path} has {frames} frames, and one image is expected. Save each frame as a file.")
    return decoded


def _checked(file: BinaryIO) -> BinaryIO:
    """The file; if it is a PNG, only after its checksums were compared, which Pillow does not do for pixels."""
    start = file.read(len(_PNG))
    file.seek(0)
    if start != _PNG:
        return file
    content = file.read()
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        if len(content) < position + 12:
            raise ValueError("it is cut off")
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if content[end : end + 4] != struct.pack(">I", zlib.crc32(memoryview(content)[position + 4 : end])):
            name = kind.decode("ascii", "backslashreplace")
            raise ValueError(f"its chunk {name} does not have the checksum that it says")
        position = end + 4
    return BytesIO(content)


def _unreadable(path: str | Path, error: BaseException) -> DataError:
    return DataError(
        f"Cannot read {path}: {error}. The file is corrupt, truncated or no image: restore it or remove it.",
        "unreadable",
    )
