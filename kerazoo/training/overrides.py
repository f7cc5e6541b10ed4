"""YAML as recipes use it, and assignments that change a field of it."""

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads `1e-3` as a number (YAML 1.1 wants `1.0e-3`) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Content of a YAML text.

    Raises:
        yaml.YAMLError: It is not valid, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=_Loader)


def read_mapping(path: Path, what: str, sections: Iterable[str]) -> dict[str, Any]:
    """The mapping that a YAML file holds; `what` it is, a recipe or a study, and its sections are for errors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no YAML mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no {what} {str(path)!r}. Give the path of a YAML file.")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping with the sections {', '.join(sections)}.")
    return content


def override(content: Mapping[str, Any], assignments: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of nested mappings and lists with assignments such as `training.epochs=2` applied.

    A step into a name alone (`head: mlf`, `model.head.stride=2`) makes it a mapping; a step into a list is an index.

    Args:
        content: The mappings.
        assignments: Texts, or a mapping from dotted fields to their values.

    Raises:
        ValueError: An assignment has no `=`, a value that is not YAML, or a list index that is not there.
    """
    content = copy.deepcopy(dict(content))
    if isinstance(assignments, Mapping):
        for field, value in assignments.items():
            _assign(content, field, copy.deepcopy(value), f"{field}={value}")
        return content
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip().rpartition(".")[2]:
            raise ValueError(f"An override reads section.field=value, like training.epochs=2; received {assignment!r}.")
        try:
            value = read_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"The value of {assignment!r} is not valid YAML.") from error
        _assign(content, path.strip(), value, assignment)
    return content


def _assign(content: dict[str, Any], path: str, value: Any, assignment: str) -> None:
    """Change a field in place; `assignment` is how errors call it."""
    *parents, last = path.split(".")
    place: Any = content
    for key in parents:
        step = _key(place, key, assignment)
        if isinstance(place, dict) and place.get(step) is None:
            place[step] = {}
        if isinstance(place[step], str):
            place[step] = {"name": place[step]}
        place = place[step]
    place[_key(place, last, assignment)] = value


def _key(place: Any, key: str, assignment: str) -> str | int:
    """`key` as an index of `place`, a mapping or a list."""
    if isinstance(place, dict):
        return key
    if isinstance(place, list) and key.isdigit() and int(key) < len(place):
        return int(key)
    length = f"a list of {len(place)}" if isinstance(place, list) else f"{place!r}"
    raise ValueError(f"The override {assignment!r} finds no {key!r} in {length}.")
