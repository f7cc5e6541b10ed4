"""How a prepared data set lies on the disk: what `prepare` writes and `sources.prepared` reads.

source.npz                      what was prepared, and how; written first
shard-00000-of-00042.tfrecord   the samples
shard-00000-of-00042.npz        where in it they are, until the last shard is there
records.npz                     where all of them are; written last
"""

import json
import os
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 2
SOURCE, RECORDS = "source.npz", "records.npz"
DTYPES = ("uint8", "uint16", "float32")
ROW = np.dtype(
    [
        ("image_at", "<i8"), ("image_bytes", "<i8"), ("image_crc", "<u4"), ("dtype", "u1"),
        ("mask_at", "<i8"), ("mask_bytes", "<i8"), ("mask_crc", "<u4"),
        ("shape", "<i4", (3,)), ("end", "<i8"), ("vanished", "?"),
    ]
)  # fmt: skip
"""One sample: where image and mask begin in the shard, their bytes there and CRC-32, and where the record ends;
whether a class of the image is no longer in the resized mask."""


def shard_name(shard: int, shards: int) -> str:
    """Name of a shard's file."""
    return f"shard-{shard:05d}-of-{shards:05d}.tfrecord"


def is_prepared(directory: str | Path) -> bool:
    """Whether `prepare` has finished in `directory`."""
    return (Path(directory) / RECORDS).is_file()


def join(names: Sequence[str]) -> np.ndarray:
    """Texts as one array of bytes, which takes less memory than an array of texts."""
    return np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8)


def split(names: np.ndarray) -> tuple[str, ...]:
    """The texts that `join` put into one array."""
    return tuple(names.tobytes().decode("utf-8", "surrogateescape").split("\0"))


def save(path: Path, facts: Any, **arrays: np.ndarray) -> None:
    """Write facts (JSON) and arrays as a `.npz` file, all of it or nothing, the same bytes for the same content."""
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(arrays):
                buffer = BytesIO()
                np.lib.format.write_array(buffer, arrays[name], allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())
        flush_to_disk(file)
    partial.replace(path)


def flush_to_disk(file: Any) -> None:
    """Force what was written to `file` onto the disk, so that a rename cannot come before it."""
    file.flush()
    os.fsync(file.fileno())


def load(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """Read the facts and arrays of a file that `save` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return json.loads(arrays.pop("facts").tobytes()), arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged ({error}). Delete the directory and prepare it again.") from error
