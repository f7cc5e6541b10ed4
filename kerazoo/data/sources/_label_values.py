"""What the values in a data set's masks mean, for the classes that are wanted of it."""

from collections.abc import Sequence

from kerazoo.arguments import check_choice, did_you_mean

Value = int | tuple[int, int, int]
"""A value in a mask file, or a color."""


def label_values(
    table: Sequence[tuple[Value, str | None]], *, classes: Sequence[str] | None, void: str
) -> tuple[dict[Value, int], tuple[str, ...]]:
    """Class id of each value.

    Args:
        table: Name of the class of each value: "background" is the background, None is void.
        classes: The classes to keep, in the order of their ids; what is left out is background. None keeps all.
        void: "ignore": void becomes 255; "background".

    Returns: Class id of each value, and the names of the foreground classes.

    Raises:
        ValueError: a class is unknown (near matches are named), or `void` is neither.
    """
    check_choice("This source", "void", void, ("ignore", "background"))
    known = tuple(dict.fromkeys(name for _, name in table if name not in (None, "background")))
    names = known if classes is None else tuple(classes)
    if not names or isinstance(classes, str) or len(set(names)) != len(names):
        raise ValueError(f"`classes` must name at least one class, each once, received {classes!r}.")
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known) or f" They are {', '.join(known)}."
            raise ValueError(f"`classes` names {name!r}, which the data set does not have.{meant}")
    number = {name: label for label, name in enumerate(names, start=1)}
    ids = {value: 255 * (void == "ignore") if name is None else number.get(name, 0) for value, name in table}
    return ids, names
