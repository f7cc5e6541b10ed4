"""Gradients on every backend, and the outputs of a layer inside a running model, read or replaced.

`keras.ops` takes no gradients; Keras does so in a training step alone. So the point where a gradient is wanted becomes
a weight, and one step of gradient descent of length 1 away from 0 is the gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kerazoo.types import Tensor


class Gradient:
    """Gradient of a function of one tensor.

    Args:
        function: From a float32 tensor of shape `shape` to a scalar, by `keras.ops` and layers alone. It must not train
            or update what it calls: give models `training=False`.
        shape: With the batch.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]):
        point = keras.Input(batch_shape=shape)
        self._moved = _Moved(function, shape)
        self._step = keras.Model(point, self._moved(point))
        self._step.compile(keras.optimizers.SGD(1.0), run_eagerly=True, jit_compile=False, auto_scale_loss=False)

    def __call__(self, point: np.ndarray) -> np.ndarray:
        """The gradient at `point`, float32, with its shape."""
        self._moved.shift.assign(np.zeros(point.shape, "float32"))
        self._step.train_on_batch(point.astype("float32"))
        return np.array(ops.convert_to_numpy(self._moved.shift))


class _Moved(layers.Layer):
    """Adds a weight to its input, and minus the function of the sum to the losses."""

    def __init__(self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]):
        super().__init__(dtype="float32")
        self.function = function
        self.shift = self.add_weight(shape=shape, initializer="zeros", name="shift")

    def call(self, inputs):
        value = ops.cast(self.function(inputs + self.shift), "float32")
        self.add_loss(0 * ops.sum(self.shift) - value)  # so that a constant has the gradient 0, and not none
        return inputs

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)


@contextmanager
def intercepted(layer: Any, function: Callable[[Any], Any]) -> Iterator[None]:
    """Replace the output of `layer` by `function` of it, inside the `with` block: Keras has no hooks."""
    before, call = vars(layer).get("call"), layer.call
    layer.call = lambda *args, **kwargs: function(call(*args, **kwargs))
    try:
        yield
    finally:
        del layer.call
        if before is not None:
            layer.call = before


@contextmanager
def recorded(layer: Any) -> Iterator[list[Any]]:
    """A list of the outputs that `layer` gives inside the `with` block."""
    outputs: list[Any] = []
    with intercepted(layer, lambda output: outputs.append(output) or output):
        yield outputs


def coarsest(output: Any) -> Tensor:
    """The coarsest level of what a layer gives, or its only tensor.

    Encoders of SegNet and DeconvNet give integers after their levels, where the maxima were.
    """
    return output[_coarsest_index(output)] if isinstance(output, (list, tuple)) else output


def with_coarsest(output: Any, replacement: Tensor) -> Any:
    """The output of a layer with its coarsest level replaced, in its dtype."""
    replacement = ops.cast(replacement, coarsest(output).dtype)
    if not isinstance(output, (list, tuple)):
        return replacement
    index = _coarsest_index(output)
    return [*output[:index], replacement, *output[index + 1 :]]


def _coarsest_index(outputs: Any) -> int:
    kinds = [keras.backend.standardize_dtype(output.dtype) for output in outputs]
    return max(i for i, kind in enumerate(kinds) if "float" in kind)


def clear_gradients(model: keras.Model) -> None:
    """On PyTorch a backward pass leaves the gradients of all weights behind, as large as the model."""
    if keras.backend.backend() == "torch":
        model.zero_grad()  # type: ignore[attr-defined]
