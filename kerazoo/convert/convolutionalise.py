"""Classifiers as fully convolutional networks: the dense top becomes convolutions that keep its weights.

Long et al., 2015, https://arxiv.org/abs/1411.4038, section 3.1.
"""

import contextlib
from typing import Any, NamedTuple

import keras
from keras import layers

from kerazoo.encoders.graph import IMAGE, Node, fresh, trace, wire
from kerazoo.types import Tensor

POOLS = {layers.GlobalAveragePooling2D: layers.AveragePooling2D, layers.GlobalMaxPooling2D: layers.MaxPooling2D}
"""What averages over the whole image, and what does over a window of the size it had in training."""

POINTWISE = (layers.Activation, layers.Dropout, layers.ELU, layers.LeakyReLU, layers.ReLU)
"""Layers that treat every value alike, wherever it is."""

PER_CHANNEL = (layers.BatchNormalization, layers.LayerNormalization, layers.Softmax)
"""Layers that need to know where the channels are."""


class _Graph(NamedTuple):
    """The calls of a classifier and of the models inside it.

    Attributes:
        model: A model that makes these calls.
        nodes: The calls.
        operations: Beside each call the layer or operation of `model`.
        owners: Beside each call the layer of the classifier that has the weights, or the operation.
    """

    model: keras.Model
    nodes: tuple[Node, ...]
    operations: tuple[Any, ...]
    owners: tuple[Any, ...]


class _Top(NamedTuple):
    """Where the space of a classifier ends.

    Attributes:
        node: Index of the pooling or flattening; everything after it follows from its output alone.
        window: Rows and columns of its input in training.
    """

    node: int
    window: tuple[int, int]


def convolutionalise(classifier: keras.Model, *, image_size: tuple[int, int] | None = None) -> keras.Model:
    """Turn an image classifier into a model that classifies every window of an image of any size.

    A dense layer after `Flatten` becomes a convolution with a kernel as large as the map was in training, further ones
    become 1x1 convolutions, and a global pooling becomes a pooling over that window with stride 1. Everything before is
    kept, so the windows are as far apart as the network's stride. Two things differ from cutting the windows out and
    classifying each: convolutions see the neighborhood of a window where they saw zeros, and squeeze-and-excitation
    inside the network averages over the whole image.

    Args:
        classifier: Functional or sequential model, such as those of `keras.applications` with their top, from one image
            `(B, H, W, C)`, channels last, to `(B, classes)`. A model in its midst is taken apart.
        image_size: `(height, width)` it was trained with; None takes that of its input, which must be known then.

    Returns: a model of its own, weights copied, from `(B, H, W, C)` to `(B, h, w, classes)`; h = w = 1 at the size of
        training, and smaller images are refused by the convolutions. The last activation is the classifier's.

    Raises:
        TypeError: `classifier` is no functional or sequential Keras model.
        ValueError: it has several inputs or outputs or other shapes, its size is not known, no dense top follows a
            pooling or flattening, or there is a layer in the top that has no convolutional counterpart (it is named).
    """
    graph = _graph(classifier)
    nodes = graph.nodes
    top = _find_top(graph, image_size)
    image = keras.Input((None, None, classifier.input_shape[-1]), name="image")
    rewritten = _Rewriting(nodes, top)
    outputs = wire(nodes, image, rewritten)
    model = keras.Model(image, outputs[len(nodes) - 1], name=classifier.name)
    if not rewritten.dense:
        raise ValueError(f"{classifier.name!r} has no dense layer after {nodes[top.node].name!r}: it has no dense top.")

    for node, operation in zip(nodes, graph.owners, strict=True):
        if isinstance(operation, layers.Layer) and operation.weights:
            layer = model.get_layer(node.name)
            values = zip(layer.weights, operation.get_weights(), strict=True)
            layer.set_weights([value.reshape(weight.shape) for weight, value in values])
    return model


def _graph(classifier: Any) -> _Graph:
    if not isinstance(classifier, keras.Model) or not getattr(classifier, "inputs", None):
        raise TypeError(
            f"`classifier` must be a functional or a built sequential Keras model, received {classifier!r}. Other "
            "kinds have no graph to read."
        )
    shapes = [tuple(tensor.shape) for tensor in (*classifier.inputs, *classifier.outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise ValueError(
            f"{classifier.name!r} must take one image (B, H, W, C) and give (B, classes); its inputs and outputs are "
            f"of the shapes {shapes}."
        )
    functional = keras.Model(classifier.inputs[0], classifier.outputs[0], name=classifier.name)
    if not any(
        isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential) for layer in functional.layers
    ):
        with contextlib.suppress(AttributeError):  # a layer is part of another graph too
            nodes, operations = trace(functional)
            return _Graph(functional, nodes, operations, operations)
    copies: dict[int, Any] = {}

    def copy(layer):
        if isinstance(layer, (keras.Model, layers.InputLayer)):
            return layer
        new = type(layer).from_config(layer.get_config())
        copies[id(new)] = layer
        return new

    def call(layer, *args, **kwargs):
        if not isinstance(layer, keras.Model):
            return layer(*args, **kwargs)
        ends = [layers.Identity() for _ in layer.outputs]
        outputs = {}  # those of the copied model are not connected to what it is called on

        def copy_inside(inner):
            return inner if inner in ends else copy(inner)

        def call_inside(inner, *inner_args, **inner_kwargs):
            if inner not in ends:
                return call(inner, *inner_args, **inner_kwargs)
            outputs[ends.index(inner)] = inner_args[0]
            return inner_args[0]

        graph = keras.Model(layer.inputs[0], [end(output) for end, output in zip(ends, layer.outputs, strict=True)])
        keras.models.clone_model(graph, input_tensors=args[0], clone_function=copy_inside, call_function=call_inside)
        return [outputs[index] for index in range(len(ends))] if len(ends) > 1 else outputs[0]

    image = keras.Input(classifier.input_shape[1:], name="image")
    flat = keras.models.clone_model(functional, input_tensors=image, clone_function=copy, call_function=call)
    nodes, operations = trace(flat)
    return _Graph(flat, nodes, operations, tuple(copies.get(id(operation), operation) for operation in operations))


def _find_top(graph: _Graph, image_size: tuple[int, int] | None) -> _Top:
    last_reader = list(range(len(graph.nodes)))
    for index, node in enumerate(graph.nodes):
        for read in node.reads:
            if read != IMAGE:
                last_reader[read] = index
    far = 0
    for index, node in enumerate(graph.nodes):
        if far <= index and (node.kind in POOLS or node.kind is layers.Flatten):
            return _Top(index, _window(graph.model, graph.operations[index].input, image_size))
        far = max(far, last_reader[index])
    kinds = ", ".join(kind.__name__ for kind in (*POOLS, layers.Flatten))
    raise ValueError(
        f"{graph.model.name!r} has no layer of {kinds} that everything after it goes through: no dense top."
    )


def _window(model: keras.Model, tensor: Tensor, image_size: tuple[int, int] | None) -> tuple[int, int]:
    static = model.input_shape[1:3]
    size = static if image_size is None else tuple(image_size)
    if None in size:
        raise ValueError(f"{model.name!r} takes images of every size: pass the `image_size` it was trained with.")
    if any(known not in (None, wanted) for known, wanted in zip(static, size, strict=True)):
        raise ValueError(f"{model.name!r} was built for images of {static}, received image_size={size}. Leave it out.")
    shape = (1, *size, model.input_shape[-1])
    spec = keras.Model(model.input, tensor).compute_output_spec(keras.KerasTensor(shape, dtype="float32"))
    return spec.shape[1:3]


class _Rewriting:
    """What `wire` asks about every node: the layers of the top, with space.

    Attributes:
        dense: How many dense layers became convolutions.
    """

    def __init__(self, nodes: tuple[Node, ...], top: _Top):
        self.dense = 0
        self._top = top
        self._window = top.window if nodes[top.node].kind is layers.Flatten else (1, 1)

    def __call__(self, index: int, node: Node, outputs: dict[int, Tensor]) -> Tensor | None:
        if index < self._top.node:
            return None
        x = outputs[node.reads[0]]
        if index == self._top.node:
            pool = POOLS.get(node.kind)
            return x if pool is None else pool(self._top.window, strides=1, padding="valid", name=node.name)(x)
        if node.kind is layers.Dense:
            return self._convolution(node)(x)
        if self._is_reshape(node, x.shape[-1]):
            return x
        if not self._keeps_its_place(node):
            where = "between flattening and dense layer" if self._window != (1, 1) else "in the top"
            raise ValueError(
                f"The layer {node.name!r}, a {node.kind.__name__} {where} of the classifier, has no counterpart that "
                "works on maps of any size."
            )
        self.dense += node.kind is layers.Conv2D
        return fresh(node)(x, **node.kwargs)

    def _convolution(self, node: Node) -> layers.Conv2D:
        self.dense += 1
        window, self._window = self._window, (1, 1)
        return layers.Conv2D(
            node.config["units"],
            window,
            use_bias=node.config["use_bias"],
            activation=keras.activations.deserialize(node.config["activation"]),
            name=node.name,
        )

    def _is_reshape(self, node: Node, channels: int) -> bool:
        """Whether the node only adds or drops the axes of the one pixel there is."""
        if node.kind is layers.Flatten:
            return True
        shape = node.config.get("target_shape", ())
        return node.kind is layers.Reshape and self._window == (1, 1) and {*shape} <= {1, -1, channels}

    def _keeps_its_place(self, node: Node) -> bool:
        softmax = node.kind is layers.Softmax or node.config.get("activation") == "softmax"
        if node.kind in POINTWISE and not softmax:
            return True
        if self._window != (1, 1):
            return False
        if node.kind is layers.Conv2D:
            return node.kernel == 1 and node.strides == 1
        return node.kind in POINTWISE or (node.kind in PER_CHANNEL and node.config["axis"] in (-1, [-1]))
