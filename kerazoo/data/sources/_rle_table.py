"""The CSV of the SIIM-ACR pneumothorax data: one row per mask instance, `ImageId, EncodedPixels`.

Only where each row lies is kept; its run lengths are read again when the mask is asked for.
"""

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerazoo.data.faults import DataError, FaultyError
from kerazoo.data.formats.rle import EMPTY, decode_runs
from kerazoo.data.sources._names import Names, find, pack

COLUMNS = ("ImageId", "EncodedPixels")
_LISTED = 5  # faults that an error names
_DIGITS = b"0123456789 \t"


@dataclass(frozen=True, kw_only=True, repr=False)
class RleTable:
    """Where the rows of each image lie in the file; `read_table` makes it.

    Attributes:
        path: The file.
        stat: Its size and time of change when it was read.
        ids: `(m,)` sorted, unique ids as bytes.
        first: `(m + 1,)` int64: the rows of id i are `first[i]` to `first[i + 1]`.
        rows: `(r, 3)` int64: number of the row in the file, and first and last byte of its run lengths.
        foreground: `(m,)` bool: the id has run lengths.
    """

    path: Path
    stat: tuple[int, int]
    ids: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    foreground: np.ndarray

    def mask(self, place: int, shape: tuple[int, int]) -> np.ndarray:
        """`(H, W)` uint8: the union of the masks in all rows of the id at `place`.

        Raises:
            DataError: the file has changed, or run lengths are faulty.
        """
        united = np.zeros(shape, bool)
        if not self.foreground[place]:
            return united.astype(np.uint8)
        if self.now() != self.stat:
            raise DataError(f"{self.path} has changed since the source was made. Make the source again.", "annotation")
        with self.path.open("rb") as file:
            for row, start, stop in self.rows[self.first[place] : self.first[place + 1]].tolist():
                file.seek(start)
                text = _bare(file.read(stop - start)).decode("ascii")
                united |= decode_runs(text, shape, f"row {row} of {self.path}")
        return united.astype(np.uint8)

    def now(self) -> tuple[int, int]:
        """Size and time of change of the file, at present."""
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Place of each id in the table, -1 where there is none."""
        return find(self.ids, ids)


def read_table(path: str | Path, *, excluded: frozenset[str] = frozenset()) -> RleTable:
    """Find the rows of each image; names of columns may have blanks around them, as in the competition's file.

    Args:
        path: The file.
        excluded: Ids whose rows may be faulty.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a column is missing, there is no row, or a row has another number of fields.
        FaultyError: a row is neither run lengths nor "-1", or says that an image is empty for which another row has run
            lengths. Rows are counted from 1, the header.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`csv` must be a file: {path} does not exist (working directory {Path.cwd()}).")
    stat = path.stat()
    rows, empty = array("q"), bytearray()
    broken: list[str] = []
    faulty: list[tuple[str, str]] = []

    def ids():
        """Ids in the order of the file; on the way, where their run lengths are."""
        with path.open("rb") as file:
            header = file.readline()
            fields = [_bare(field) for field in header.removeprefix(b"\xef\xbb\xbf").split(b",")]
            known = [field.decode("ascii", "replace").lower() for field in fields]
            if not {name.lower() for name in COLUMNS} <= set(known):
                raise DataError(
                    f"{path} must have the columns {COLUMNS[0]} and {COLUMNS[1]} in its first row, separated by "
                    f"commas; that row has {len(fields)} fields without them.",
                    "annotation",
                )
            of_id, of_runs = (known.index(name.lower()) for name in COLUMNS)
            position = len(header)
            for number, line in enumerate(file, start=2):
                fields = line.rstrip(b"\r\n").split(b",")
                start = position + sum(len(field) + 1 for field in fields[:of_runs])
                position += len(line)
                if len(fields) == 1 and not fields[0].strip():
                    continue
                if len(fields) != len(known) or not _bare(fields[of_id]):
                    broken.append(f"row {number} has {len(fields)} fields, not {len(known)}, or no {COLUMNS[0]}")
                    continue
                id, text = _bare(fields[of_id]).decode("utf-8", "surrogateescape"), _bare(fields[of_runs])
                if not text or (text != EMPTY.encode() and text.translate(None, _DIGITS)):
                    said = f"{COLUMNS[1]} in row {number} are neither run lengths nor {EMPTY} for an empty mask"
                    faulty.append((id, said))
                    continue
                rows.extend((number, start, start + len(fields[of_runs])))
                empty.append(text == EMPTY.encode())
                yield id

    packed = pack(ids())
    table, blank = np.frombuffer(rows, np.int64).reshape(-1, 3), np.frombuffer(empty, np.uint8)
    order = np.argsort(packed, kind="stable")
    packed = packed[order]
    first = np.flatnonzero(np.append(np.ones(min(1, len(packed)), bool), packed[1:] != packed[:-1]))
    if not broken and len(first):
        blanks = np.add.reduceat(blank[order].astype(np.int64), first)
        both = np.flatnonzero((blanks > 0) & (blanks < np.diff(first, append=len(order))))
        for place in both.tolist():
            numbers = table[order[first[place] : first[place] + 2], 0].tolist()
            said = f"rows {numbers[0]} and {numbers[1]} say of one image that it has a mask and that it has none"
            faulty.append((Names(packed)[int(first[place])], said))
    faulty = [(id, said) for id, said in faulty if id not in excluded]
    if broken or not (len(first) or faulty):
        raise DataError(_told(path, [*broken, *(said for _, said in faulty)] or ["it has no rows"]), "annotation")
    if faulty:
        raise FaultyError(
            _told(path, [said for _, said in faulty]),
            [(id, "annotation", f"{id}: {path} is faulty: {said}.") for id, said in faulty],
        )
    return RleTable(
        path=path,
        stat=(stat.st_size, stat.st_mtime_ns),
        ids=packed[first],
        first=np.append(first, len(order)),
        rows=table[order],
        foreground=np.asarray(blanks == 0),
    )


def _told(path: Path, faults: list[str]) -> str:
    listed = "\n".join(f"- {fault}" for fault in faults[:_LISTED])
    return f"{path} is faulty in {len(faults)} places. Correct it. The first:\n{listed}"


def _bare(field: bytes) -> bytes:
    """A field without the blanks and quotes around it."""
    return field.strip(b" \t\r\n\"'")
