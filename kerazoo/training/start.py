"""Begin a training with what an earlier one has learned: its classes, channels and image size may be others."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from kerazoo.encoders.stem import adapt_stem
from kerazoo.outputs import named_output
from kerazoo.training.recipe import Start
from kerazoo.training.run import load_model

BY_CLASSES = ("head", "aux_head", "label_head")
"""Parts that end in one map for each class."""


@dataclass(frozen=True)
class Taken:
    """Parameters of one part by where they come from.

    Attributes:
        part: Name of the part.
        taken: From the earlier training as they were.
        adapted: From there, fitted to the channels of the images.
        new: As random as those of a new model.
    """

    part: str
    taken: int
    adapted: int
    new: int


@dataclass(frozen=True)
class StartTable:
    """What a model has from an earlier training, and what is new in it; prints as a table.

    Attributes:
        source: The run or file.
        rows: One per part that has parameters.
        new_layers: Layers of parts that are taken in which everything is new.
        left_out: Parts and layers of the earlier model that have no place in this one.
    """

    source: str
    rows: tuple[Taken, ...]
    new_layers: tuple[str, ...]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As in start.json."""
        return asdict(self)

    def __str__(self) -> str:
        width = max(len(row.part) for row in self.rows)
        lines = [f"begins from {self.source}"]
        lines += [
            f"{row.part:<{width}}  {row.taken:>12,} taken  {row.adapted:>10,} adapted  {row.new:>12,} new"
            for row in self.rows
        ]
        lines += [f"new layers: {_some(self.new_layers)}"] if self.new_layers else []
        lines += [f"left out: {_some(self.left_out)}"] if self.left_out else []
        return "\n".join(lines)


def begin(model: keras.Model, start: Start) -> StartTable:
    """Give a model the weights of an earlier training.

    Args:
        model: A new model.
        start: The earlier training, and the parts that stay new.

    Returns: What was taken and what is new.

    Raises:
        FileNotFoundError: There is no such run, checkpoint or file.
        ValueError: A part that is to be taken does not fit, or the earlier model has none of the parts.
    """
    path = Path(start.path)
    if path.is_dir():
        earlier = load_model(path, start.checkpoint)
    elif path.is_file() and path.suffix == ".keras":
        import kerazoo.layers  # noqa: F401  (registers the custom layers)

        earlier = keras.saving.load_model(path, compile=False)
    else:
        raise FileNotFoundError(
            f"model.start={start.path!r}: there is no such run directory, and no such .keras file. Give the --run of a "
            "training, or one of its checkpoints."
        )
    return take_weights(model, earlier, new=start.new, source=start.path)


def take_weights(
    model: keras.Model, earlier: keras.Model, *, new: Iterable[str] = (), source: str = "the earlier model"
) -> StartTable:
    """Copy the weights of a model into another one, part by part and by the paths of the weights.

    A part is taken as a whole or is an error, with two exceptions. The first convolution of the encoder is fitted to
    the channels of the images. Where the number of classes differs, layers of the heads that do not fit stay new.

    Args:
        model: Model that gets the weights.
        earlier: Model that has them.
        new: Names of parts that are not taken.
        source: What the table and errors call the earlier model.

    Raises:
        ValueError: As `begin`; nothing was changed then.
    """
    new, theirs = tuple(new), _parts(earlier)
    classes_differ = _classes(model) != _classes(earlier)
    rows, fresh, left, copies = [], [], [], []
    for name, layers in _parts(model).items():
        known = theirs.pop(name, None)
        if name in new or known is None:
            rows.append(Taken(name, 0, 0, _count(v for layer in layers.values() for v in layer)))
            left += [name] if known else []
            continue
        counts = {"taken": 0, "adapted": 0, "new": 0}
        stem = next((path for path, (first, *_) in layers.items() if len(first.shape) == 4), None)
        faults = [path for path in known if path not in layers]
        for path, variables in layers.items():
            values, kind = [keras.ops.convert_to_numpy(value) for value in known.get(path, ())], "taken"
            if name == "encoder" and path == stem and values and values[0].shape[2] != variables[0].shape[2]:
                values[0], kind = adapt_stem(values[0], variables[0].shape[2]), "adapted"
            if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
                kind = "new"
                fresh.append(path)
                faults.append(path)
            else:
                copies += zip(variables, values, strict=True)
            counts[kind] += _count(variables)
        if faults and not (name in BY_CLASSES and classes_differ):
            raise ValueError(
                f"The {name} of {source} is another one: its layers {_some(sorted(set(faults)))} do not fit. Build the "
                f"model as that one was, or leave that part new: model.start.new=[{name}]."
            )
        left += [path for path in known if path not in layers]
        rows.append(Taken(name, **counts))
    if not copies:
        raise ValueError(f"{source} has none of the parts that are to be taken; it has {list(_parts(earlier))}.")
    for variable, value in copies:
        variable.assign(value)
    return StartTable(source, tuple(rows), tuple(fresh), (*left, *theirs))


def _parts(model: keras.Model) -> dict[str, dict[str, list[Any]]]:
    """Weights by part and by path of the layer."""
    parts: dict[str, dict[str, list[Any]]] = {}
    for part in model.layers:
        for variable in part.weights:
            parts.setdefault(part.name, {}).setdefault(variable.path.rpartition("/")[0], []).append(variable)
    return parts


def _classes(model: keras.Model) -> int | None:
    mask = named_output(model, "mask", rank=4)
    return None if mask is None else mask.shape[-1]


def _count(variables: Iterable[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _some(names: Iterable[str], shown: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
