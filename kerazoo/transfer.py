"""Freezing and unfreezing parts of a model for transfer learning."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras

from kerazoo.encoders.measure import strides
from kerazoo.layers.leaves import leaf_layers

BATCHNORMS = ("frozen", "train")


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part.

    Attributes:
        part: Name of the sub-model.
        trainable: Number of parameters that training changes.
        total: Number of all parameters, moving statistics included.
    """

    part: str
    trainable: int
    total: int


@dataclass(frozen=True)
class TrainableTable:
    """Parameters of each part of a model; prints as a table.

    Attributes:
        rows: One count per part that has parameters, in the order of the model.
    """

    rows: tuple[PartCount, ...]

    @property
    def trainable(self) -> int:
        """Number of parameters of the whole model that training changes."""
        return sum(row.trainable for row in self.rows)

    @property
    def total(self) -> int:
        """Number of all parameters of the model."""
        return sum(row.total for row in self.rows)

    def __str__(self) -> str:
        rows = [*self.rows, PartCount("all", self.trainable, self.total)]
        width = max(len(row.part) for row in rows)
        return "\n".join(f"{row.part:<{width}}  {row.trainable:>12,} of {row.total:>12,} trainable" for row in rows)


def freeze(model: keras.Model, part: str = "encoder", *, batchnorm: str = "frozen") -> None:
    """Stop training a part of a model, and print what is left to train.

    The flag is set on leaf layers, so that a later `unfreeze` of some of them is not hidden by their container. The
    model has to be compiled again afterwards; Keras says so when that is forgotten.

    Args:
        model: Model of `kerazoo.segmenter`, or any model with a layer called `part`.
        part: Name of the sub-model or layer.
        batchnorm: "frozen" keeps batch norm at its moving statistics, which then do not move, and freezes its scale and
            offset with them; "train" leaves all batch norm layers of the part trainable.

    Raises:
        ValueError: the model has no such part (its parts are named), or `batchnorm` is neither of the two.
    """
    _check_batchnorm(batchnorm)
    _set_flags(model, _part(model, part), lambda layer: batchnorm == "train" and _is_batchnorm(layer))


def unfreeze(
    model: keras.Model, part: str = "encoder", *, from_stride: int | None = None, batchnorm: str = "train"
) -> None:
    """Train a part again, or the coarse end of an encoder only, and print what is trained.

    Args:
        model: Model of `kerazoo.segmenter`, or any model with a layer called `part`.
        part: Name of the sub-model or layer.
        from_stride: Only the layers that levels of this stride and coarser ones need and finer ones do not; None for
            all of the part.
        batchnorm: "train", or "frozen" to leave the batch norm layers of the part as they are.

    Raises:
        ValueError: the model has no such part, `batchnorm` is neither of the two, or no level is that coarse.
    """
    _check_batchnorm(batchnorm)
    container = _part(model, part)
    finer = set() if from_stride is None else _layers_of_finer_levels(container, from_stride)

    def flag(layer: keras.layers.Layer) -> bool:
        chosen = id(layer) not in finer and (batchnorm == "train" or not _is_batchnorm(layer))
        return chosen or layer.trainable

    _set_flags(model, container, flag)


def trainable_table(model: keras.Model) -> TrainableTable:
    """Count the parameters of each part of a model.

    Args:
        model: Any built model; its top-level layers that have parameters are the parts.

    Returns: a table; `str()` shows it, `.trainable` and `.total` are the sums.
    """
    rows = []
    for layer in model.layers:
        if layer.count_params():
            rows.append(PartCount(layer.name, _count(layer.trainable_variables), _count(layer.weights)))
    return TrainableTable(tuple(rows))


def _count(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _check_batchnorm(batchnorm: str) -> None:
    if batchnorm not in BATCHNORMS:
        raise ValueError(f"`batchnorm` must be one of {BATCHNORMS}, received {batchnorm!r}.")


def _is_batchnorm(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _part(model: keras.Model, part: str) -> keras.layers.Layer:
    for layer in model.layers:
        if layer.name == part:
            return layer
    parts = [layer.name for layer in model.layers if layer.count_params()]
    raise ValueError(f"The model {model.name!r} has no part {part!r}; its parts are {parts}.")


def _set_flags(model: keras.Model, container: keras.layers.Layer, flag: Callable[[keras.layers.Layer], bool]) -> None:
    leaves = list(leaf_layers(container))
    flags = [flag(leaf) for leaf in leaves]  # before the containers are opened, which thaws everything
    container.trainable = True
    for leaf, trainable in zip(leaves, flags, strict=True):
        leaf.trainable = trainable
    model.compiled = False
    table = trainable_table(model)
    print(f"trainable {_short(table.trainable)} of {_short(table.total)} parameters; compile the model again")


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _layers_of_finer_levels(encoder: keras.layers.Layer, from_stride: int) -> set[int]:
    """Identities of the leaf layers that some level finer than `from_stride` needs."""
    if not isinstance(encoder, keras.Model) or len(encoder.inputs) != 1:
        raise ValueError(f"`from_stride` is for encoders, and {encoder.name!r} is none. Leave it out.")
    measured = strides(encoder)
    if max(measured) < from_stride:
        raise ValueError(f"No level of {encoder.name!r} has a stride of at least {from_stride}: there are {measured}.")
    finer = [output for stride, output in zip(measured, encoder.outputs, strict=True) if stride < from_stride]
    if not finer:
        return set()
    return {id(leaf) for leaf in leaf_layers(keras.Model(encoder.inputs, finer))}
