"""YAML as recipes use it, and assignments that change a field of it."""

import copy
import re
from collections.abc import Iterable, Mapping
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


def override(content: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A deep copy of nested mappings and lists with assignments such as `training.epochs=2` applied.

    A step into a name alone (`head: mlf`, `model.head.stride=2`) makes it a mapping; a step into a list is an index.

    Raises:
        ValueError: An assignment has no `=`, a value that is not YAML, or a list index that is not there.
    """
    content = copy.deepcopy(dict(content))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *parents, last = path.strip().split(".")
        if not equals or not last:
            raise ValueError(f"An override reads section.field=value, like training.epochs=2; received {assignment!r}.")
        place: Any = content
        for key in parents:
            step = _key(place, key, assignment)
            if isinstance(place, dict) and place.get(step) is None:
                place[step] = {}
            if isinstance(place[step], str):
                place[step] = {"name": place[step]}
            place = place[step]
        try:
            place[_key(place, last, assignment)] = read_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"The value of {assignment!r} is not valid YAML.") from error
    return content


def _key(place: Any, key: str, assignment: str) -> str | int:
    """`key` as an index of `place`, a mapping or a list."""
    if isinstance(place, dict):
        return key
    if isinstance(place, list) and key.isdigit() and int(key) < len(place):
        return int(key)
    length = f"a list of {len(place)}" if isinstance(place, list) else f"{place!r}"
    raise ValueError(f"The override {assignment!r} finds no {key!r} in {length}.")
