"""Pyramid pooling module: a map beside its averages over regions of several sizes.

Zhao et al., 2017, https://arxiv.org/abs/1612.01105, section 3.2.
"""

import keras
from keras import ops

from kerazoo.layers._conv_unit import ConvUnit
from kerazoo.layers.adaptive_average_pool import AdaptiveAveragePool
from kerazoo.layers.blocks import NORMS
from kerazoo.layers.resize import Resize


@keras.saving.register_keras_serializable("kerazoo")
class PyramidPooling(keras.layers.Layer):
    """Average pool to several sizes, project each by a 1x1 convolution, upsample all and concatenate with the input.

    The map of size 1 has one value per image and channel, so that its batch norm needs at least two images per batch in
    training.

    Args:
        sizes: Rows and columns of each pooled map.
        filters: Channels of each projection; None is `C // len(sizes)`.
        inputs_first: Whether the input comes before the pooled maps in the result, or after them.
        norm: Normalization after each projection: "batch", "group", "instance", or None for a bias instead.
        normalize_global: Whether the projection of the map of size 1 has that norm too, as in the paper; smp's PSPNet
            gives it a bias instead.
        align_corners: Whether corner pixels coincide in upsampling.

    Call: `inputs` `(B, H, W, C)`, floating point.
    Returns: `(B, H, W, C + len(sizes) * filters)`, dtype of the layer.

    Raises:
        ValueError: a size or `filters` is less than 1, `norm` is unknown, or there are fewer channels than sizes to
            share them.
    """

    def __init__(
        self,
        *,
        sizes: tuple[int, ...] = (1, 2, 3, 6),
        filters: int | None = None,
        inputs_first: bool = True,
        norm: str | None = "batch",
        normalize_global: bool = True,
        align_corners: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"`sizes` must be numbers of at least 1, at least one of them, received {sizes}.")
        if filters is not None and filters < 1:
            raise ValueError(f"`filters` must be at least 1, or None, received {filters}.")
        if norm not in NORMS:
            raise ValueError(f"`norm` must be one of {NORMS}, received {norm!r}.")
        self.sizes = tuple(int(size) for size in sizes)
        self.filters = filters
        self.inputs_first = inputs_first
        self.norm = norm
        self.normalize_global = normalize_global
        self.align_corners = align_corners

    def build(self, inputs_shape):
        policy = self.dtype_policy
        filters = self._filters(inputs_shape[-1])
        self.pools = [AdaptiveAveragePool(size, dtype=policy, name=f"pool{i}") for i, size in enumerate(self.sizes)]
        self.projections = [
            ConvUnit(filters, norm_kind=self._norm(size), dtype=policy, name=f"branch{i}")
            for i, size in enumerate(self.sizes)
        ]
        self.resize = Resize(align_corners=self.align_corners, dtype=policy, name="resize")
        for pool, projection in zip(self.pools, self.projections, strict=True):
            projection.build(pool.compute_output_shape(inputs_shape))

    def _filters(self, channels):
        filters = channels // len(self.sizes) if self.filters is None else self.filters
        if filters < 1:
            raise ValueError(f"{channels} channels cannot be shared by {len(self.sizes)} `sizes`: give `filters`.")
        return filters

    def _norm(self, size):
        return self.norm if size > 1 or self.normalize_global else None

    def call(self, inputs):
        maps = [
            self.resize(projection(pool(inputs)), like=inputs)
            for pool, projection in zip(self.pools, self.projections, strict=True)
        ]
        return ops.concatenate([inputs, *maps] if self.inputs_first else [*maps, inputs], axis=-1)

    def compute_output_shape(self, inputs_shape):
        channels = inputs_shape[-1]
        return (*inputs_shape[:3], channels + len(self.sizes) * self._filters(channels))

    def get_config(self):
        own = {
            "sizes": self.sizes,
            "filters": self.filters,
            "inputs_first": self.inputs_first,
            "norm": self.norm,
            "normalize_global": self.normalize_global,
            "align_corners": self.align_corners,
        }
        return {**super().get_config(), **own}
