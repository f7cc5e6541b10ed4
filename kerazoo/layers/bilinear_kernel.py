"""Initializer of transposed convolutions: bilinear upsampling.

Long et al., 2015, https://arxiv.org/abs/1411.4038, section 3.3.
"""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class BilinearKernel(keras.initializers.Initializer):
    """Initializer of a `Conv2DTranspose` that upsamples every channel bilinearly and mixes none.

    With `strides=f` and a kernel of `2 * f - f % 2` rows the layer gives what `Resize(factor=f)` gives, apart from the
    outermost `f / 2` rows, where zeros lie beyond the border.

    Call: `shape` `(rows, columns, filters, channels)` of the kernel; `dtype` of the result, None for float32.
    Returns: the kernel.
    Raises: ValueError if there are not as many filters as channels.
    """

    def __call__(self, shape, dtype=None):
        rows, columns, filters, channels = shape
        if filters != channels:
            raise ValueError(
                "BilinearKernel upsamples each channel on its own and so needs as many filters as channels, received "
                f"{filters} filters for {channels} channels. Convolve to {filters} channels first."
            )
        window = np.outer(_triangle(rows), _triangle(columns))
        kernel = window[:, :, None, None] * np.eye(filters)
        return ops.convert_to_tensor(kernel, dtype=dtype or "float32")

    def get_config(self):
        return {}


def _triangle(size: int) -> np.ndarray:
    """Weights that fall linearly from the center of `size` pixels."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - center) / factor
