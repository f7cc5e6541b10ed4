"""Zero padding of images to a multiple of a stride, for sizes that are known at run time only."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class PadToMultiple(keras.layers.Layer):
    """Pad images with zeros, below and to the right, until `multiple` divides height and width.

    Args:
        multiple: Pixels; 1 leaves every image as it is.

    Call: `inputs` `(B, H, W, C)`.
    Returns: `(B, H', W', C)`, H' and W' the next multiples; dtype of the layer.

    Raises:
        ValueError: `multiple` is less than 1.
    """

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        if multiple < 1:
            raise ValueError(f"`multiple` must be at least 1, received {multiple}.")
        self.multiple = int(multiple)

    def call(self, inputs):
        shape = ops.shape(inputs)
        pads = [self._missing(n) for n in shape[1:3]]
        if all(isinstance(pad, int) and pad == 0 for pad in pads):
            return inputs
        padded = ops.pad(inputs, [(0, 0), (0, pads[0]), (0, pads[1]), (0, 0)])
        # A pad of run-time width loses the static channel count on TensorFlow; reshaping restores it.
        return ops.reshape(padded, (-1, shape[1] + pads[0], shape[2] + pads[1], inputs.shape[-1]))

    def _missing(self, size):
        # Not `-size % multiple`: ONNX converters truncate the negative.
        return (self.multiple - size % self.multiple) % self.multiple

    def compute_output_shape(self, inputs_shape):
        padded = [None if n is None else n + self._missing(n) for n in inputs_shape[1:3]]
        return (inputs_shape[0], *padded, inputs_shape[3])

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}
