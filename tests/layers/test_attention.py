"""Attention layers: against the formulas of their papers in NumPy, under Keras's own harness, and compiled."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase
from support.tiers import on_one_backend

from kerazoo.layers import CBAM, ECA, SCSE, SqueezeExcite
from kerazoo.layers.blocks import ATTENTIONS, attend
from kerazoo.layers.eca import eca_kernel_size

pytestmark = pytest.mark.backends
LAYERS = {
    "se": (SqueezeExcite, {"reduction": 4, "min_channels": 2}, 4),
    "eca": (ECA, {"kernel_size": 5}, 1),
    "cbam": (CBAM, {"reduction": 4, "kernel_size": 5, "min_channels": 2}, 3),
    "scse": (SCSE, {"reduction": 4, "min_channels": 2}, 6),
}
"""Layer, arguments that are not the defaults, number of its weights."""


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def channel_gate(x, squeeze, squeeze_bias, excite, excite_bias):
    return sigmoid(relu(x.mean((0, 1)) @ squeeze + squeeze_bias) @ excite + excite_bias)


def reference_se(x, *weights):
    return x * channel_gate(x, *weights)


def reference_eca(x, kernel):
    """`kernel` `(k, 1, 1)`: channel c sees the means of the channels c - k//2 … c + k//2, zero beyond the ends."""
    reach = len(kernel) // 2
    means = np.pad(x.mean((0, 1)), reach)
    mixed = [means[c : c + len(kernel)] @ kernel[:, 0, 0] for c in range(x.shape[-1])]
    return x * sigmoid(np.array(mixed))


def reference_cbam(x, squeeze, excite, spatial):
    """`spatial` `(k, k, 2, 1)`, written as the sum over its taps."""
    y = x * sigmoid(relu(x.mean((0, 1)) @ squeeze) @ excite + relu(x.max((0, 1)) @ squeeze) @ excite)
    height, width, size = *x.shape[:2], len(spatial)
    pooled = np.pad(np.stack([y.mean(-1), y.max(-1)], -1), [(size // 2, size // 2)] * 2 + [(0, 0)])
    mixed = np.zeros((height, width))
    for i in range(size):
        for j in range(size):
            mixed += pooled[i : i + height, j : j + width] @ spatial[i, j, :, 0]
    return y * sigmoid(mixed)[..., None]


def reference_scse(x, *weights):
    """The sum of both gated maps, as smp's SCSEModule."""
    *channel, spatial, spatial_bias = weights
    return x * channel_gate(x, *channel) + x * sigmoid(x @ spatial[0, 0] + spatial_bias)


REFERENCES = {"se": reference_se, "eca": reference_eca, "cbam": reference_cbam, "scse": reference_scse}


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_every_attention_is_tested():
    assert set(ATTENTIONS) == set(LAYERS) == set(REFERENCES)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_computes_what_its_paper_says(name):
    make, options, _ = LAYERS[name]
    layer, x = make(**options), numbers(3, 6, 7, 12)
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=weight.shape) for weight in layer.weights]  # no zero bias hides a missing term
    layer.set_weights(weights)
    expected = np.stack([REFERENCES[name](image.astype("float64"), *weights) for image in x])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


class TestHarness(TestCase):
    """Keras's own checks of a layer: configuration, symbolic and eager calls, a training step, mixed precision."""

    def test_layers(self):
        for name, (make, options, weights) in LAYERS.items():
            with self.subTest(name):
                self.run_layer_test(
                    make,
                    init_kwargs=options,
                    input_shape=(2, 5, 4, 8),
                    expected_output_shape=(2, 5, 4, 8),
                    expected_num_trainable_weights=weights,
                    expected_num_non_trainable_weights=0,
                    expected_num_seed_generators=0,
                    expected_num_losses=0,
                    supports_masking=False,
                )


@on_one_backend
@pytest.mark.parametrize("name", LAYERS)
def test_any_size_compiles_in_every_precision(name):
    """XLA, sizes that are known only when the model runs, and a mean that float16 could not add up."""
    image = keras.Input((None, None, 8))
    x = numbers(2, 40, 33, 8)
    weights, expected = None, None
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        model = keras.Model(image, attend(image, name, name=f"h_{policy}"))
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile("sgd", "mse", jit_compile=keras.backend.backend() != "torch")
        large = model.predict_on_batch(np.full((1, 40, 33, 8), 1000, "float32"))  # sums to 1.3 million
        assert np.isfinite(large.astype("float32")).all(), policy
        output = model.predict_on_batch(x).astype("float32")
        assert model.output.dtype == policy.removeprefix("mixed_")
        expected = output if expected is None else expected
        np.testing.assert_allclose(output, expected, atol=0.05)


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 3), (8, 3), (16, 3), (64, 3), (128, 5), (256, 5), (1024, 5), (2048, 7)]
)
def test_kernel_of_eca_grows_with_the_logarithm_of_the_channels(channels, size):
    """gamma 2, b 1: log2(64) = 6, (6 + 1) / 2 = 3.5, whole part 3; log2(256) = 8 gives 4, and the next odd number."""
    assert eca_kernel_size(channels) == size
    layer = ECA()
    layer.build((None, 4, 4, channels))
    assert layer.count_params() == size


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (ECA, {"kernel_size": 4}, "`kernel_size` must be odd and positive, or None; received 4"),
        (CBAM, {"kernel_size": 6}, "`kernel_size` must be odd and positive, received 6"),
        (CBAM, {"reduction": 0}, "`reduction` and `min_channels` must be at least 1, received 0 and 4"),
        (SCSE, {"min_channels": 0}, "`min_channels`.* must be at least 1, received 16.* 0"),
    ],
)
def test_wrong_arguments_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_unknown_attention_is_named():
    with pytest.raises(ValueError, match=r"`attention` must be None or one of \('se', 'eca', 'cbam', 'scse'\), rec"):
        attend(keras.Input((4, 4, 8)), "sc", name="h")
