"""Functional models as data: record the calls of a graph, find its pyramid, wire it again with changes.

Only public Keras is used: `keras.models.clone_model` walks the graph and hands every call to `call_function`.
"""

import copy
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kerazoo.types import Tensor

IMAGE = -1
"""Index of the model's input among the nodes."""


@dataclass(frozen=True)
class Read:
    """Stands for the output of a node among the arguments of a call."""

    node: int


@dataclass(frozen=True)
class Node:
    """One call of a layer or operation, without tensors and weights.

    Attributes:
        kind: Class of the layer or operation.
        config: What `kind.from_config` takes; without a dtype, so that the policy of the time of wiring holds.
        args: Positional arguments of the call, `Read` where a tensor goes.
        kwargs: Keyword arguments, likewise.
        reads: Nodes whose outputs the call takes.
        rows: Height of the output for the image the model was built with; 1 if it has no height.
    """

    kind: type
    config: dict[str, Any]
    args: Any
    kwargs: Any
    reads: tuple[int, ...]
    rows: int

    @property
    def name(self) -> str:
        """Name of the layer or operation."""
        return self.config["name"]

    @property
    def strides(self) -> int:
        """Rows of the input per row of the output: 1 for whatever is neither convolution nor pooling."""
        return _first(self.config.get("strides", 1))

    @property
    def kernel(self) -> int:
        """Longer side of the window of a convolution or pooling; 1 for anything else."""
        size = self.config.get("kernel_size", self.config.get("pool_size", 1))
        return size if isinstance(size, int) else max(size)


def _first(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


def trace(model: keras.Model) -> tuple[tuple[Node, ...], tuple[Any, ...]]:
    """Record the calls of a functional model with one image as input, in topological order.

    Nested `Sequential` models are taken apart. Names that Keras numbered over the process ("conv2d_37") are numbered
    anew over the model, as a fresh process would.

    Args:
        model: Built with a static image size; every layer is called once.

    Returns: the nodes, and beside each the layer or operation of `model` it was recorded from.
    """
    nodes: list[Node] = []
    operations: list[Any] = []
    made: dict[int, int] = {id(model.input): IMAGE}  # id of a tensor -> index of its node
    kept: list[Any] = []  # the tensors of `made` stay alive, so that ids stay theirs
    names = _Names()

    def add(operation, args, kwargs, output):
        tensors = [leaf for leaf in keras.tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
        marked_args, marked_kwargs = _map(
            lambda leaf: Read(made[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf, (args, kwargs)
        )
        config = operation.get_config()
        config.pop("dtype", None)
        config["name"] = names.stable(operation)
        rows = output.shape[1] if len(output.shape) == 4 else 1
        reads = tuple(made[id(tensor)] for tensor in tensors)
        made[id(output)] = len(nodes)
        kept.append(output)
        nodes.append(Node(type(operation), config, marked_args, marked_kwargs, reads, rows))
        operations.append(operation)

    def record(operation, *args, **kwargs):
        if not isinstance(operation, keras.Sequential):
            add(operation, args, kwargs, operation.output)
            return operation.output
        (output,) = args
        for layer in operation.layers:
            shape = layer.compute_output_shape(output.shape)
            args, output = (output,), keras.KerasTensor(shape, dtype=output.dtype)
            add(layer, args, {}, output)
        return output

    keras.models.clone_model(model, input_tensors=model.input, clone_function=lambda layer: layer, call_function=record)
    return tuple(nodes), tuple(operations)


class _Names:
    """Numbers the names that Keras made up, over one model instead of the process."""

    def __init__(self):
        self._counts: dict[str, int] = {}

    def stable(self, operation: Any) -> str:
        made_up = _snake_case(type(operation).__name__)
        if not re.fullmatch(rf"{made_up}(_\d+)?", operation.name):
            return operation.name
        count = self._counts.get(made_up, 0)
        self._counts[made_up] = count + 1
        return f"{made_up}_{count}" if count else made_up


def _snake_case(name: str) -> str:
    """Keras's own rule: `ZeroPadding2D` gives `zero_padding2d`, `ReLU` gives `re_lu`."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def without_preprocessing(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Drop the `Rescaling` and `Normalization` layers that a family puts first, and start from what they give."""
    start = 0
    while nodes[start].kind in (keras.layers.Rescaling, keras.layers.Normalization):
        start += 1

    def shift(leaf):
        return Read(max(leaf.node - start, IMAGE)) if isinstance(leaf, Read) else leaf

    return tuple(
        dataclasses.replace(
            node,
            args=_map(shift, node.args),
            kwargs=_map(shift, node.kwargs),
            reads=tuple(max(index - start, IMAGE) for index in node.reads),
        )
        for node in nodes[start:]
    )


def pyramid(nodes: tuple[Node, ...], size: int, names: str | None = None) -> dict[int, int]:
    """The last node of each stride that everything later goes through.

    Such a node is a single-tensor cut: no edge of the graph jumps over it, so its output is the whole state of the
    network there and never an inner branch. Only exact strides count, so the outputs of padding layers do not.

    Args:
        nodes: As `trace` gives them, after `without_preprocessing`.
        size: Rows of the image that the model was built with.
        names: Regular expression that the whole name of such a node matches; None takes any.

    Returns: index of the node by stride, fine to coarse.
    """
    last_reader = list(range(len(nodes)))
    for index, node in enumerate(nodes):
        for read in node.reads:
            if read != IMAGE:
                last_reader[read] = index
    taps, far = {}, 0
    for index, node in enumerate(nodes):
        if far <= index and size % node.rows == 0 and (names is None or re.fullmatch(names, node.name)):
            taps[size // node.rows] = index
        far = max(far, last_reader[index])
    return dict(sorted(taps.items()))


Change = Callable[[int, Node, dict[int, Tensor]], Tensor | None]


def wire(nodes: tuple[Node, ...], image: Tensor, change: Change | None = None) -> dict[int, Tensor]:
    """Call fresh layers on `image` as `nodes` say.

    Args:
        nodes: What to call.
        image: What the model's input is replaced by.
        change: Gets the index, the node and the outputs so far; returns the output if it wired the node itself, else
            None.

    Returns: the output of every node, by index; the image at `IMAGE`.
    """
    outputs: dict[int, Tensor] = {IMAGE: image}

    def look_up(leaf):
        return outputs[leaf.node] if isinstance(leaf, Read) else leaf

    for index, node in enumerate(nodes):
        output = change(index, node, outputs) if change else None
        if output is None:
            args, kwargs = _map(look_up, (node.args, node.kwargs))
            output = fresh(node)(*args, **kwargs)
        outputs[index] = output
    return outputs


def _map(change: Callable[[Any], Any], structure: Any) -> Any:
    return keras.tree.map_structure(change, structure)


def fresh(node: Node, **changes: Any) -> Any:
    """A new layer or operation from the node's config, with `changes` to it."""
    return node.kind.from_config({**copy.deepcopy(node.config), **changes})
