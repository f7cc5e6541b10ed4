"""Max pooling with indices: the switches of SegNet and DeconvNet.

Zeiler and Fergus, 2014, https://arxiv.org/abs/1311.2901. Switches count inside their window (0 to size² − 1) and not
over the map, so they are exact for every size of image and need no wide integers.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class MaxPoolWithIndices(keras.layers.Layer):
    """Max pooling over windows that do not overlap, and the position of each maximum inside its window.

    Windows at the lower and right border that the map does not fill have fewer elements. The first of equal maxima in
    reading order wins, and it alone gets the gradient; nan is larger than every number.

    Args:
        pool_size: Rows and columns of a window, and from one window to the next.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the maxima `(B, ceil(H / pool_size), ceil(W / pool_size), C)`, dtype of the layer, and the switches, of the
        same shape, int32: `row * pool_size + column` inside the window.

    Raises:
        ValueError: `pool_size` is less than 1.
    """

    def __init__(self, *, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        if pool_size < 1:
            raise ValueError(f"`pool_size` must be at least 1, received {pool_size}.")
        self.pool_size = int(pool_size)

    def call(self, inputs):
        size = self.pool_size
        padded = self._padded(inputs)
        best = padded[:, ::size, ::size]
        switches = ops.zeros_like(best, dtype="int32")
        for position in range(1, size * size):
            row, column = divmod(position, size)
            candidate = padded[:, row::size, column::size]
            better = ops.logical_or(
                ops.greater(candidate, best), ops.not_equal(candidate, candidate)
            )  # the latter is nan
            best = ops.where(better, candidate, best)
            switches = ops.where(better, position, switches)
        return best, switches

    def _padded(self, inputs):
        shape = ops.shape(inputs)
        pads = [(self.pool_size - n % self.pool_size) % self.pool_size for n in shape[1:3]]
        if all(isinstance(pad, int) and pad == 0 for pad in pads):
            return inputs
        padded = ops.pad(inputs, [(0, 0), (0, pads[0]), (0, pads[1]), (0, 0)], constant_values=float("-inf"))
        # A pad of run-time width loses the static channel count on TensorFlow; reshaping restores it.
        return ops.reshape(padded, (-1, shape[1] + pads[0], shape[2] + pads[1], inputs.shape[-1]))

    def compute_output_shape(self, inputs_shape):
        rows = [None if n is None else -(-n // self.pool_size) for n in inputs_shape[1:3]]
        shape = (inputs_shape[0], *rows, inputs_shape[3])
        return shape, shape

    def compute_output_spec(self, inputs):
        pooled, switches = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(pooled, dtype=self.compute_dtype), keras.KerasTensor(switches, dtype="int32")

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size}
