"""Adaptive pooling, pyramid pooling and ASPP: their arithmetic in NumPy, Keras's own harness, every precision."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase
from support.tiers import on_one_backend

from kerazoo.layers import ASPP, AdaptiveAveragePool, PyramidPooling


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def pooled(x, rows, columns):
    """Means of `(H, W, C)` over the bins that PyTorch documents, one after the other."""
    height, width, channels = x.shape
    result = np.zeros((rows, columns, channels))
    for i in range(rows):
        for j in range(columns):
            top, bottom = i * height // rows, -(-(i + 1) * height // rows)
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            result[i, j] = x[top:bottom, left:right].mean((0, 1))
    return result


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (6, 6), (3, 5), (7, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (12, 6), (13, 33)])
def test_adaptive_pooling_takes_the_mean_of_every_bin(shape, size):
    x = numbers(2, *shape, 3)
    expected = np.stack([pooled(image.astype("float64"), *size) for image in x])
    result = keras.ops.convert_to_numpy(AdaptiveAveragePool(size)(x))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.backends
def test_bins_share_a_row_where_the_size_does_not_divide():
    """Five rows in two bins: rows 0 to 2 and 2 to 4."""
    x = np.array([1, 2, 6, 10, 20], "float32")[None, :, None, None]
    result = keras.ops.convert_to_numpy(AdaptiveAveragePool((2, 1))(x))
    np.testing.assert_allclose(result[0, :, 0, 0], [3, 12], rtol=1e-6)


def test_means_are_taken_in_float32():
    """What float16 rounds 1 / 300 by would add up: the mean is rounded once, at the end."""
    x = 1000 + numbers(1, 300, 290, 3)
    result = keras.ops.convert_to_numpy(AdaptiveAveragePool(1, dtype="mixed_float16")(x))
    assert result.dtype == "float16"
    expected = x.astype("float16").astype("float64").mean((1, 2), keepdims=True)
    np.testing.assert_array_equal(result, expected.astype("float16"))


def test_pyramid_pooling_puts_the_pooled_maps_beside_the_input():
    """Identity projections: the map of size 1 is the mean everywhere, that of the input's own size the input."""
    x = np.abs(numbers(2, 5, 5, 4))
    for inputs_first in (True, False):
        layer = PyramidPooling(sizes=(1, 5), filters=4, inputs_first=inputs_first, norm=None)
        layer.build(x.shape)
        layer.set_weights([np.eye(4)[None, None], np.zeros(4)] * 2)
        mean = np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
        expected = np.concatenate([x, mean, x] if inputs_first else [mean, x, x], -1)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize(("align_corners", "expected"), [(True, [2, 3, 4, 5, 6]), (False, [2, 2.4, 4, 5.6, 6])])
def test_pyramid_pooling_resizes_as_told(align_corners, expected):
    """Means of 2 and 6 over five columns: at the outermost columns, or at a quarter and three quarters of the width."""
    x = np.array([1, 2, 3, 6, 9], "float32")[None, None, :, None]  # bins 0 to 2 and 2 to 4: means 2 and 6
    layer = PyramidPooling(sizes=(2,), filters=1, norm=None, align_corners=align_corners)
    layer.build((None, None, None, 1))
    layer.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    result = keras.ops.convert_to_numpy(layer(x))[0, 0, :, 1]
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_projections_share_the_channels_out():
    layer = PyramidPooling(sizes=(1, 2, 3))
    layer.build((None, None, None, 10))
    assert [projection.filters for projection in layer.projections] == [3, 3, 3]
    assert layer.compute_output_shape((2, 7, 8, 10)) == (2, 7, 8, 19)


def test_only_the_map_of_size_1_may_go_without_its_norm():
    layer = PyramidPooling(sizes=(1, 2), filters=2, normalize_global=False)
    layer.build((None, None, None, 3))
    assert [weight.path.partition("/")[2] for weight in layer.weights if "moving" not in weight.path] == [
        "branch0/conv/kernel",
        "branch0/conv/bias",
        "branch1/conv/kernel",
        "branch1/bn/gamma",
        "branch1/bn/beta",
    ]


@pytest.mark.backends
def test_aspp_is_the_projection_of_its_branches():
    """With batch norm at its start, which divides by sqrt(1 + 1e-5), and every step written out."""
    x = numbers(2, 7, 9, 3)
    layer = ASPP(filters=4, rates=(1, 2))
    layer.build(x.shape)
    point, near, far, image, project = (
        keras.ops.convert_to_numpy(weight) for weight in layer.weights if weight.path.endswith("kernel")
    )

    def unit(y):
        return np.maximum(y, 0) / np.sqrt(1 + 1e-5)

    def dilated(kernel, rate):
        padded = np.pad(x, [(0, 0), (rate, rate), (rate, rate), (0, 0)])
        steps = [(i, j) for i in range(3) for j in range(3)]
        return sum(padded[:, i * rate :, j * rate :][:, :7, :9] @ kernel[i, j] for i, j in steps)

    mean = np.broadcast_to(unit(x.mean((1, 2), keepdims=True) @ image[0, 0]), (2, 7, 9, 4))
    branches = [unit(x @ point[0, 0]), unit(dilated(near, 1)), unit(dilated(far, 2)), mean]
    expected = unit(np.concatenate(branches, -1) @ project[0, 0])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


class TestHarness(TestCase):
    """Keras's own checks of a layer: configuration, symbolic and eager calls, a training step, mixed precision."""

    def check(self, layer, channels, *, trainable=0, moving=0, seeds=0, shape=None, **options):
        self.run_layer_test(
            layer,
            init_kwargs=options,
            input_shape=(2, 5, 4, 8),
            expected_output_shape=(2, *(shape or (5, 4)), channels),
            expected_num_trainable_weights=trainable,
            expected_num_non_trainable_weights=moving,
            expected_num_seed_generators=seeds,
            expected_num_losses=0,
            supports_masking=False,
            run_training_check=trainable > 0,
        )

    def test_adaptive_average_pool(self):
        self.check(AdaptiveAveragePool, 8, shape=(3, 2), size=(3, 2))

    def test_pyramid_pooling(self):
        self.check(PyramidPooling, 14, trainable=6, moving=4, sizes=(1, 3), filters=3)
        self.check(PyramidPooling, 16, trainable=4, sizes=(1, 3), norm=None, align_corners=True)

    def test_aspp(self):
        self.check(ASPP, 3, trainable=12, moving=8, seeds=1, filters=3, rates=(2,), dropout=0.2)
        self.check(ASPP, 3, trainable=13, moving=8, seeds=1, filters=3, rates=(2,), separable=True)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (AdaptiveAveragePool, {"size": (2, 3)}),
        (PyramidPooling, {"sizes": (2,), "filters": 3, "inputs_first": False, "norm": None, "align_corners": True}),
        (PyramidPooling, {"normalize_global": False}),
        (ASPP, {"filters": 3, "rates": (5,), "separable": True, "dropout": 0.3}),
    ],
)
def test_configuration_keeps_every_argument(layer, options):
    arguments = set(inspect.signature(layer).parameters) - {"kwargs"}
    rebuilt = layer.from_config(json.loads(json.dumps(layer(**options).get_config()))).get_config()
    assert arguments <= set(rebuilt)
    assert {name: rebuilt[name] for name in options} == options


@on_one_backend
@pytest.mark.parametrize(
    "layer",
    [AdaptiveAveragePool(3), PyramidPooling(sizes=(1, 3)), ASPP(filters=6, rates=(2, 5), separable=True)],
    ids=lambda layer: layer.name,
)
def test_every_precision_on_run_time_sizes(layer):
    """XLA, sizes that are known only when the model runs, and sums over the map that float16 cannot hold."""
    image = keras.Input((None, None, 8))
    x = numbers(2, 40, 33, 8)
    weights, expected = None, None
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        made = type(layer).from_config({**layer.get_config(), "dtype": policy, "name": f"{layer.name}_{policy}"})
        model = keras.Model(image, made(image))
        weights = model.get_weights() if weights is None else weights
        model.set_weights(weights)
        model.compile("sgd", "mse", jit_compile=keras.backend.backend() != "torch")
        large = model.predict_on_batch(np.full((1, 40, 33, 8), 1000, "float32"))  # sums to 1.3 million
        assert np.isfinite(large.astype("float32")).all(), policy
        output = model.predict_on_batch(x).astype("float32")
        assert model.output.dtype == policy.removeprefix("mixed_")
        expected = output if expected is None else expected
        np.testing.assert_allclose(output, expected, atol=0.05)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (
            AdaptiveAveragePool,
            {"size": 0},
            "`size` must be a whole number of at least 1, or a pair of them, received 0",
        ),
        (AdaptiveAveragePool, {"size": (2, 3, 4)}, r"`size` must .* received \(2, 3, 4\)"),
        (PyramidPooling, {"sizes": ()}, r"`sizes` must be numbers of at least 1, at least one of them, received \(\)"),
        (PyramidPooling, {"filters": 0}, "`filters` must be at least 1, or None, received 0"),
        (PyramidPooling, {"norm": "layer"}, "`norm` must be one of .* received 'layer'"),
        (ASPP, {"filters": 0}, "`filters` must be at least 1, received 0"),
        (ASPP, {"rates": (6, 0)}, r"`rates` must be numbers of at least 1, .* received \(6, 0\)"),
        (ASPP, {"dropout": 1.0}, r"`dropout` must be in \[0, 1\), received 1.0"),
    ],
)
def test_wrong_arguments_are_named(layer, options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)
