"""Pooling with switches, unpooling, bed of nails, bilinear kernels, mirroring: against loops, NumPy and PyTorch."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.testing import TestCase
from support.backend import value_and_gradient

from kerazoo.layers import BedOfNails, BilinearKernel, CropLike, MaxPoolWithIndices, MaxUnpool, MirrorPad, Resize

pytestmark = pytest.mark.backends


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def to_numpy(tensors):
    return keras.tree.map_structure(ops.convert_to_numpy, tensors)


def reference_pool(x, size):
    """Maxima and switches by loops over windows."""
    rows, columns = (-(-n // size) for n in x.shape[1:3])
    pooled = np.empty((len(x), rows, columns, x.shape[3]), x.dtype)
    switches = np.empty(pooled.shape, "int32")
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            width = window.shape[2]
            first = window.reshape(len(x), -1, x.shape[3]).argmax(1)  # NumPy's argmax takes the first, too
            pooled[:, i, j] = window.max((1, 2))
            switches[:, i, j] = first // width * size + first % width
    return pooled, switches


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 45, 67, 3), (1, 6, 12, 2), (1, 1, 1, 1)])
def test_maxima_and_switches_are_those_of_the_windows(size, shape):
    x = np.round(numbers(*shape), 1)  # so coarsely that windows have equal maxima
    pooled, switches = to_numpy(MaxPoolWithIndices(pool_size=size)(x))
    expected = reference_pool(x, size)
    np.testing.assert_array_equal(pooled, expected[0])
    np.testing.assert_array_equal(switches, expected[1])
    assert switches.dtype == "int32"


def test_first_of_equal_maxima_wins_and_nan_is_the_largest():
    x = np.array([[1, 1, 0, np.nan], [1, 0, 2, 2], [-np.inf, -np.inf, -1, -2], [-np.inf, -np.inf, -2, -1]], "float32")
    pooled, switches = to_numpy(MaxPoolWithIndices()(x[None, :, :, None]))
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[1, np.nan], [-np.inf, -1]])
    np.testing.assert_array_equal(switches[0, :, :, 0], [[0, 1], [0, 0]])


@pytest.mark.skipif(find_spec("torch") is None, reason="compares with PyTorch")
@pytest.mark.parametrize("shape", [(2, 44, 66, 3), (2, 45, 67, 3)])
def test_pool_and_unpool_equal_pytorch(shape):
    import torch

    x = numbers(*shape)
    maps = torch.from_numpy(x).permute(0, 3, 1, 2)
    values, flat = torch.nn.functional.max_pool2d(maps, 2, return_indices=True, ceil_mode=True)
    unpooled = torch.nn.functional.max_unpool2d(values, flat, 2, output_size=maps.shape[2:])
    values, flat, unpooled = (tensor.numpy().transpose(0, 2, 3, 1) for tensor in (values, flat, unpooled))
    pooled, switches = MaxPoolWithIndices()(x)
    np.testing.assert_array_equal(to_numpy(pooled), values)
    rows, columns = np.divmod(flat, shape[2])
    np.testing.assert_array_equal(to_numpy(switches), rows % 2 * 2 + columns % 2)
    np.testing.assert_array_equal(to_numpy(CropLike()(MaxUnpool()(pooled, switches), x)), unpooled)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_unpooling_what_was_pooled_keeps_the_maxima_and_nothing_else(dtype):
    """Exactly, for each of the 65536 windows of an image of 512 pixels, more than float16 can count."""
    x = ops.cast(numbers(1, 512, 512, 1), dtype)
    pooled, switches = MaxPoolWithIndices(dtype=dtype)(x)
    restored = MaxUnpool(dtype=dtype)(pooled, switches)
    x, restored = to_numpy((ops.cast(x, "float32"), ops.cast(restored, "float32")))
    windows = x.reshape(256, 2, 256, 2)
    winners = np.zeros((256, 256, 4), bool)
    first = windows.transpose(0, 2, 1, 3).reshape(256, 256, 4).argmax(-1)
    np.put_along_axis(winners, first[..., None], True, axis=-1)
    kept = winners.reshape(256, 256, 2, 2).transpose(0, 2, 1, 3).reshape(x.shape)
    np.testing.assert_array_equal(restored, np.where(kept, x, 0))


def test_the_gradient_goes_to_the_first_maximum_alone():
    x = np.array([[1, 3, 5, 5], [2, 0, 5, 4]], "float32").reshape(1, 2, 4, 1)
    weights = np.array([2.0, 7.0], "float32").reshape(1, 1, 2, 1)
    _, gradient = value_and_gradient(lambda x: ops.sum(ops.convert_to_tensor(weights) * MaxPoolWithIndices()(x)[0]), x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 2, 7, 0], [0, 0, 0, 0]])


def test_the_gradient_of_unpooling_is_read_where_the_switches_point():
    switches = np.array([1, 2], "int32").reshape(1, 1, 2, 1)
    weights = np.arange(8, dtype="float32").reshape(1, 2, 4, 1)
    x = np.ones((1, 1, 2, 1), "float32")
    value, gradient = value_and_gradient(
        lambda x: ops.sum(ops.convert_to_tensor(weights) * MaxUnpool()(x, switches)), x
    )
    assert value == 1 + 6
    np.testing.assert_array_equal(gradient[0, 0, :, 0], [1, 6])


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_bed_of_nails_puts_values_into_upper_left_corners(factor):
    x = numbers(2, 4, 5, 3)
    expected = np.zeros((2, 4 * factor, 5 * factor, 3), "float32")
    expected[:, ::factor, ::factor] = x
    np.testing.assert_array_equal(to_numpy(BedOfNails(factor=factor)(x)), expected)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_bilinear_kernels_upsample_as_resize_does(factor):
    x = numbers(1, 7, 9, 3)
    kernel = BilinearKernel()
    assert keras.initializers.deserialize(keras.initializers.serialize(kernel)).get_config() == kernel.get_config()
    up = keras.layers.Conv2DTranspose(
        3, 2 * factor - factor % 2, strides=factor, padding="same", use_bias=False, kernel_initializer=kernel
    )
    ours, expected = to_numpy((up(x), Resize(factor=factor)(x)))
    assert ours.shape == expected.shape
    inner = slice(factor // 2, -(factor // 2) or None)
    np.testing.assert_allclose(ours[:, inner, inner], expected[:, inner, inner], atol=1e-4)


@pytest.mark.parametrize(("margin", "size"), [(3, (5, 7)), (11, (4, 6)), (9, (1, 2)), (0, (5, 7))])
def test_mirroring_is_numpys_reflection_however_far(margin, size):
    x = numbers(2, *size, 3)
    expected = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(to_numpy(MirrorPad(margin)(x)), expected)


def test_mirroring_fills_up_to_a_multiple_below_and_to_the_right():
    x = numbers(1, 5, 8, 1)
    expected = np.pad(x, ((0, 0), (2, 5), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(to_numpy(MirrorPad(2, multiple=4)(x)), expected)


def test_mirroring_goes_on_where_it_stopped():
    x = numbers(1, 5, 8, 1)
    at_once, first = MirrorPad(13)(x), MirrorPad(4)(x)
    np.testing.assert_array_equal(to_numpy(MirrorPad(9, mirrored=4)(first)), to_numpy(at_once))


def test_crops_keep_integers():
    switches, like = np.arange(12, dtype="int32").reshape(1, 3, 4, 1), np.zeros((1, 5, 5, 1), "float32")
    layer = CropLike(stride=2, dtype="mixed_float16")
    assert layer(keras.KerasTensor(switches.shape, "int32"), keras.KerasTensor(like.shape)).dtype == "int32"
    cropped = to_numpy(layer(switches, like))
    np.testing.assert_array_equal(cropped, switches[:, :3, :3])
    assert cropped.dtype == "int32"


HARNESS = {
    "pool": (MaxPoolWithIndices, {"pool_size": 3}, (2, 6, 7, 3), ((2, 2, 3, 3), (2, 2, 3, 3))),
    "nails": (BedOfNails, {"factor": 3}, (2, 2, 3, 4), (2, 6, 9, 4)),
    "mirror": (MirrorPad, {"margin": 3, "multiple": 4, "mirrored": 1}, (2, 6, 5, 3), (2, 14, 14, 3)),
    "unpool": (
        MaxUnpool,
        {"pool_size": 3},
        {"inputs_shape": (2, 2, 3, 4), "switches_shape": (2, 2, 3, 4)},
        (2, 6, 9, 4),
    ),
}


class TestHarness(TestCase):
    """Keras's own checks of layers: configuration, reload, shapes, training, mixed precision."""

    @pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
    def test_layers(self):
        for name, (layer, options, shape, expected) in HARNESS.items():
            plain = name in ("nails", "mirror")  # the harness trains on one input and output, and wants one dtype
            self.run_layer_test(
                layer,
                init_kwargs=options,
                input_shape=shape,
                input_dtype={"inputs_shape": "float32", "switches_shape": "int32"} if name == "unpool" else "float32",
                expected_output_shape=expected,
                expected_output_dtype=("float32", "int32") if name == "pool" else "float32",
                expected_num_trainable_weights=0,
                expected_num_non_trainable_weights=0,
                run_training_check=plain,
                run_mixed_precision_check=plain,
            )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has sizes known at run time alone")
def test_sizes_known_only_at_run_time():
    import tensorflow as tf

    layers = MaxPoolWithIndices(pool_size=3), MaxUnpool(pool_size=3), BedOfNails(factor=2), MirrorPad(5, multiple=4)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), "float32")])
    def compute(x):
        pool, unpool, nails, mirror = layers
        pooled, switches = pool(x)
        outputs = pooled, switches, unpool(pooled, switches), nails(x), mirror(x)
        assert all(output.shape[-1] == 3 for output in outputs), "static channels are lost"
        return outputs

    for size in ((45, 67), (6, 9), (2, 1)):
        x = numbers(2, *size, 3)
        pooled, switches, unpooled, nails, mirrored = compute(x)
        for ours, expected in zip((pooled, switches), reference_pool(x, 3), strict=True):
            np.testing.assert_array_equal(ours, expected)
        np.testing.assert_array_equal(
            unpooled[:, : size[0], : size[1]], np.where(unpooled[:, : size[0], : size[1]], x, 0)
        )
        np.testing.assert_array_equal(nails[:, ::2, ::2], x)
        np.testing.assert_array_equal(mirrored, layers[3](x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPoolWithIndices(pool_size=0), "`pool_size` must be at least 1, received 0"),
        (lambda: MaxUnpool(pool_size=0), "`pool_size` must be at least 1, received 0"),
        (lambda: BedOfNails(factor=0), "`factor` must be at least 1, received 0"),
        (lambda: MirrorPad(-1), "`margin` and `mirrored` must be at least 0 .* received -1, 0 and 1"),
        (
            lambda: MaxUnpool()(numbers(1, 2, 2, 3), np.zeros((1, 2, 2, 4), "int32")),
            "3 channels came with switches for 4. Convolve to 4",
        ),
        (lambda: BilinearKernel()((4, 4, 3, 5)), "received 3 filters for 5 channels. Convolve to 3 channels first"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
