"""Resize against its definition, for sizes at which kernels are known to go wrong, and the same when compiled."""

import keras
import numpy as np
import pytest

from kerazoo.layers import Resize

SIZES = [(4, 12), (5, 9), (16, 48), (4, 16), (8, 64), (4, 10), (8, 16), (7, 7), (9, 4), (6, 3), (1, 5), (5, 1)]
"""Rows before and after. XLA's own bilinear kernel is wrong for the first six, half of them with aligned corners."""

MODES = [
    {"interpolation": "bilinear"},
    {"interpolation": "bilinear", "align_corners": True},
    {"interpolation": "nearest"},
]


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def reference(column, size, *, interpolation, align_corners=False):
    """Resized column of numbers, one by one."""
    n = len(column)
    resized = []
    for i in range(size):
        if interpolation == "nearest":
            resized.append(column[(2 * i + 1) * n // (2 * size)])
            continue
        # position = above / below, in whole numbers
        above, below = (i * (n - 1), max(size - 1, 1)) if align_corners else ((2 * i + 1) * n - size, 2 * size)
        above = min(max(above, 0), (n - 1) * below)
        row, rest = divmod(above, below)
        resized.append(column[row] + rest / below * (column[min(row + 1, n - 1)] - column[row]))
    return np.array(resized)


@pytest.mark.backends
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("n", "size"), SIZES)
def test_resize_computes_its_definition(n, size, mode):
    x = numbers(1, n, 3, 2)
    ours = keras.ops.convert_to_numpy(Resize(size=(size, 3), **mode)(x))
    for column in range(3):
        for channel in range(2):
            expected = reference(x[0, :, column, channel], size, **mode)
            np.testing.assert_allclose(ours[0, :, column, channel], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("n", "size"), SIZES[:7])
def test_compiled_by_xla_it_is_the_same(n, size, mode):
    import tensorflow as tf

    layer, x, like = Resize(**mode), numbers(2, n, n, 3), numbers(2, size, size, 1)
    compiled = tf.function(lambda x, like: layer(x, like=like), jit_compile=True)
    np.testing.assert_allclose(compiled(x, like), layer(x, like=like), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES[:2], ids=str)
def test_gradients_are_those_of_the_kernel(mode):
    import tensorflow as tf

    layer, x, upstream = Resize(size=(48, 12), **mode), tf.constant(numbers(1, 16, 4, 2)), numbers(1, 48, 12, 2)

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(layer(x) * upstream)
        return tape.gradient(value, x)

    np.testing.assert_allclose(tf.function(gradient, jit_compile=True)(), gradient(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_same_in_float16(mode):
    """To the precision of the half floats that the result has."""
    import tensorflow as tf

    layer, x = Resize(factor=3, dtype="float16", **mode), numbers(1, 5, 4, 2).astype("float16")
    resized = [layer(x), tf.function(layer, jit_compile=True)(x)]
    assert all(y.dtype == "float16" for y in resized)
    np.testing.assert_allclose(*resized, rtol=4e-3, atol=4e-3)
