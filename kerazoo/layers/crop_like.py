"""Cropping to the size of another tensor, to undo padding."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class CropLike(keras.layers.Layer):
    """Keep the upper left `ceil(H / stride)` rows and `ceil(W / stride)` columns of a map.

    Args:
        stride: Pixels of `like` per row of `inputs`.

    Call: `inputs` `(B, h, w, C)`, floating point or integer; `like` `(B, H, W, …)`, the image before padding.
    Returns: `(B, ceil(H / stride), ceil(W / stride), C)`, dtype of the layer; integers keep theirs.

    Raises:
        ValueError: `stride` is less than 1.
    """

    def __init__(self, *, stride: int = 1, **kwargs):
        super().__init__(**kwargs)
        if stride < 1:
            raise ValueError(f"`stride` must be at least 1, received {stride}.")
        self.stride = int(stride)

    def call(self, inputs, like):
        height, width = self._target(ops.shape(like))
        return inputs[:, :height, :width]

    def _target(self, like_shape):
        return tuple(None if n is None else (n + self.stride - 1) // self.stride for n in like_shape[1:3])

    def compute_output_shape(self, inputs_shape, like_shape):
        return (inputs_shape[0], *self._target(like_shape), inputs_shape[3])

    def compute_output_spec(self, inputs, like):
        dtype = self.compute_dtype if keras.backend.is_float_dtype(inputs.dtype) else inputs.dtype
        return keras.KerasTensor(self.compute_output_shape(inputs.shape, like.shape), dtype=dtype)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
