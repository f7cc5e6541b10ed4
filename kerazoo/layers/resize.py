"""Bilinear and nearest resizing that works with run-time sizes on every backend.

Keras's `UpSampling2D` and `ops.image.resize` compare the size in Python and so fail in a `tf.function` whose sizes are
unknown. On the TensorFlow backend this layer calls the resizing kernels directly; elsewhere sizes are always known.
XLA compiles TensorFlow's bilinear kernel wrongly for some sizes (4 to 12 rows, 16 to 48, 5 to 9): it computes the lower
row of a position and that row's weight separately, and where the position is a whole number they can be rounded to
different sides. Under XLA, and where Keras has no kernel, resizing is a multiplication by one matrix per axis.
"""

from typing import Any

import keras
from keras import ops

from kerazoo.types import Tensor

INTERPOLATIONS = ("bilinear", "nearest")


@keras.saving.register_keras_serializable("kerazoo")
class Resize(keras.layers.Layer):
    """Resize images by a factor, to a size, or to the size of another tensor.

    Pixel centers are at half-integers (`align_corners=False`, as in OpenCV, PIL and Keras) or the corner pixels of
    input and output coincide (`align_corners=True`, as smp does). No anti-aliasing.

    Args:
        factor: Rows and columns of the output per row and column of the input, or None. Where the product is no whole
            number it is rounded, to at least 1.
        size: `(height, width)` of the output in pixels, or None. With neither, call the layer with `like`.
        interpolation: "bilinear" or "nearest".
        align_corners: Whether corner pixels coincide; "bilinear" only.

    Call: `inputs` `(B, H, W, C)` floating point; `like` `(B, H', W', …)`, whose size the output gets, or None.
    Returns: `(B, H', W', C)`, dtype of the layer.

    Raises:
        ValueError: both `factor` and `size` are given, `factor` is not positive, or the interpolation is unknown.
    """

    def __init__(
        self,
        *,
        factor: float | None = None,
        size: tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        align_corners: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if factor is not None and size is not None:
            raise ValueError(f"Resize takes `factor` or `size`, not both; received factor={factor}, size={size}.")
        if factor is not None and not factor > 0:
            raise ValueError(f"Resize needs a `factor` above 0, received {factor}.")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"`interpolation` must be one of {INTERPOLATIONS}, received {interpolation!r}.")
        if align_corners and interpolation != "bilinear":
            raise ValueError("`align_corners=True` has a meaning only for interpolation='bilinear'.")
        self.factor = factor
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.interpolation = interpolation
        self.align_corners = align_corners

    def call(self, inputs, like=None):
        height, width = self._target(ops.shape(inputs), None if like is None else ops.shape(like))
        source = inputs.shape[1:3]
        if isinstance(height, int) and isinstance(width, int) and tuple(source) == (height, width):
            return inputs
        tensorflow = keras.backend.backend() == "tensorflow"
        no_kernel = _under_xla() if tensorflow else self.align_corners
        if no_kernel and self.interpolation == "bilinear":
            return _resize_by_matrices(inputs, height, width, align_corners=self.align_corners)
        if tensorflow:
            return self._resize_by_tensorflow(inputs, height, width)
        return ops.image.resize(inputs, (height, width), interpolation=self.interpolation)

    def _target(self, shape, like_shape) -> tuple[Any, Any]:
        if like_shape is not None:
            return like_shape[1], like_shape[2]
        if self.size is not None:
            return self.size
        if self.factor is None:
            raise ValueError(f"Layer {self.name!r}: give `factor`, `size`, or call it with `like=`.")
        height, width = (None if n is None else _scaled(n, self.factor) for n in shape[1:3])
        return height, width

    def _resize_by_tensorflow(self, inputs, height, width):
        import tensorflow as tf

        size = tf.stack([tf.cast(height, tf.int32), tf.cast(width, tf.int32)])
        half_pixel_centers = not self.align_corners
        if self.interpolation == "nearest":
            resized = tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=size, half_pixel_centers=True)
        else:
            resized = tf.raw_ops.ResizeBilinear(
                images=inputs, size=size, align_corners=self.align_corners, half_pixel_centers=half_pixel_centers
            )
        resized = tf.cast(resized, inputs.dtype)  # the bilinear kernel returns float32 whatever it is given
        static = [n if isinstance(n, int) else None for n in (height, width)]
        return tf.ensure_shape(resized, [inputs.shape[0], *static, inputs.shape[3]])

    def compute_output_shape(self, inputs_shape, like_shape=None):
        height, width = self._target(inputs_shape, like_shape)
        return (inputs_shape[0], height, width, inputs_shape[3])

    def get_config(self):
        own = {
            "factor": self.factor,
            "size": self.size,
            "interpolation": self.interpolation,
            "align_corners": self.align_corners,
        }
        return {**super().get_config(), **own}


def _under_xla() -> bool:
    """Whether XLA will compile what TensorFlow is tracing now."""
    import tensorflow as tf

    return tf.__internal__.get_enclosing_xla_context() is not None  # exported for libraries such as Keras


def _scaled(size: Any, factor: float) -> Any:
    """A size, static or a tensor, times the factor."""
    if factor == int(factor):
        return size * int(factor)
    if isinstance(size, int):
        return max(1, round(size * factor))
    return ops.maximum(1, ops.cast(ops.round(ops.cast(size, "float32") * factor), "int32"))


def _resize_by_matrices(x: Tensor, height: Any, width: Any, *, align_corners: bool) -> Tensor:
    """Bilinear resizing of `(B, h, w, C)` by a matrix per axis."""
    rows, columns = ops.shape(x)[1:3]
    x = ops.einsum("Ww,bhwc->bhWc", _weights(columns, width, align_corners, x.dtype), x)
    return ops.einsum("Hh,bhwc->bHwc", _weights(rows, height, align_corners, x.dtype), x)


def _weights(n: Any, size: Any, align_corners: bool, dtype: str) -> Tensor:
    """`(size, n)` bilinear weights of each of `n` input rows in each output row."""
    source, target = ops.cast(n, "float32"), ops.cast(size, "float32")
    rows = ops.cast(ops.arange(size), "float32")
    if align_corners:
        position = rows * ((source - 1) / ops.maximum(target - 1, 1))
    else:
        position = ops.clip((rows + 0.5) * (source / target) - 0.5, 0, source - 1)
    distance = ops.abs(ops.expand_dims(position, 1) - ops.cast(ops.arange(n), "float32"))
    return ops.cast(ops.relu(1 - distance), dtype)
