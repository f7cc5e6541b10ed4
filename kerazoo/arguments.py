"""Checks of hyper-parameters that many parts share. Each raises ValueError with the owner, the rule and the value."""

import math
import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number, also one of NumPy; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number, also one of NumPy, or a float as 3.0."""
    return is_number(value) and value == int(value)


def check_choice(owner: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """`value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{owner}'s `{name}` must be one of {tuple(choices)}, received {value!r}.")


def check_whole(owner: str, name: str, value: Any, *, least: int = 1) -> None:
    """`value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{owner}'s `{name}` must be a whole number of at least {least}, received {value!r}.")


def check_wholes(owner: str, name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Return `values`, whole numbers of at least 1, at least one of them, as a tuple."""
    if not isinstance(values, Iterable) or isinstance(values, str) or not (numbers := tuple(values)):
        raise ValueError(
            f"{owner}'s `{name}` must be a tuple of whole numbers, at least one of them; received {values!r}."
        )
    for number in numbers:
        check_whole(owner, name, number)
    return numbers


def check_odd(owner: str, name: str, value: Any) -> None:
    """`value` is an odd whole number: an even kernel would shift the map by half a pixel."""
    check_whole(owner, name, value)
    if value % 2 == 0:
        raise ValueError(f"{owner}'s `{name}` must be odd, received {value}: an even kernel shifts the map.")


def check_fraction(owner: str, name: str, value: Any) -> None:
    """`value` is a share of at least 0 and less than 1, as the rate of a dropout."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{owner}'s `{name}` must be at least 0 and less than 1, received {value!r}.")


def warn_renamed(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that a name is accepted until 1.0 alone; `stacklevel` as in `warnings.warn`, counted from the caller."""
    text = f"{old} is called {new} now; the old name is accepted until 1.0. Type {new}."
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)
