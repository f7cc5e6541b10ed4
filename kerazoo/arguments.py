"""Checks of hyper-parameters that many parts share. Each raises ValueError with the owner, the rule and the value.

A whole number is an integer of Python or NumPy. A float is none, not even 3.0, nor is a bool.
"""

import difflib
import math
import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number, also one of NumPy; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return isinstance(value, numbers.Integral) or math.isfinite(value)  # an integer may be too large for a float


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer, also one of NumPy; a bool or a float such as 3.0 is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def as_pair(value: Any) -> tuple[Any, ...]:
    """A number twice, for height and width; the items of anything else."""
    return tuple(value) if isinstance(value, Iterable) else (value, value)


def check_choice(owner: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """`value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{owner}'s `{name}` must be one of {tuple(choices)}, received {value!r}.")


def check_whole(owner: str, name: str, value: Any, *, least: int = 1) -> None:
    """`value` is a whole number of at least `least`."""
    if not is_whole(value) or value < least:
        hint = f": write {int(value)}" if is_number(value) and value == int(value) >= least else ""
        raise ValueError(f"{owner}'s `{name}` must be a whole number of at least {least}, received {value!r}{hint}.")


def check_wholes(owner: str, name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Return `values`, whole numbers of at least 1, at least one of them, as a tuple."""
    if not isinstance(values, Iterable) or isinstance(values, str) or not (wholes := tuple(values)):
        raise ValueError(
            f"{owner}'s `{name}` must be a tuple of whole numbers, at least one of them; received {values!r}."
        )
    for whole in wholes:
        check_whole(owner, name, whole)
    return tuple(int(whole) for whole in wholes)


def check_odd(owner: str, name: str, value: Any) -> None:
    """`value` is an odd whole number: an even kernel would shift the map by half a pixel."""
    check_whole(owner, name, value)
    if value % 2 == 0:
        raise ValueError(f"{owner}'s `{name}` must be odd, received {value}: an even kernel shifts the map.")


def check_fraction(owner: str, name: str, value: Any) -> None:
    """`value` is a share of at least 0 and less than 1, as the rate of a dropout."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{owner}'s `{name}` must be at least 0 and less than 1, received {value!r}.")


def near_matches(word: Any, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that are most like `word`, the nearest first."""
    return difflib.get_close_matches(str(word), list(known), n=most, cutoff=0.5)


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """For the end of an error message: the names most like `word`, as " Did you mean 'a' or 'b'?", or nothing."""
    near = near_matches(word, known)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def warn_renamed(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that a name is accepted until 1.0 alone; `stacklevel` as in `warnings.warn`, counted from the caller."""
    text = f"{old} is called {new} now; the old name is accepted until 1.0. Type {new}."
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)
