"""PyramidAttention and MANet, and the layers that they are made of."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase
from support.pyramids import (
    DILATED,
    LARGE,
    PYRAMID,
    arrays,
    assert_compiled_equals_eager,
    assert_equals_smp,
    decoder_model,
    run,
    strides_of,
)

from kerazoo.decoders import MANet, PyramidAttention
from kerazoo.layers import HalveMax, PositionAttention

WIDTHS = (24, 20, 16, 16, 16)
SMALL = ((2, 4), (4, 8))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("golden", "arguments", "pyramid"),
    [("pan", {}, DILATED), ("pan_nearest", {"interpolation": "nearest"}, PYRAMID[:4])],
)
def test_pyramid_attention_equals_smp(golden, arguments, pyramid):
    part = PyramidAttention(width=6, use_bias=True, align_corners=True, **arguments)
    assert_equals_smp(golden, "PAN", part, pyramid, LARGE)  # 9 rows at stride 16: a pooling that drops the last one


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [("manet", {"upsampling": "nearest"}), ("manet_no_norm", {"attention_width": 5, "reduction": 4, "norm": None})],
)
def test_manet_equals_smp(golden, arguments):
    part = MANet(widths=WIDTHS, attention="joint", min_channels=1, **arguments)
    assert_equals_smp(golden, "MAnet", part)


def test_parameters_of_pyramid_attention():
    # FPA on 8 channels: two projections of 8*4 + 16 of batch norm; 49*8+4, 25+4, 9+4 down; 9+4, 25+4, 49+4 up.
    # GAU at stride 2: a gate of 4*4+16, a convolution of 9*4*4+16.
    expected = 2 * 48 + 396 + 29 + 13 + 13 + 29 + 53 + 32 + 160
    assert decoder_model(PyramidAttention(width=4, finest_stride=2), SMALL).count_params() == expected
    # With biases, one per channel of each convolution: two of 4, six of 1, two of 4.
    biased = PyramidAttention(width=4, finest_stride=2, use_bias=True)
    assert decoder_model(biased, SMALL).count_params() == expected + 22


def test_parameters_of_manet():
    part = MANet(widths=(6, 5), attention_width=2, reduction=4, min_channels=1)
    position = (8 * 2 + 2) + 8 * 2 + 2 * (9 * 8 * 8 + 8)  # keys without a bias
    # reduce1, reduce2 with batch norm; two gates 4 -> 1 -> 4; two convolutions of the 4 + 4 concatenated channels
    merge = (9 * 8 * 8 + 32) + (8 * 4 + 16) + 2 * (5 + 8) + (9 * 8 * 6 + 24) + (9 * 6 * 6 + 24)
    full_resolution = (9 * 6 * 5 + 20) + (9 * 5 * 5 + 20)
    assert decoder_model(part, SMALL).count_params() == position + merge + full_resolution


@pytest.mark.parametrize(
    ("part", "pyramid", "strides"),
    [
        (PyramidAttention(), PYRAMID, [4, 8, 16, 32]),
        (PyramidAttention(), DILATED, [4, 8, 16, 16]),
        (PyramidAttention(), ((4, 3), (8, 4), (8, 5), (8, 6)), [4, 8, 8, 8]),
        (PyramidAttention(), ((7, 5),), [7]),
        (MANet(), PYRAMID, [1, 2, 4, 8, 16]),
        (MANet(), DILATED, [1, 2, 4, 8, 16]),
        (MANet(), PYRAMID[1:], [4, 8, 16]),
    ],
)
def test_strides_of_the_decoded_levels(part, pyramid, strides):
    assert strides_of(part, pyramid) == strides


@pytest.mark.parametrize(
    "part", [PyramidAttention(width=6), MANet(widths=(8, 8, 8))], ids=lambda part: type(part).__name__
)
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_time_sizes_and_xla(part, jit):
    assert_compiled_equals_eager(part, PYRAMID[1:], jit=jit)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PyramidAttention(width=0), "PyramidAttention's `width` must be a whole number of at least 1"),
        (lambda: PyramidAttention(interpolation="cubic"), "`interpolation` must be one of .*'nearest'.*'cubic'"),
        (lambda: strides_of(PyramidAttention(), PYRAMID[:1]), r"finest_stride=4 leaves none of the strides \[2\]"),
        (lambda: MANet(attention="column"), r"MANet's `attention` must be one of \('row', 'joint'\)"),
        (lambda: MANet(upsampling="transpose"), r"`upsampling` must be one of \('bilinear', 'nearest'\)"),
        (lambda: MANet(widths=(8, 0)), "MANet's `widths` must be a whole number of at least 1, received 0"),
        (lambda: strides_of(MANet(), ((7, 5),)), r"MANet needs at least two levels, received strides \[7\]"),
        (lambda: strides_of(MANet(widths=(8,)), PYRAMID), r"strides \[2, 4, 8, 16, 32\] have 4 skips, .*widths=\(8,\)"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def reference_attention(query, key, value, *, joint):
    """One image: `(H, W, K)`, `(H, W, K)`, `(H, W, C)` to `(H, W, C)`."""
    height, width, channels = value.shape
    positions = [(i, j) for i in range(height) for j in range(width)]
    scores = np.array([[query[p] @ key[q] for q in positions] for p in positions], "float64")
    weights = np.exp(scores - scores.max())
    weights /= weights.sum() if joint else weights.sum(axis=1, keepdims=True)
    context = np.array([sum(w * value[q] for w, q in zip(row, positions, strict=True)) for row in weights])
    if joint:  # positions by channels, read as channels by positions
        return context.reshape(channels, height, width).transpose(1, 2, 0)
    return context.reshape(height, width, channels)


@pytest.mark.backends
@pytest.mark.parametrize("normalize", ["row", "joint"])
def test_position_attention_computes_what_its_docstring_says(normalize):
    query, key, value = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5, seed=1), numbers(2, 3, 4, 6, seed=2)
    context = keras.ops.convert_to_numpy(PositionAttention(normalize=normalize)(query, key, value))
    for image in range(2):
        expected = reference_attention(query[image], key[image], value[image], joint=normalize == "joint")
        np.testing.assert_allclose(context[image], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.backends
def test_position_attention_does_not_overflow_in_float16():
    large = 60 * numbers(1, 4, 4, 64)  # scores in the hundred thousands
    context = PositionAttention(dtype="mixed_float16")(large, large, numbers(1, 4, 4, 3))
    assert keras.backend.standardize_dtype(context.dtype) == "float16"
    assert np.isfinite(keras.ops.convert_to_numpy(context)).all()


@pytest.mark.backends
def test_halving_drops_odd_rows_and_keeps_the_only_one():
    x = np.arange(-35, 0, dtype="float32").reshape(1, 5, 7, 1)  # grows along rows and columns
    halved = keras.ops.convert_to_numpy(HalveMax()(x))
    np.testing.assert_array_equal(halved, x[:, 1:4:2, 1:6:2])
    for size in ((1, 1), (1, 4), (3, 1)):
        part = -(numbers(1, *size, 2) ** 2)
        halved = keras.ops.convert_to_numpy(HalveMax()(part))
        assert halved.shape == (1, max(1, size[0] // 2), max(1, size[1] // 2), 2)
        np.testing.assert_array_equal(halved[0, 0, 0], part[0, :2, :2].max((0, 1)))


def test_gates_before_growing_are_gates_after_growing():
    """MANet squeezes the coarse map before it grows: doubling keeps the mean of every channel."""
    x = numbers(2, 5, 3, 4)
    for interpolation in ("nearest", "bilinear"):
        model = decoder_model(MANet(upsampling=interpolation), PYRAMID[:2])
        grown = model.get_layer("d2_up")(x, like=numbers(2, 10, 6, 1))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(grown).mean((1, 2)), x.mean((1, 2)), atol=1e-6)


def test_small_images_are_decoded():
    """A coarsest level of one pixel has no half, quarter and eighth; it is decoded all the same."""
    for part in (PyramidAttention(), MANet()):
        model = decoder_model(part, PYRAMID)
        for level in run(model, arrays(PYRAMID, (32, 32))):
            assert np.isfinite(level).all()


@pytest.mark.backends
class TestKerasHarness(TestCase):
    """Keras's own checks of a layer: configuration, symbolic and eager calls, a training step, mixed precision."""

    def test_halve_max(self):
        self.run_layer_test(
            HalveMax, {}, input_shape=(2, 6, 5, 3), expected_output_shape=(2, 3, 2, 3), run_training_check=False
        )

    def test_position_attention(self):
        self.run_layer_test(
            PositionAttention,
            {"normalize": "joint"},
            input_shape={"query_shape": (2, 4, 3, 6), "key_shape": (2, 4, 3, 6), "value_shape": (2, 4, 3, 5)},
            expected_output_shape=(2, 4, 3, 5),
            run_training_check=False,
        )

    def test_position_attention_refuses(self):
        with pytest.raises(ValueError, match=r"`normalize` must be one of \('row', 'joint'\), received 'both'"):
            PositionAttention(normalize="both")
        with pytest.raises(ValueError, match="same number of channels; received 5 and 4"):
            PositionAttention()(numbers(1, 2, 2, 5), numbers(1, 2, 2, 4), numbers(1, 2, 2, 3))
