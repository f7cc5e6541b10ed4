"""Several sources as one."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source

T = TypeVar("T")


def concat(*sources: Source) -> Source:
    """The samples of all sources, one source after the other.

    Args:
        sources: With the same classes, `ignore_class` and `value_range`, and with ids that differ; either all with
            groups or none.

    Returns: One source, whose ids, groups and warnings are theirs.

    Raises:
        ValueError: no source is given, or they do not fit together.
    """
    if not sources:
        raise ValueError("`concat` needs at least one source, received none.")
    first = sources[0]
    for other in sources[1:]:
        for what in ("num_classes", "class_names", "ignore_class", "value_range"):
            if getattr(first, what) != getattr(other, what):
                raise ValueError(
                    f"Sources differ in {what}: {getattr(first, what)} and {getattr(other, what)}. Give both the same."
                )
        if (first.groups is None) != (other.groups is None):
            raise ValueError("One source has groups and another has none. Give both `groups`, or neither.")
    ids = tuple(id for source in sources for id in source.ids)
    twice = [id for id, times in Counter(ids).items() if times > 1]
    if twice:
        raise ValueError(f"{len(twice)} ids are in two sources. The first is {twice[0]!r}; ids must be unique.")
    groups = None if first.groups is None else tuple(group for source in sources for group in source.groups or ())
    return Source(Concat(sources=sources, ids=ids, groups=groups))


@dataclass(frozen=True, kw_only=True)
class Concat(Reader):
    """Reads several sources, one after the other; `concat` makes it."""

    sources: tuple[Source, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None

    @property
    def num_classes(self) -> int:
        return self.sources[0].num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.sources[0].class_names

    @property
    def ignore_class(self) -> int | None:
        return self.sources[0].ignore_class

    @property
    def value_range(self) -> tuple[float, float]:
        return self.sources[0].value_range

    @property
    def orphans(self) -> tuple[str, ...]:
        return tuple(text for source in self.sources for text in source.orphans)

    @property
    def has_masks(self) -> bool:
        return all(source.has_masks for source in self.sources)

    @cached_property
    def facts(self) -> Facts:
        """Facts of all sources, one after the other; shapes when they are asked for."""
        labels = np.concatenate([source.labels for source in self.sources])
        warnings = tuple((None, text) for source in self.sources for _, text in source.notes)
        return Facts(labels, self._shapes, warnings)

    def image(self, index: int) -> np.ndarray:
        return self._ask(index, Source.image)

    def mask(self, index: int) -> np.ndarray:
        return self._ask(index, Source.mask)

    def fingerprint(self, index: int) -> str:
        return self._ask(index, lambda source, i: source.subset([i]).fingerprint)

    def _shapes(self) -> np.ndarray:
        return np.concatenate([source.shapes for source in self.sources])

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(source) for source in self.sources])

    def _ask(self, index: int, question: Callable[[Source, int], T]) -> T:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return question(self.sources[which], index - int(self._ends[which]))  # counted from the end of that source
