"""Atrous spatial pyramid pooling: parallel dilated convolutions, and image pooling.

Chen et al., 2017, https://arxiv.org/abs/1706.05587, section 3.3.
"""

import keras
from keras import ops

from kerazoo.layers._conv_unit import ConvUnit
from kerazoo.layers.resize import Resize


@keras.saving.register_keras_serializable("kerazoo")
class ASPP(keras.layers.Layer):
    """Concatenate a 1x1 convolution, a dilated 3x3 convolution per rate and image pooling, then project.

    Every branch and the projection have batch norm and ReLU. Image pooling leaves one value per image and channel, so
    that its batch norm needs at least two images per batch in training.

    Args:
        filters: Channels of each branch and of the result.
        rates: Dilation of each 3x3 convolution.
        separable: Whether the 3x3 convolutions are separable: depthwise, then 1x1.
        dropout: Dropout rate after the projection.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, H, W, filters)`, dtype of the layer.

    Raises:
        ValueError: `filters` or a rate is less than 1, there is no rate, or `dropout` is not in [0, 1).
    """

    def __init__(
        self,
        *,
        filters: int = 256,
        rates: tuple[int, ...] = (6, 12, 18),
        separable: bool = False,
        dropout: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"`filters` must be at least 1, received {filters}.")
        if not rates or min(rates) < 1:
            raise ValueError(f"`rates` must be numbers of at least 1, at least one of them, received {rates}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), received {dropout}.")
        self.filters = int(filters)
        self.rates = tuple(int(rate) for rate in rates)
        self.separable = separable
        self.dropout = dropout

    def build(self, inputs_shape):
        policy = self.dtype_policy
        self.branches = [ConvUnit(self.filters, dtype=policy, name="branch0")]
        self.branches += [
            ConvUnit(self.filters, 3, dilation=rate, separable=self.separable, dtype=policy, name=f"branch{i}")
            for i, rate in enumerate(self.rates, start=1)
        ]
        self.image = ConvUnit(self.filters, dtype=policy, name=f"branch{len(self.branches)}_image")
        self.resize = Resize(dtype=policy, name="resize")
        self.project = ConvUnit(self.filters, dtype=policy, name="project")
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy, name="drop")
        for branch in (*self.branches, self.image):
            branch.build(inputs_shape)
        self.project.build((*inputs_shape[:3], (len(self.branches) + 1) * self.filters))

    def call(self, inputs):
        maps = [branch(inputs) for branch in self.branches]
        mean = ops.mean(ops.cast(inputs, "float32"), axis=(1, 2), keepdims=True)
        # Not a broadcast: TensorFlow's graph optimizer (2.21) takes the wrong size for it.
        whole = self.resize(self.image(ops.cast(mean, inputs.dtype)), like=inputs)
        return self.drop(self.project(ops.concatenate([*maps, whole], axis=-1)))

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:3], self.filters)

    def get_config(self):
        own = {"filters": self.filters, "rates": self.rates, "separable": self.separable, "dropout": self.dropout}
        return {**super().get_config(), **own}
