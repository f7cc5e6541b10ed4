"""Deformable convolution and normalized fusion: PyTorch's values and gradients, loops in NumPy, Keras's harness."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.testing import TestCase
from reference.convolutions import deformable_convolution
from support.backend import value_and_gradient
from support.source_tree import REPOSITORY
from support.tiers import on_one_backend

from kerazoo.layers import DeformableConv2D, FastNormalizedFusion

GOLDEN = REPOSITORY / "tests" / "golden" / "deform_conv2d.npz"


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def call(layer, *inputs, kernel, bias=None):
    layer.build(*(x.shape for x in inputs))
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return ops.convert_to_numpy(layer(*inputs))


@pytest.fixture(scope="module")
def golden():
    """torchvision's modulated deformable convolution in our layouts: maps NHWC, kernels HWIO."""
    with np.load(GOLDEN) as file:
        arrays = {name: file[name] for name in file.files}
    axes = {name: (2, 3, 1, 0) if "weight" in name else (0, 2, 3, 1) for name in arrays}
    return {name: x.transpose(axes[name]) if x.ndim == 4 else x for name, x in arrays.items()}


@pytest.mark.backends
def test_output_equals_torchvision(golden):
    layer = DeformableConv2D(6, 3, offset_groups=2)
    inputs = (golden["x"], golden["offset"], golden["mask"])
    y = call(layer, *inputs, kernel=golden["weight"], bias=golden["bias"])
    np.testing.assert_allclose(y, golden["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("wanted", ["x", "offset", "mask", "weight", "bias"])
def test_gradients_equal_torchvision(golden, wanted):
    layer = DeformableConv2D(6, 3, offset_groups=2)
    layer.build(golden["x"].shape, golden["offset"].shape, golden["mask"].shape)

    def weighted_sum(tensor):
        values = {**golden, wanted: tensor}
        x, offset, mask, weight, bias = (
            ops.convert_to_tensor(values[name], "float32") for name in ("x", "offset", "mask", "weight", "bias")
        )
        y, _ = layer.stateless_call([weight, bias], [], x, offset, mask)
        return ops.sum(y * ops.convert_to_tensor(golden["upstream"]))

    _, gradient = value_and_gradient(weighted_sum, np.ascontiguousarray(golden[wanted]))
    reference = golden[f"grad_{wanted}"]
    assert np.abs(gradient - reference).max() < 1e-4 * np.abs(reference).max()


@pytest.mark.parametrize(
    ("kernel_size", "strides", "dilation", "groups", "offset_groups"),
    [
        ((3, 3), 1, 1, 1, 1),
        ((3, 3), 2, 1, 1, 4),
        ((3, 3), 1, 2, 2, 1),
        ((1, 5), 3, 1, 4, 2),  # groups that are finer than the offset groups
        ((3, 1), 2, 3, 2, 4),  # and the reverse
    ],
)
def test_output_equals_the_sum_written_as_loops(kernel_size, strides, dilation, groups, offset_groups):
    height, width, channels, filters = 5, 7, 4, 4
    points = offset_groups * math.prod(kernel_size)
    size = (math.ceil(height / strides), math.ceil(width / strides))
    x, kernel = numbers(2, height, width, channels), numbers(*kernel_size, channels // groups, filters, seed=1)
    offsets, modulation = 2 * numbers(2, *size, 2 * points, seed=2), numbers(2, *size, points, seed=3)
    geometry = {"strides": strides, "groups": groups, "offset_groups": offset_groups}
    layer = DeformableConv2D(filters, kernel_size, dilation_rate=dilation, use_bias=False, **geometry)
    received = call(layer, x, offsets, modulation, kernel=kernel)
    assert layer.compute_output_shape(x.shape, offsets.shape) == received.shape
    expected = [
        deformable_convolution(*image, kernel, dilation=dilation, **geometry)
        for image in zip(x, offsets, modulation, strict=True)
    ]
    np.testing.assert_allclose(received, np.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 3)])
def test_without_offsets_it_is_a_convolution(strides, dilation):
    x, kernel, bias = numbers(2, 9, 6, 4), numbers(3, 3, 4, 5, seed=1), numbers(5, seed=2)
    layer = DeformableConv2D(5, 3, strides=strides, dilation_rate=dilation)
    offsets = np.zeros((2, -(-9 // strides), -(-6 // strides), 18), "float32")
    padded = np.pad(x, [(0, 0), (dilation, dilation), (dilation, dilation), (0, 0)])
    expected = ops.conv(padded, kernel, strides=strides, padding="valid", dilation_rate=dilation)
    np.testing.assert_allclose(
        call(layer, x, offsets, kernel=kernel, bias=bias),
        ops.convert_to_numpy(expected) + bias,
        rtol=1e-4,
        atol=1e-4,
    )


def test_points_beyond_the_map_read_zeros():
    layer = DeformableConv2D(2, 3)
    offsets = np.full((1, 4, 5, 18), 1e6, "float32")
    offsets[..., ::4] = -1e6
    y = call(layer, numbers(1, 4, 5, 3), offsets, kernel=numbers(3, 3, 3, 2), bias=np.array([1.0, -2.0]))
    np.testing.assert_array_equal(y, np.broadcast_to([1.0, -2.0], y.shape))


@pytest.mark.backends
def test_float16_keeps_the_pixels_of_large_maps_apart():
    """Beyond 2048 float16 holds even numbers only, beyond 4096 multiples of 4."""
    columns = np.arange(5000) % 7
    x = np.broadcast_to(columns.astype("float32"), (1, 2, 5000))[..., None]
    offsets = np.broadcast_to(np.array([0.0, 1.5], "float32"), (1, 2, 5000, 2))
    layer = DeformableConv2D(1, 1, use_bias=False, dtype="mixed_float16")
    y = call(layer, x, offsets, kernel=np.ones((1, 1, 1, 1)))
    assert y.dtype == "float16"
    expected = (np.roll(columns, -1) + np.roll(columns, -2))[:-2] / 2
    np.testing.assert_array_equal(y[0, :, :-2, 0], np.stack([expected, expected]))


def small_model():
    """Deformable convolution of an image whose offsets and modulation it predicts, and a fusion with the image."""
    image = keras.Input((None, None, 4))
    offsets = keras.layers.Conv2D(36, 3, strides=2, padding="same", name="offsets")(image)
    modulation = keras.layers.Conv2D(18, 3, strides=2, padding="same", activation="sigmoid", name="modulation")(image)
    y = DeformableConv2D(4, 3, strides=2, offset_groups=2, name="deformable")(image, offsets, modulation)
    pooled = keras.layers.AveragePooling2D(2, padding="same")(image)
    return keras.Model(image, FastNormalizedFusion(name="fusion")([y, pooled]))


@on_one_backend
@pytest.mark.backends
def test_any_size_compiles_and_trains_in_every_precision():
    """XLA and sizes that are known only when the model runs."""
    weights, expected = None, {}
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        model = small_model()
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile("sgd", "mse", jit_compile=keras.backend.backend() != "torch")
        for size in ((8, 6), (5, 9)) if policy == "float32" else ((8, 6),):
            y = model.predict_on_batch(numbers(2, *size, 4)).astype("float32")
            assert y.shape == (2, -(-size[0] // 2), -(-size[1] // 2), 4)
            np.testing.assert_allclose(y, expected.setdefault(size, y), atol=0.2)
        model.train_on_batch(numbers(2, 8, 6, 4), np.ones((2, 4, 3, 4), "float32"))
        for weight, old in zip(model.weights, weights, strict=True):
            new = ops.convert_to_numpy(weight)
            assert np.isfinite(new).all(), f"{policy}: {weight.path}"
            assert (new != old).any(), f"{policy}: {weight.path}"


@pytest.mark.backends
def test_fusion_is_a_mean_whose_negative_weights_are_zero():
    layer = FastNormalizedFusion()
    maps = [numbers(1, 2, 2, 3, seed=seed) for seed in range(3)]
    layer.build([x.shape for x in maps])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(maps)), sum(maps) / 3.0001, rtol=1e-5)
    layer.set_weights([np.array([3.0, -5.0, 1.0])])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(maps)), (3 * maps[0] + maps[2]) / 4.0001, rtol=1e-5)
    layer.set_weights([-np.ones(3)])
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(maps)), np.zeros((1, 2, 2, 3)))


class TestHarness(TestCase):
    """Keras's own checks of a layer: configuration, symbolic and eager calls, a training step, mixed precision."""

    def test_deformable_convolution(self):
        self.run_layer_test(
            DeformableConv2D,
            init_kwargs={"filters": 6, "kernel_size": (3, 1), "strides": 2, "groups": 2, "offset_groups": 4},
            input_shape={
                "inputs_shape": (2, 5, 4, 8),
                "offsets_shape": (2, 3, 2, 24),
                "modulation_shape": (2, 3, 2, 12),
            },
            expected_output_shape=(2, 3, 2, 6),
            expected_num_trainable_weights=2,
            expected_num_non_trainable_weights=0,
            expected_num_seed_generators=0,
            expected_num_losses=0,
            supports_masking=False,
            run_training_check=False,  # the harness trains layers of one tensor only; a test above trains these
        )

    def test_fusion(self):
        self.run_layer_test(
            FastNormalizedFusion,
            init_kwargs={"epsilon": 1e-3},
            input_shape=[(2, 5, 4, 8)] * 3,
            expected_output_shape=(2, 5, 4, 8),
            expected_num_trainable_weights=1,
            expected_num_non_trainable_weights=0,
            expected_num_seed_generators=0,
            expected_num_losses=0,
            supports_masking=False,
            run_training_check=False,
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2}, "`kernel_size` must be odd, as an even kernel has no center; received 2"),
        ({"kernel_size": (3, 4)}, r"received \(3, 4\)"),
        ({"strides": 0}, "`strides` must be at least 1, received 0"),
        ({"groups": 3}, "`filters` must be a multiple of `groups`, received 4 and 3"),
    ],
)
def test_what_makes_no_kernel_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeformableConv2D(4, **{"kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("options", "channels", "message"),
    [
        ({"offset_groups": 4}, (6, 72, 36), "6 channels do not fall into offset_groups=4 groups"),
        ({}, (6, 9, 9), r"1 offset groups of \(3, 3\) kernel points take `offsets` of 18 channels, received 9"),
        ({}, (6, 18, 18), "`modulation` of 9 channels, received 18"),
    ],
)
def test_maps_that_do_not_fit_are_refused(options, channels, message):
    with pytest.raises(ValueError, match=message):
        DeformableConv2D(4, 3, **options).build(*((1, 4, 4, c) for c in channels))


def test_fusion_refuses_a_single_map():
    with pytest.raises(ValueError, match="fuses a list of two or more maps, received shapes"):
        FastNormalizedFusion().build((1, 4, 4, 2))
    with pytest.raises(ValueError, match=r"`epsilon` must be positive, received 0\.0"):
        FastNormalizedFusion(epsilon=0.0)
