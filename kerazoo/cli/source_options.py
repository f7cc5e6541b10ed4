"""Open a source as the command line names it: `siim --images DIRECTORY --csv FILE`."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

from kerazoo.arguments import did_you_mean
from kerazoo.data.source import Source
from kerazoo.data.sources import SOURCES


def source_from_arguments(name: str, arguments: Sequence[str], **usual: Any) -> Source:
    """Make the source `name` with what follows it on a command line.

    Args:
        name: A name of `kerazoo.data.sources.list()`.
        arguments: The words after it.
        **usual: Other defaults for options that are not typed, of sources that have them.

    Raises:
        ValueError: the words are no options of the source, or what the source itself raises.
    """
    function, options = source_options(name, arguments)
    parameters = inspect.signature(function).parameters
    return function(**{key: value for key, value in usual.items() if key in parameters} | options)


def source_options(name: str, arguments: Sequence[str]) -> tuple[Callable[..., Source], dict[str, Any]]:
    """The source `name`, and what follows it on a command line as its arguments.

    `--mask-suffix .png` and `--mask-suffix=.png` give the argument `mask_suffix`. Values are YAML (127, true, null,
    "{0: 0, 255: 1}"), but a text or a path stays as it is typed; an option without a value is true, one that is
    repeated gives a list. `--images` is also the first argument of a source that calls it `root`.

    Args:
        name: A name of `kerazoo.data.sources.list()`.
        arguments: The words after it.

    Raises:
        ValueError: the name is unknown, the source has no such option (near matches are named) or lacks one, or a word
            belongs to no option.
    """
    function = SOURCES[name]
    parameters = inspect.signature(function).parameters
    options: dict[str, Any] = {}
    for option, word in _pairs(name, arguments):
        key = option.replace("-", "_")
        key = "root" if key == "images" and "images" not in parameters and "root" in parameters else key
        if key not in parameters:
            known = [f"--{parameter.replace('_', '-')}" for parameter in parameters]
            meant = did_you_mean(f"--{option}", known)
            raise ValueError(f"The source {name!r} has no option --{option}.{meant} It takes {', '.join(known)}.")
        value = _value(option, word, parameters[key].annotation)
        options[key] = value if key not in options else [*_listed(options[key]), value]
    lacking = [
        f"--{key.replace('_', '-')}"
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in options
    ]
    if lacking:
        raise ValueError(f"The source {name!r} needs {' and '.join(lacking)}.")
    return function, options


def _pairs(name: str, arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Options with their values, None for an option without one."""
    pairs: list[tuple[str, str | None]] = []
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            option, equals, value = word[2:].partition("=")
            pairs.append((option, value if equals else None))
        elif pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], word)
        else:
            raise ValueError(f"{word!r} belongs to no option of the source {name!r}. Type --OPTION VALUE.")
    return pairs


def _value(option: str, word: str | None, annotation: Any) -> Any:
    if word is None:
        return True
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if set(kinds) <= {str, Path, type(None)} and word != "null":
        return word
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError as error:
        raise ValueError(f"--{option} has the value {word!r}, which is no YAML ({error}).") from error
    if str in kinds and not isinstance(value, list | dict | None):
        return word  # a file of ids whose name is a number
    one_of_several = isinstance(value, str) and str not in kinds and any(get_origin(kind) is Sequence for kind in kinds)
    return [value] if one_of_several else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
