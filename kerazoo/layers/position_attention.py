"""Position attention: self-attention over the pixels of a map. Fu et al., 2019, https://arxiv.org/abs/1809.02983."""

import keras
from keras import ops

NORMALIZATIONS = ("row", "joint")


@keras.saving.register_keras_serializable("kerazoo")
class PositionAttention(keras.layers.Layer):
    """`softmax(query · key) value` over all positions, computed in float32 whatever the precision policy.

    Memory grows with the square of the number of positions: for the coarsest levels of an encoder.

    Args:
        normalize: "row": the attention weights of each position sum to 1. "joint": those of all positions together do,
            and the result, positions by channels, is read as channels by positions, as the weights of smp's MAnet
            expect.

    Call: `query` and `key` `(B, H, W, K)`, `value` `(B, H, W, C)`, floating point.
    Returns: `(B, H, W, C)`, dtype of the layer.

    Raises:
        ValueError: `normalize` is not one of those, or queries and keys have different numbers of channels.
    """

    def __init__(self, *, normalize: str = "row", **kwargs):
        super().__init__(**kwargs)
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"`normalize` must be one of {NORMALIZATIONS}, received {normalize!r}.")
        self.normalize = normalize

    def build(self, query_shape, key_shape, value_shape):
        if query_shape[-1] != key_shape[-1]:
            raise ValueError(
                "Queries are compared with keys, so both need the same number of channels; received "
                f"{query_shape[-1]} and {key_shape[-1]}."
            )

    def call(self, query, key, value):
        height, width = ops.shape(value)[1:3]
        channels = value.shape[-1]
        query, key, value_ = (
            ops.cast(ops.reshape(x, (-1, height * width, x.shape[-1])), "float32") for x in (query, key, value)
        )
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        axes = (2,) if self.normalize == "row" else (1, 2)
        weights = ops.exp(scores - ops.max(scores, axis=axes, keepdims=True))  # ops.softmax warns of a single position
        weights = weights / ops.sum(weights, axis=axes, keepdims=True)
        context = ops.matmul(weights, value_)
        if self.normalize == "row":
            context = ops.reshape(context, (-1, height, width, channels))
        else:
            context = ops.transpose(ops.reshape(context, (-1, channels, height, width)), (0, 2, 3, 1))
        return ops.cast(context, value.dtype)

    def compute_output_shape(self, query_shape, key_shape, value_shape):
        return value_shape

    def get_config(self):
        return {**super().get_config(), "normalize": self.normalize}
