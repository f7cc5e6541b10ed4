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


def freeze(
    model: keras.Model, part: str = "encoder", *, up_to_stride: int | None = None, batchnorm: str = "frozen"
) -> None:
    """Stop training a part of a model, or the fine end of an encoder only, and print what is left to train.

    The flag is set on leaf layers, so that a later `unfreeze` of some of them is not hidden by their container. The
    model has to be compiled again afterwards; Keras says so when that is forgotten.

    Args:
        model: Model of `kerazoo.segmenter`, or any model with a layer called `part`.
        part: Name of the sub-model or layer.
        up_to_stride: Only the layers that levels of this stride and finer ones need; None for all of the part.
        batchnorm: "frozen" keeps batch norm at its moving statistics, which then do not move, and freezes its scale and
            offset with them; "train" leaves all batch norm layers of the part trainable.

    Raises:
        ValueError: the model has no such part (its parts are named), `batchnorm` is neither of the two, or no level is
            that fine.
    """
    _check_batchnorm(batchnorm)
    container = _part(model, part)
    chosen = None if up_to_stride is None else layers_up_to(container, up_to_stride)

    def flag(layer: keras.layers.Layer) -> bool:
        if _is_batchnorm(layer) and batchnorm == "train":
            return True
        return layer.trainable and chosen is not None and id(layer) not in chosen

    _set_flags(container, flag)
    _announce(model)


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
    finer = set() if from_stride is None else _layers_finer_than(container, from_stride)

    def flag(layer: keras.layers.Layer) -> bool:
        chosen = id(layer) not in finer and (batchnorm == "train" or not _is_batchnorm(layer))
        return chosen or layer.trainable

    _set_flags(container, flag)
    _announce(model)


def set_trainable(
    model: keras.Model, *, frozen: str | None, up_to_stride: int | None = None, batchnorm: str | None = None
) -> None:
    """Train all of a model except what is named, whatever was frozen before, and print nothing.

    Args:
        model: As in `freeze`.
        frozen: Name of the part that is not trained, or None.
        up_to_stride: As in `freeze`.
        batchnorm: Batch norm of that part, of the encoder if `frozen` is None: "frozen" or "train" whatever becomes of
            the other layers; None for as they are.

    Raises:
        ValueError: as `freeze`.
    """
    _check_batchnorm(batchnorm or "frozen")
    part = _part(model, frozen or "encoder") if frozen or batchnorm else None
    inside = set() if part is None else {id(leaf) for leaf in leaf_layers(part)}
    chosen = inside if frozen else set()
    if frozen and part is not None and up_to_stride is not None:
        chosen = layers_up_to(part, up_to_stride)

    def flag(layer: keras.layers.Layer) -> bool:
        if batchnorm is not None and _is_batchnorm(layer) and id(layer) in inside:
            return batchnorm == "train"
        return id(layer) not in chosen

    model.trainable = True
    for layer in model.layers:
        _set_flags(layer, flag)
    model.compiled = False


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


def _set_flags(container: keras.layers.Layer, flag: Callable[[keras.layers.Layer], bool]) -> None:
    leaves = list(leaf_layers(container))
    flags = [flag(leaf) for leaf in leaves]  # before the containers are opened, which thaws everything
    container.trainable = True
    for leaf, trainable in zip(leaves, flags, strict=True):
        leaf.trainable = trainable


def _announce(model: keras.Model) -> None:
    model.compiled = False
    table = trainable_table(model)
    print(f"trainable {_short(table.trainable)} of {_short(table.total)} parameters; compile the model again")


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def layers_up_to(encoder: keras.layers.Layer, stride: int) -> set[int]:
    """Identities of the leaf layers that the levels of an encoder up to a stride need.

    Raises:
        ValueError: `encoder` has no levels, or none is that fine.
    """
    measured = _strides(encoder, "up_to_stride")
    if min(measured) > stride:
        raise ValueError(f"No level of {encoder.name!r} has a stride of at most {stride}: there are {measured}.")
    return _layers_of(encoder, [n <= stride for n in measured])


def stages(encoder: keras.layers.Layer) -> dict[int, set[int]]:
    """Identities of the leaf layers that each stride of an encoder needs beyond the finer ones, fine to coarse."""
    found: dict[int, set[int]] = {}
    for stride in sorted(set(_strides(encoder, "layer_decay"))):
        found[stride] = layers_up_to(encoder, stride).difference(*found.values())
    return found


def _layers_finer_than(encoder: keras.layers.Layer, stride: int) -> set[int]:
    measured = _strides(encoder, "from_stride")
    if max(measured) < stride:
        raise ValueError(f"No level of {encoder.name!r} has a stride of at least {stride}: there are {measured}.")
    return _layers_of(encoder, [n < stride for n in measured])


def _strides(encoder: keras.layers.Layer, argument: str) -> list[int]:
    if not isinstance(encoder, keras.Model) or len(encoder.inputs) != 1:
        raise ValueError(f"`{argument}` is for encoders, and {encoder.name!r} is none. Leave it out.")
    return strides(encoder)


def _layers_of(encoder: keras.Model, chosen: list[bool]) -> set[int]:
    """Identities of the leaf layers that the chosen outputs need."""
    outputs = [output for output, wanted in zip(encoder.outputs, chosen, strict=True) if wanted]
    return {id(leaf) for leaf in leaf_layers(keras.Model(encoder.inputs, outputs))} if outputs else set()
