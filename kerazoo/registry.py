"""Registries: literal tables from names to parts, with near matches for names that are not there."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kerazoo.arguments import did_you_mean

_FEW = 14  # names that an error lists; of more it says where they are listed


class Registry(Mapping[str, Any]):
    """Maps names to parts.

    Args:
        kind: What the parts are, in the singular, as error messages say it ("decoder").
        table: Name to part. A part is called with hyper-parameters by `create`: a class, or a function.
        refused: Names that people will look for, in lower case, and why they are not there.
    """

    def __init__(self, kind: str, table: Mapping[str, Any], *, refused: Mapping[str, str] | None = None):
        self.kind = kind
        self._table = dict(table)
        self._refused = dict(refused or {})

    def __getitem__(self, name: str) -> Any:
        try:
            return self._table[name]
        except KeyError:
            raise ValueError(self._unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {list(self)})"

    def _unknown(self, name: str) -> str:
        if str(name).lower() in self._refused:
            return f"There is no {self.kind} {name!r}: {self._refused[str(name).lower()]}."
        meant = did_you_mean(name, self._table)
        if len(self) <= _FEW:
            return f"Unknown {self.kind} {name!r}.{meant} They are {', '.join(sorted(self))}."
        return f"Unknown {self.kind} {name!r}.{meant} kerazoo.{self.kind}s.list() names all {len(self)} of them."

    def list(self, pattern: str = "*") -> list[str]:
        """Names that match a shell-style pattern, sorted."""
        return sorted(fnmatch.filter(self._table, pattern))

    def create(self, name: str, **hyperparameters: Any) -> Any:
        """Build the part called `name`.

        Raises:
            ValueError: `name` is not in the registry (near matches are named).
            TypeError: the part has no such hyper-parameter (the message names the part).
        """
        part: Callable[..., Any] = self[name]
        try:
            return part(**hyperparameters)
        except TypeError as error:
            raise TypeError(f"{self.kind} {name!r}: {error}") from error

    def register(self, name: str, part: Any) -> Any:
        """Add a part from outside the package.

        Raises:
            ValueError: `name` is taken.
        """
        if name in self._table:
            raise ValueError(
                f"{self.kind} {name!r} is registered already, as {self._table[name]!r}. Choose another name."
            )
        self._table[name] = part
        return part
