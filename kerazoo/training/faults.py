"""What is wrong with a recipe or a study, in words that name the field."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

import pydantic
from pydantic import BaseModel

from kerazoo.training.parts import near

S = TypeVar("S", bound=BaseModel)


def validated(section: type[S], content: Mapping[str, Any], what: str) -> S:
    """A section made of its fields.

    Raises:
        ValueError: A field is unknown, missing or wrong; all such fields are named, below `what`.
    """
    try:
        return section.model_validate(dict(content))
    except pydantic.ValidationError as error:
        faults = "\n".join(f"  {_explain(section, fault)}" for fault in error.errors())
        raise ValueError(f"{what}:\n{faults}") from error


def _explain(section: type[BaseModel], fault: Any) -> str:
    """One line for one error of pydantic: the field, the rule, and what was received."""
    field = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "missing":
        return f"{field}: this field is required."
    if fault["type"] == "extra_forbidden":
        parent, last = fault["loc"][:-1], str(fault["loc"][-1])
        return f"{field}: unknown field{near(last, _fields(section, parent))}"
    if fault["type"] == "value_error":
        return f"{field}: {fault['ctx']['error']}"
    if fault["type"] in ("model_type", "dict_type"):
        return f"{field}: this is a mapping of fields (a part may be its name alone), received {fault['input']!r}."
    rule = fault["msg"].replace("tuple", "list").replace("Tuple", "List").removesuffix(" after validation")
    return f"{field}: {rule}, received {fault['input']!r}."


def _fields(section: Any, location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the section at `location` in another one."""
    for step in location:
        if isinstance(step, int):  # of a list, whose sections are those of its annotation
            continue
        annotation = section.model_fields[step].annotation
        options = [annotation, *get_args(annotation)]
        section = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(section.model_fields)
