"""Deformable convolution, version 2: predicted offsets and modulation of the kernel's sampling points.

Dai et al., 2017, https://arxiv.org/abs/1703.06211; modulation by Zhu et al., 2019, https://arxiv.org/abs/1811.11168:
y(p) = bias + sum_k w_k m_k(p) x(p + p_k + o_k(p)), where p_k are the points of the kernel, o_k(p) their offsets and
m_k(p) their modulation; x is interpolated bilinearly between its pixels and is zero outside of the map. As
`torchvision.ops.deform_conv2d`, with "same" padding.
"""

import math

import keras
from keras import ops

from kerazoo.arguments import as_pair
from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo")
class DeformableConv2D(keras.layers.Layer):
    """Convolution whose sampling points are shifted by predicted offsets and scaled by a predicted modulation.

    Positions are computed in float32 whatever the precision policy: float16 cannot address the pixels of a large map.

    Args:
        filters: Channels of the output.
        kernel_size: Odd number of rows and columns of the kernel, or both.
        strides: Stride.
        dilation_rate: Dilation rate.
        groups: Groups of a grouped convolution.
        offset_groups: Groups of input channels that have offsets and modulation of their own.
        use_bias: Whether to add a bias.
        kernel_initializer: Of the kernel, `(rows, columns, C / groups, filters)`.

    Call:
        `inputs` `(B, H, W, C)`, floating point;
        `offsets` `(B, ceil(H / strides), ceil(W / strides), offset_groups * k * 2)`, k the points of the kernel: for
            each offset group and each point, in reading order, the shift down and right in pixels of the input;
        `modulation` `(B, ceil(H / strides), ceil(W / strides), offset_groups * k)`: factor of the value at each point,
            commonly in [0, 1]; None for 1 (version 1).
    Returns: `(B, ceil(H / strides), ceil(W / strides), filters)`, dtype of the layer.

    Raises:
        ValueError: an argument is not one of those, or does not divide the number of channels; offsets or modulation
            have another number of channels.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        strides: int = 1,
        dilation_rate: int = 1,
        groups: int = 1,
        offset_groups: int = 1,
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # offsets keep their precision
        sizes = as_pair(kernel_size)
        if len(sizes) != 2 or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"`kernel_size` must be odd, as an even kernel has no center; received {kernel_size}.")
        whole = {
            "filters": filters,
            "strides": strides,
            "dilation_rate": dilation_rate,
            "groups": groups,
            "offset_groups": offset_groups,
        }
        for name, value in whole.items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, received {value}.")
        if filters % groups:
            raise ValueError(f"`filters` must be a multiple of `groups`, received {filters} and {groups}.")
        self.filters = int(filters)
        self.kernel_size = sizes
        self.strides = int(strides)
        self.dilation_rate = int(dilation_rate)
        self.groups = int(groups)
        self.offset_groups = int(offset_groups)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape, offsets_shape, modulation_shape=None):
        channels = inputs_shape[-1]
        for name, parts in (("groups", self.groups), ("offset_groups", self.offset_groups)):
            if channels % parts:
                raise ValueError(f"Layer {self.name!r}: {channels} channels do not fall into {name}={parts} groups.")
        points = self.offset_groups * math.prod(self.kernel_size)
        for name, shape, wanted in (("offsets", offsets_shape, 2 * points), ("modulation", modulation_shape, points)):
            if shape is not None and shape[-1] != wanted:
                raise ValueError(
                    f"Layer {self.name!r}: {self.offset_groups} offset groups of {self.kernel_size} kernel points take "
                    f"`{name}` of {wanted} channels, received {shape[-1]}."
                )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels // self.groups, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None

    def call(self, inputs, offsets, modulation=None):
        x = ops.cast(inputs, self.compute_dtype)
        channels = x.shape[-1]
        batch, rows, columns, _ = ops.shape(offsets)
        corners, weights = self._corners(ops.shape(x), offsets)
        if modulation is not None:
            weights = [weight * self._by_point(modulation, 1)[..., 0] for weight in weights]
        # Points outside of the map read the zeros that it is padded with. A row of `pixels` holds the channels of one
        # offset group at one pixel, so that sampling is a lookup of rows.
        pixels = ops.reshape(ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), (-1, channels // self.offset_groups))
        values = None
        for corner, weight in zip(corners, weights, strict=True):
            part = ops.take(pixels, corner, axis=0) * ops.cast(ops.expand_dims(weight, -1), x.dtype)
            values = part if values is None else values + part
        y = ops.reshape(self._convolve(values, channels), (batch, rows, columns, self.filters))
        return y if self.bias is None else y + ops.cast(self.bias, y.dtype)

    def _by_point(self, maps: Tensor, values: int) -> Tensor:
        """Predicted maps as `(B, H', W', k, offset_groups, values)`, float32."""
        shape = (*ops.shape(maps)[:3], self.offset_groups, math.prod(self.kernel_size), values)
        return ops.transpose(ops.reshape(ops.cast(maps, "float32"), shape), (0, 1, 2, 4, 3, 5))

    def _corners(self, shape, offsets: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The four pixels around every sampling point: their rows in `pixels`, and their bilinear weights.

        Returns: four index tensors, int32, and four weights, float32, each `(B, H', W', k, offset_groups)`.
        """
        batch, height, width, _ = shape
        moved = self._by_point(offsets, 2)
        lows, fractions = [], []
        for axis, size in enumerate((height, width)):
            position = moved[..., axis] + self._grid(ops.shape(offsets)[1 + axis], axis)
            position = ops.clip(position, 0.0, ops.cast(size + 1, "float32"))
            low = ops.minimum(ops.floor(position), ops.cast(size, "float32"))
            fractions.append(position - low)
            lows.append(ops.cast(low, "int32"))
        images = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1, 1))
        first = (images * (height + 2) + lows[0]) * (width + 2) + lows[1]
        first = first * self.offset_groups + ops.arange(self.offset_groups, dtype="int32")
        corners, weights = [], []
        for down in (0, 1):
            for right in (0, 1):
                corners.append(first + (down * (width + 2) + right) * self.offset_groups)
                vertical = fractions[0] if down else 1.0 - fractions[0]
                weights.append(vertical * (fractions[1] if right else 1.0 - fractions[1]))
        return corners, weights

    def _grid(self, size, axis: int) -> Tensor:
        """Sampling points without offsets, in the padded map: rows (axis 0) or columns (axis 1), float32."""
        centers = ops.cast(ops.arange(size), "float32") * self.strides + 1.0
        reach = self.kernel_size[axis] // 2
        points = ops.arange(-reach, reach + 1, dtype="float32") * self.dilation_rate
        other = self.kernel_size[1 - axis]
        points = ops.repeat(points, other) if axis == 0 else ops.tile(points, [other])
        centers = ops.reshape(centers, (-1, 1, 1, 1) if axis == 0 else (-1, 1, 1))
        return centers + ops.expand_dims(points, -1)

    def _convolve(self, values: Tensor, channels: int) -> Tensor:
        """Sampled values `(B, H', W', k, offset_groups, C / offset_groups)` times the kernel, one row per pixel."""
        kernel = ops.cast(self.kernel, values.dtype)
        points = math.prod(self.kernel_size)
        if self.groups == 1:
            values = ops.reshape(values, (-1, points * channels))
            return ops.matmul(values, ops.reshape(kernel, (points * channels, self.filters)))
        values = ops.reshape(values, (-1, points, self.groups, channels // self.groups))
        kernel = ops.reshape(kernel, (points, channels // self.groups, self.groups, self.filters // self.groups))
        return ops.reshape(ops.einsum("nkgc,kcgf->ngf", values, kernel), (-1, self.filters))

    def compute_output_shape(self, inputs_shape, offsets_shape, modulation_shape=None):
        height, width = (None if n is None else -(-n // self.strides) for n in inputs_shape[1:3])
        return (inputs_shape[0], height, width, self.filters)

    def get_config(self):
        own = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "offset_groups": self.offset_groups,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
        return {**super().get_config(), **own}
