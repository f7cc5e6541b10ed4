"""Efficient channel attention. Wang et al., 2020, https://arxiv.org/abs/1910.03151."""

import math

import keras
from keras import ops

LEAST_KERNEL = 3


def eca_kernel_size(channels: int, *, gamma: float = 2.0, offset: float = 1.0) -> int:
    """Odd kernel size of the convolution over the channels: `(log2(channels) + offset) / gamma`, at least 3."""
    size = int(abs(math.log2(channels) + offset) / gamma)
    return max(LEAST_KERNEL, size if size % 2 else size + 1)


@keras.saving.register_keras_serializable("kerazoo")
class ECA(keras.layers.Layer):
    """Channel attention by a convolution over the channels: `x * sigmoid(conv1d(mean(x)))`.

    A handful of weights and no bottleneck, where squeeze-and-excitation has two dense layers. The mean over the pixels
    is taken in float32 whatever the precision policy.

    Args:
        kernel_size: Odd size of the convolution over the channels; None takes the paper's choice, which grows with the
            logarithm of the channels.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: the same shape, dtype of the layer.

    Raises:
        ValueError: `kernel_size` is not odd and positive.
    """

    def __init__(self, *, kernel_size: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
            raise ValueError(f"`kernel_size` must be odd and positive, or None; received {kernel_size}.")
        self.kernel_size = None if kernel_size is None else int(kernel_size)

    def build(self, inputs_shape):
        size = self.kernel_size or eca_kernel_size(inputs_shape[-1])
        self.mix = keras.layers.Conv1D(1, size, padding="same", use_bias=False, dtype=self.dtype_policy, name="mix")
        self.mix.build((None, inputs_shape[-1], 1))

    def call(self, inputs):
        means = ops.mean(ops.cast(inputs, "float32"), axis=(1, 2))
        gate = ops.sigmoid(self.mix(ops.expand_dims(ops.cast(means, inputs.dtype), -1)))
        return inputs * ops.reshape(gate, (-1, 1, 1, inputs.shape[-1]))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}
