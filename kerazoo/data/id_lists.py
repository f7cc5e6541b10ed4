"""Lists of samples: those to leave out, as `kerazoo verify --fix` writes them, and those to take, as splits come."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from kerazoo.data.faults import FaultyError

IdList = str | Path | Sequence[str]
"""A file of ids, or the ids."""


def read_ids(ids: IdList | None, argument: str) -> frozenset[str]:
    """The ids of a list; none if it is None.

    Args:
        ids: Ids; or a file with one id a line, or CSV with a column `id`.
        argument: What errors call it.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: `ids` is neither.
        ValueError: the file is no text, a row has no id, or the ids are no strings.
    """
    if ids is None:
        return frozenset()
    if not isinstance(ids, str | Path):
        if not isinstance(ids, Iterable):
            raise TypeError(f"`{argument}` must hold ids, or be a file of them; received {ids!r}.")
        strange = [id for id in ids if not isinstance(id, str)]
        if strange:
            raise ValueError(f"`{argument}` must hold ids, which are strings, or be a file; received {strange[0]!r}.")
        return frozenset(ids)
    path = Path(ids)
    if not path.is_file():
        raise FileNotFoundError(
            f"`{argument}` must be ids in a list, or a file of them: there is no file {path} (working directory "
            f"{Path.cwd()})."
        )
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")  # names of files are bytes, of whatever encoding
    if "\0" in text:
        raise ValueError(f"`{argument}`: {path} is no text in UTF-8: it has bytes that are 0.")
    table = csv.reader(io.StringIO(text, newline=""))
    try:
        if "id" not in (header := next(table, [])):
            return frozenset(line.strip() for line in text.split("\n") if line.strip())
        rows, column = [*table], header.index("id")
    except csv.Error as error:
        raise ValueError(f"`{argument}`: {path} is no CSV: {error}.") from error
    short = [number for number, row in enumerate(rows, start=2) if row and len(row) <= column]
    if short:
        raise ValueError(f"`{argument}`: line {short[0]} of {path} has no id, its column {column + 1}.")
    return frozenset(row[column] for row in rows if row)


def check_known(wanted: Collection[str], known: Collection[str], argument: str, where: str) -> None:
    """Every id that is wanted is known.

    Raises:
        FaultyError: some are not.
    """
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise FaultyError(
            f"`{argument}` names {len(unknown)} ids that are not {where}. The first is {unknown[0]!r}.",
            [(id, "missing", f"`{argument}` names {id}, which is not {where}.") for id in unknown],
        )
