"""Reflection padding of any width: the context that valid convolutions consume.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597, figure 2 (the overlap-tile strategy).
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class MirrorPad(keras.layers.Layer):
    """Pad images by reflection at their outermost pixels, repeatedly where the margin is wider than the image.

    Args:
        margin: Rows and columns to add on each side.
        multiple: Before the margin is added, images are padded below and to the right to a multiple of this.
        mirrored: Rows and columns on each side of the input that are reflections already; padding continues them as if
            all had been added at once.

    Call: `inputs` `(B, H, W, C)`.
    Returns: `(B, margin + H' + margin, margin + W' + margin, C)`, H' and W' the next multiples; dtype of the layer.

    Raises:
        ValueError: `margin` or `mirrored` is negative, or `multiple` less than 1.
    """

    def __init__(self, margin: int, *, multiple: int = 1, mirrored: int = 0, **kwargs):
        super().__init__(**kwargs)
        if margin < 0 or mirrored < 0 or multiple < 1:
            raise ValueError(
                "`margin` and `mirrored` must be at least 0 and `multiple` at least 1, received "
                f"{margin}, {mirrored} and {multiple}."
            )
        self.margin = int(margin)
        self.multiple = int(multiple)
        self.mirrored = int(mirrored)

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        return ops.take(ops.take(inputs, self._indices(height), axis=1), self._indices(width), axis=2)

    def _indices(self, size):
        """Row of the input for each row of the output."""
        last = size - 2 * self.mirrored - 1  # row of the image without its reflections
        period = ops.maximum(2 * last, 1)
        rows = ops.arange(self._padded(size), dtype="int32") - (self.margin + self.mirrored)
        rows = (rows + (self.margin + self.mirrored) * period) % period  # not negative: ONNX converters truncate
        return self.mirrored + ops.minimum(rows, period - rows)

    def _padded(self, size):
        return size + (self.multiple - size % self.multiple) % self.multiple + 2 * self.margin

    def compute_output_shape(self, inputs_shape):
        padded = [None if n is None else self._padded(n) for n in inputs_shape[1:3]]
        return (inputs_shape[0], *padded, inputs_shape[3])

    def get_config(self):
        own = {"margin": self.margin, "multiple": self.multiple, "mirrored": self.mirrored}
        return {**super().get_config(), **own}
