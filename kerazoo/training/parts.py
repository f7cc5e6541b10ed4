"""Parts in a recipe: a name with hyper-parameters, and the object that it stands for."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kerazoo.arguments import did_you_mean


class Section(BaseModel):
    """Base of the recipe's sections: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """A name with hyper-parameters; a plain string in YAML is a name without any."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """The hyper-parameters, lists as tuples (parts are frozen dataclasses)."""
        return {key: _tuples(value) for key, value in (self.model_extra or {}).items()}


class WeightedPart(Part):
    """A term of the loss: a part and the factor it is multiplied with."""

    weight: Annotated[float, Field(gt=0)] = 1.0


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _accepts(kind: str, part: Part, function: Callable) -> None:
    """Raise ValueError unless `function` takes the options of `part` as keywords."""
    fields = inspect.signature(function).parameters
    if any(field.kind is inspect.Parameter.VAR_KEYWORD for field in fields.values()):
        return
    for option in part.options:
        if option not in fields:
            raise ValueError(f"{kind} {part.name!r} has no hyper-parameter {option!r}{near(option, fields)}")


def near(word: str, words: Iterable[str]) -> str:
    """The end of a sentence, with the words that are most like `word`, or without any such all of them."""
    words = [str(item) for item in words]
    meant = did_you_mean(word, words)
    return f".{meant}" if meant else f"; there are {', '.join(words) or 'none'}."


_TABLES = {
    "encoders": "ENCODERS",
    "decoders": "DECODERS",
    "heads": "HEADS",
    "losses": "LOSSES",
    "optimizers": "OPTIMIZERS",
    "data.batches.augment": "AUGMENTATIONS",
    "data.batches.pixel_weights": "PIXEL_WEIGHTS",
}


def create(package: str, part: Part, **extra: Any) -> Any:
    """The object that a part of a recipe stands for.

    Args:
        package: Which part of kerazoo has the name, such as "losses".
        part: Name and hyper-parameters.
        **extra: More hyper-parameters, for what is not registered as a variant.

    Raises:
        ValueError: The registry of `kerazoo.<package>` has no such name, or the part no such hyper-parameter or value.
    """
    registry = getattr(importlib.import_module(f"kerazoo.{package}"), _TABLES[package])
    entry: Any = registry[part.name]
    make: Any = entry
    if dataclasses.is_dataclass(entry) and not isinstance(entry, type):  # a variant, as encoders are registered
        make = partial(dataclasses.replace, entry)
    _accepts(registry.kind, part, make if make is entry else type(entry))
    try:
        return make(**part.options, **extra)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{registry.kind} {part.name!r}: {error}") from error


def registered(package: str) -> AfterValidator:
    """Check a part by creating it once; that is cheap, because a part makes its layers when it is called."""

    def check(part: Part) -> Part:
        create(package, part)
        return part

    return AfterValidator(check)


def check_source(part: Part) -> Part:
    """Check the source of a recipe, without making it: that would read files."""
    sources = importlib.import_module("kerazoo.data.sources")
    if "root" in part.options:
        raise ValueError("the place of the data is no part of a recipe; give it on the command line: --data PATH.")
    _accepts("source", part, sources.SOURCES[part.name])
    return part
