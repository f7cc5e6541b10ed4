"""What `kerazoo.data.prepare` wrote: decoded samples in TFRecord files, read one by one without TensorFlow."""

import sys
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerazoo.data.id_lists import IdList, read_ids
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.shards import DTYPES, FORMAT, RECORDS, SOURCE, load, shard_name, split
from kerazoo.data.source import Source
from kerazoo.data.sources._pairing import directory


def prepared(root: str | Path, *, exclude: IdList | None = None) -> Source:
    """The samples that `kerazoo.data.prepare` wrote to `root`, with the ids, labels and groups of their source.

    Any sample can be read at any time; each is checked against its checksum. The files of the source are not needed.

    Args:
        root: The directory.
        exclude: Ids to leave out: a list, or a file such as `kerazoo verify --fix` writes.

    Returns: The source.

    Raises:
        FileNotFoundError: `root` is no directory, or a shard is missing.
        ValueError: `root` was not prepared, not to the end, or is damaged; or `exclude` names every sample.
    """
    root = directory(root, "root")
    if not (root / RECORDS).is_file():
        state = "was not prepared to the end" if (root / SOURCE).is_file() else "holds no prepared data"
        raise ValueError(f"{root} {state}. Call kz.data.prepare(source, {str(root)!r}), or type kerazoo prepare.")
    facts, arrays = load(root / SOURCE)
    if facts["format"] != FORMAT:
        raise ValueError(
            f"{root} has the format {facts['format']}, and this version reads {FORMAT}. Delete it and prepare it again."
        )
    records = load(root / RECORDS)[1]["records"]
    reader = Prepared(
        root=root,
        ids=split(arrays["ids"]),
        groups=tuple(map(sys.intern, split(arrays["groups"]))) if "groups" in arrays else None,
        labels=arrays["labels"],
        fingerprints=arrays["fingerprints"],
        records=records,
        about=facts,
    )
    reader.check()
    excluded = read_ids(exclude, "exclude")
    kept = np.array([id not in excluded for id in reader.ids], bool)
    if not kept.any():
        raise ValueError(f"`exclude` names every sample of {root}; a source cannot be empty.")
    return Source(reader, indices=np.flatnonzero(kept))


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared(Reader):
    """Reads prepared samples; `prepared` makes it.

    Args:
        root: The directory.
        ids: Of the samples.
        groups: Of the samples, or None.
        labels: `(n, num_classes)` bool, those of the source that was prepared.
        fingerprints: `(n,)` uint64, those of the source that was prepared.
        records: `(n,)` of `shards.ROW`.
        about: What source.npz says of the classes and of the settings.
    """

    root: Path
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    labels: np.ndarray
    fingerprints: np.ndarray
    records: np.ndarray
    about: dict[str, Any]

    @property
    def num_classes(self) -> int:
        return self.about["num_classes"]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.about["class_names"])

    @property
    def ignore_class(self) -> int | None:
        return self.about["ignore_class"]

    @property
    def value_range(self) -> tuple[float, float]:
        low, high = self.about["value_range"]
        return low, high

    @cached_property
    def facts(self) -> Facts:
        """Labels and shapes as they were written; nothing is decoded."""
        warnings: list[tuple[int | None, str]] = [(None, text) for text in self.about["warnings"]]
        for index in np.flatnonzero(self.records["vanished"]).tolist():
            height, width, _ = self.records["shape"][index].tolist()
            warnings.append(
                (index, f"{self.ids[index]}: a class that it shows is not in its mask of {height}x{width}.")
            )
        return Facts(self.labels, self.records["shape"], tuple(warnings))

    def image(self, index: int) -> np.ndarray:
        """Read the pixels, which are stored as they are."""
        row = self.records[index]
        return self._read(index, "image").view(DTYPES[row["dtype"]]).reshape(row["shape"])

    def mask(self, index: int) -> np.ndarray:
        """Read the class ids; a mask of no bytes is all background."""
        row = self.records[index]
        if row["mask_bytes"] == 0:
            return np.zeros(row["shape"][:2], np.uint8)
        return self._read(index, "mask").reshape(row["shape"][:2])

    def fingerprint(self, index: int) -> str:
        """Fingerprint in the source that was prepared, and the settings of the preparation."""
        return f"{self.fingerprints[index]} {self.about['settings']}"

    def check(self) -> None:
        """Raise unless every shard is there in full."""
        each = self.about["settings"]["shard_images"]
        for shard in range(-(-len(self.ids) // each)):
            path = self._path(shard)
            size = int(self.records["end"][min((shard + 1) * each, len(self.ids)) - 1])
            if not path.is_file():
                raise FileNotFoundError(f"The shard {path} is missing. Prepare {self.root} again: only it is written.")
            if path.stat().st_size != size:
                raise ValueError(
                    f"The shard {path} has {path.stat().st_size} bytes where {size} were written. Prepare {self.root} "
                    "again: only it is written."
                )

    def _path(self, shard: int) -> Path:
        each = self.about["settings"]["shard_images"]
        return self.root / shard_name(shard, -(-len(self.ids) // each))

    def _read(self, index: int, what: str) -> np.ndarray:
        """Bytes of an image or a mask, uint8."""
        row = self.records[index]
        path = self._path(index // self.about["settings"]["shard_images"])
        with path.open("rb", buffering=0) as file:  # opened each time: a process may hold few files, and fork
            file.seek(int(row[f"{what}_at"]))
            content: Any = np.fromfile(file, np.uint8, int(row[f"{what}_bytes"]))
        if zlib.crc32(content) != row[f"{what}_crc"]:
            raise ValueError(
                f"The {what} of {self.ids[index]!r} in {path} is damaged. Delete that file and prepare {self.root} "
                "again: only it is written."
            )
        if self.about["settings"]["compress"]:
            return np.frombuffer(bytearray(zlib.decompress(content)), np.uint8)
        return content
