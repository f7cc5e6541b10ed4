"""A source with other classes: merged, renamed, dropped to the background or ignored."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kerazoo.arguments import did_you_mean
from kerazoo.data.sample import VALUE_RANGE
from kerazoo.data.source import Facts, Reader

BACKGROUND, IGNORE = "background", "ignore"
"""What a class can become besides another class."""

_IGNORE_ID = 255  # where the source ignores nothing itself


@dataclass(frozen=True, kw_only=True)
class MappedClasses:
    """A `Reader` over another one; `Source.map_classes` makes it.

    Args:
        reader: The other one.
        class_names: As `Reader`.
        num_classes: As `Reader`.
        ignore_class: As `Reader`.
        table: New id of each old one, 256 of them.
    """

    reader: Reader
    class_names: tuple[str, ...]
    num_classes: int
    ignore_class: int | None
    table: tuple[int, ...]

    @property
    def ids(self):
        """The other's."""
        return self.reader.ids

    @property
    def groups(self):
        """The other's."""
        return self.reader.groups

    @property
    def value_range(self) -> tuple[float, float]:
        """The other's."""
        return getattr(self.reader, "value_range", VALUE_RANGE)

    @property
    def orphans(self) -> tuple[str, ...]:
        """The other's."""
        return tuple(getattr(self.reader, "orphans", ()))

    @property
    def has_masks(self) -> bool:
        """The other's."""
        return getattr(self.reader, "has_masks", True)

    @property
    def facts(self) -> Facts:
        """See `Reader`; from the other's labels, no mask is opened."""
        return self._facts

    def image(self, index: int) -> np.ndarray:
        """See `Reader`."""
        return self.reader.image(index)

    def mask(self, index: int) -> np.ndarray:
        """See `Reader`."""
        return np.array(self.table, np.uint8)[self.reader.mask(index)]

    def fingerprint(self, index: int) -> str:
        """See `Reader`."""
        return f"{self.reader.fingerprint(index)} {self.num_classes} {self.table}"

    @cached_property
    def _facts(self) -> Facts:
        facts = self.reader.facts
        old = facts.labels if self.reader.num_classes > 1 else np.insert(facts.labels, 0, False, axis=1)
        shown = np.zeros((len(old), max(self.num_classes, 2)), bool)
        for k in range(1, old.shape[1]):
            if 0 < self.table[k] < shown.shape[1]:
                shown[:, self.table[k]] |= old[:, k]
        shown[:, 0] = ~shown[:, 1:].any(axis=1)
        return facts._replace(labels=shown[:, 1:] if self.num_classes == 1 else shown)


def map_classes(reader: Reader, mapping: Mapping[int | str, str], num_classes: int | None) -> MappedClasses:
    """`Source.map_classes` for a reader.

    Raises:
        ValueError: see there.
    """
    old = reader.class_names if reader.num_classes > 1 else (BACKGROUND, *reader.class_names)
    goal = {name: name for name in old[1:]}
    for key, value in mapping.items():
        name = old[key] if isinstance(key, int) and 0 < key < len(old) else key
        if name not in goal:
            raise ValueError(
                f"`mapping` names the class {key!r}, which is no foreground class of the source."
                f"{did_you_mean(key, goal)} They are {dict(enumerate(old[1:], start=1))}."
            )
        if not isinstance(value, str) or not value:
            raise ValueError(
                f"`mapping` gives {key!r} the new name {value!r}; it must be a name, {BACKGROUND!r} or {IGNORE!r}."
            )
        goal[name] = BACKGROUND if value == old[0] else value
    names = [name for name in dict.fromkeys(goal.values()) if name not in (BACKGROUND, IGNORE)]
    if not names:
        raise ValueError("`mapping` leaves no foreground class.")
    count = num_classes or (1 if len(names) == 1 else 1 + len(names))
    if len(names) != max(count, 2) - 1:
        raise ValueError(f"num_classes={num_classes} does not go with the {len(names)} foreground classes {names}.")
    ignored = reader.ignore_class if reader.ignore_class is not None else _IGNORE_ID
    number = {BACKGROUND: 0, IGNORE: ignored} | {name: k for k, name in enumerate(names, start=1)}
    table = [*range(256)]
    table[1 : len(old)] = [number[goal[name]] for name in old[1:]]
    return MappedClasses(
        reader=reader,
        class_names=(names[0],) if count == 1 else (old[0], *names),
        num_classes=count,
        ignore_class=ignored if IGNORE in goal.values() else reader.ignore_class,
        table=tuple(table),
    )
