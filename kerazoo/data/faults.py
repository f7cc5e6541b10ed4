"""Errors of data that say what kind of fault it is, for those who list faults instead of stopping at the first."""

from collections.abc import Sequence


class DataError(ValueError):
    """A file, or an annotation, that cannot be used as it is.

    Args:
        message: What is wrong, in which file, and what to do.
        kind: One of `KINDS` in `data/verify.py`.
    """

    def __init__(self, message: str, kind: str = "format"):
        super().__init__(message)
        self.kind = kind


class MissingError(FileNotFoundError):
    """Samples of which a file is missing.

    Args:
        message: How many, the first, and what to do.
        missing: `(id, sentence)` of every such sample.
    """

    def __init__(self, message: str, missing: Sequence[tuple[str, str]] = ()):
        super().__init__(message)
        self.missing = tuple(missing)

    @property
    def faulty(self) -> tuple[tuple[str, str, str], ...]:
        """Id, kind and sentence of each."""
        return tuple((id, "missing", sentence) for id, sentence in self.missing)


class FaultyError(ValueError):
    """Files that a source cannot do without, although it could do without their samples.

    Args:
        message: How many, the first, and what to do.
        faulty: Id (as `exclude` takes it), kind (one of `KINDS` in `data/verify.py`) and sentence of each.
    """

    def __init__(self, message: str, faulty: Sequence[tuple[str, str, str]] = ()):
        super().__init__(message)
        self.faulty = tuple(faulty)


def raise_all(faults: Sequence[Exception], total: int, where: str, ids: Sequence[str] = ()) -> None:
    """Raise the one fault, or a ValueError with the first five of several; nothing if there is none.

    With `ids`, one for each fault, it is a `FaultyError`.
    """
    if not faults:
        return
    if len(faults) == 1 and not ids:
        raise faults[0]
    listed = "\n".join(f"- {fault}" for fault in faults[:5])
    several = f"{len(faults)} of {total} samples {where} are faulty. The first:\n{listed}"
    if not ids:
        raise ValueError(several)
    message = str(faults[0]) if len(faults) == 1 else several
    raise FaultyError(message, [(id, kind_of(fault), str(fault)) for id, fault in zip(ids, faults, strict=True)])


def kind_of(fault: Exception) -> str:
    """The kind of a fault, one of `KINDS` in `data/verify.py`, by its exception."""
    if isinstance(fault, DataError):
        return fault.kind
    return "unreadable" if isinstance(fault, OSError) else "format"
