"""The classes of a data set changed: merged, renamed, dropped to the background or ignored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kerazoo.arguments import did_you_mean, is_whole
from kerazoo.data.reader import Facts, Reader

BACKGROUND, IGNORE = "background", "ignore"
"""What a class can become besides another class."""

_IGNORE_ID = 255  # where the source ignores nothing itself


@dataclass(frozen=True, kw_only=True)
class MappedClasses(Reader):
    """Reads the images of another reader with other classes; `Source.map_classes` makes it.

    Args:
        reader: The other reader.
        class_names: New name of each class; with more than one class the first is the background's.
        num_classes: 1, or the new number of classes with the background.
        ignore_class: New id of pixels that count nowhere, or None.
        table: New id of each old one, 256 of them.
    """

    reader: Reader
    class_names: tuple[str, ...]
    num_classes: int
    ignore_class: int | None
    table: tuple[int, ...]

    @property
    def ids(self) -> Sequence[str]:
        return self.reader.ids

    @property
    def groups(self) -> Sequence[str] | None:
        return self.reader.groups

    @property
    def value_range(self) -> tuple[float, float]:
        return self.reader.value_range

    @property
    def orphans(self) -> Sequence[str]:
        return self.reader.orphans

    @property
    def has_masks(self) -> bool:
        return self.reader.has_masks

    @cached_property
    def facts(self) -> Facts:
        """Facts of the other reader with mapped labels; no mask is opened for them."""
        facts = self.reader.facts
        old = facts.labels if self.reader.num_classes > 1 else np.insert(facts.labels, 0, False, axis=1)
        shown = np.zeros((len(old), max(self.num_classes, 2)), bool)
        for k in range(1, old.shape[1]):
            if 0 < self.table[k] < shown.shape[1]:
                shown[:, self.table[k]] |= old[:, k]
        shown[:, 0] = ~shown[:, 1:].any(axis=1)
        return facts._replace(labels=shown[:, 1:] if self.num_classes == 1 else shown)

    def image(self, index: int) -> np.ndarray:
        return self.reader.image(index)

    def mask(self, index: int) -> np.ndarray:
        """Mask of the other reader with mapped ids."""
        return np.array(self.table, np.uint8)[self.reader.mask(index)]

    def fingerprint(self, index: int) -> str:
        """Changes with the sample and with the mapping."""
        return f"{self.reader.fingerprint(index)} {self.num_classes} {self.table}"


def map_classes(reader: Reader, mapping: Mapping[int | str, str], num_classes: int | None) -> MappedClasses:
    """The reader with the classes that `mapping` says; `Source.map_classes` documents the arguments.

    Raises:
        ValueError: a class is unknown (near matches are named), none is left, or `num_classes` does not fit.
    """
    old = reader.class_names if reader.num_classes > 1 else (BACKGROUND, *reader.class_names)
    goal = {name: name for name in old[1:]}
    for key, value in mapping.items():
        position: Any = key
        name = old[position] if is_whole(position) and 0 < position < len(old) else key
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
