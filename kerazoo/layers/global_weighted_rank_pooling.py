"""Global weighted rank pooling, between max and average pooling.

Kolesnikov and Lampert, 2016, https://arxiv.org/abs/1603.06098, section 3.3.
"""

import keras
import numpy as np
from keras import ops

from kerazoo.types import Tensor

_NEGLIGIBLE = 1e-9  # share of the largest weight below which a rank is left out


@keras.saving.register_keras_serializable("kerazoo")
class GlobalWeightedRankPooling2D(keras.layers.Layer):
    """Mean of the values of each channel, the j-th largest weighted by `decay ** j`.

    What a decay means depends on the number of pixels: the authors' 0.996 is for maps of 41×41, where the largest 173
    pixels have half of the weight.

    Args:
        decay: In [0, 1]; 0 is the maximum, 1 the mean.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, C)`, dtype of the layer.

    Raises:
        ValueError: `decay` is not in [0, 1].
    """

    def __init__(self, *, decay: float = 0.996, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= decay <= 1:
            raise ValueError(f"GlobalWeightedRankPooling2D's `decay` must be in [0, 1], received {decay}.")
        self.decay = float(decay)

    def call(self, inputs):
        values = pixels_last(inputs)
        if self.decay == 1:
            return ops.mean(values, axis=-1)
        pixels, ranks = values.shape[-1], self._ranks()
        if ranks == 1:
            return ops.max(values, axis=-1)
        if pixels is not None:  # only the largest ones matter, and they need no full ranking
            largest, _ = ops.top_k(values, min(ranks, pixels))
        else:
            largest = ops.flip(ops.sort(values, axis=-1), axis=-1)
        order = ops.cast(ops.arange(ops.shape(largest)[-1]), values.dtype)
        weights = ops.exp(order * float(np.log(self.decay)))
        return ops.sum(largest * weights, axis=-1) / ops.sum(weights)

    def _ranks(self) -> int:
        """How many of the largest values have a weight that is not negligible."""
        return 1 if self.decay == 0 else int(np.ceil(np.log(_NEGLIGIBLE) / np.log(self.decay))) + 1

    def compute_output_shape(self, inputs_shape):
        return inputs_shape[0], inputs_shape[-1]

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


def pixels_last(maps: Tensor) -> Tensor:
    """`(B, C, H * W)`."""
    height, width, channels = maps.shape[1:]
    known = None not in (height, width)
    shape = (-1, height * width, channels) if known else (ops.shape(maps)[0], -1, channels)
    return ops.transpose(ops.reshape(maps, shape), (0, 2, 1))
