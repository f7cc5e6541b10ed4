"""Errors of data that say what kind of fault it is, for those who list faults instead of stopping at the first."""

from collections.abc import Sequence


class DataError(ValueError):
    """A file, or an annotation, that cannot be used as it is.

    Args:
        message: What is wrong, in which file, and what to do.
        kind: One of `kerazoo.data.verify.KINDS`.
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


def raise_all(faults: Sequence[Exception], total: int, where: str) -> None:
    """Raise the one fault, or a ValueError with the first five of several; nothing if there is none."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        listed = "\n".join(f"- {fault}" for fault in faults[:5])
        raise ValueError(f"{len(faults)} of {total} samples {where} are faulty. The first:\n{listed}")
