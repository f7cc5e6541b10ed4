"""Gaussian smoothing against SciPy, its borders and its even kernels, and the head that smooths."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.testing import TestCase
from scipy import ndimage

import kerazoo as kz
from kerazoo.layers import GaussianSmooth
from kerazoo.types import Level

pytestmark = pytest.mark.backends
MAPS = np.random.default_rng(0).normal(size=(2, 21, 17, 3)).astype("float32")


def smooth(maps, **options):
    return ops.convert_to_numpy(GaussianSmooth(**options)(maps))


def scipy_smooth(maps, sigma, size):
    return ndimage.gaussian_filter(
        maps, (0, sigma, sigma, 0), mode="constant", radius=(0, int(size) // 2, int(size) // 2, 0)
    )


@pytest.mark.parametrize(("sigma", "size"), [(1.5, np.int64(7)), (7.0, 49), (0.8, 1)])
def test_odd_kernels_are_those_of_scipy(sigma, size):
    expected = scipy_smooth(MAPS, sigma, size)
    np.testing.assert_allclose(smooth(MAPS, sigma=sigma, size=size, border="zeros"), expected, atol=1e-5)
    inside = scipy_smooth(np.ones_like(MAPS), sigma, size)
    np.testing.assert_allclose(smooth(MAPS, sigma=sigma, size=size), expected / inside, atol=1e-5)


def test_an_even_kernel_moves_maps_half_a_pixel_to_the_upper_left():
    point = np.zeros((1, 41, 41, 1), "float32")
    point[0, 20, 20] = 1

    def center(maps):
        weights = maps[0, ..., 0] / maps.sum()
        return [float((weights * axis).sum()) for axis in np.indices((41, 41))]

    np.testing.assert_allclose(center(smooth(point, sigma=2.0, size=21, border="zeros")), [20, 20], atol=1e-4)
    np.testing.assert_allclose(center(smooth(point, sigma=2.0, size=20, border="zeros")), [19.5, 19.5], atol=1e-4)


def test_a_constant_stays_constant_and_the_default_kernel_is_wide_enough():
    layer = GaussianSmooth(sigma=2.0)
    assert layer.size == 13
    np.testing.assert_allclose(ops.convert_to_numpy(layer(np.full((1, 5, 40, 2), -3.0, "float32"))), -3, rtol=1e-5)
    assert smooth(np.ones((1, 9, 9, 1), "float32"), sigma=2.0, border="zeros")[0, 0, 0, 0] < 0.5


def test_train_only():
    layer = GaussianSmooth(sigma=2.0, train_only=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(MAPS, training=False)), MAPS)
    expected = smooth(MAPS, sigma=2.0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(MAPS, training=True)), expected, atol=1e-6)


def test_unknown_sizes():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, GaussianSmooth(sigma=1.0)(inputs))
    np.testing.assert_allclose(model.predict_on_batch(MAPS), smooth(MAPS, sigma=1.0), atol=1e-6)


def test_the_harness_of_keras():
    TestCase().run_layer_test(
        GaussianSmooth,
        init_kwargs={"sigma": 1.2, "size": 4, "border": "zeros"},
        input_shape=(2, 6, 5, 2),
        expected_output_shape=(2, 6, 5, 2),
        expected_num_trainable_weights=0,
        run_training_check=False,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0}, "`sigma` is in pixels and must be above 0, received 0"),
        ({"size": 0}, "`size` must be a whole number of at least 1, received 0"),
        ({"size": 2.5}, "`size` must be a whole number of at least 1, received 2.5"),
        ({"size": 7.0}, "`size` must be a whole number of at least 1, received 7.0: write 7"),
        ({"border": "reflect"}, "`border` must be one of"),
    ],
)
def test_refusals(options, message):
    for make in (GaussianSmooth, kz.heads.Smooth):
        with pytest.raises(ValueError, match=message):
            make(**options)


def test_the_head_smooths_the_logits_at_the_size_of_the_image():
    x = keras.Input((None, None, 4))
    logits = kz.heads.Smooth(sigma=1.5)((Level(2, x),), num_classes=2)
    assert logits.stride == 1
    model = keras.Model(x, logits.tensor)
    plain = keras.Model(x, model.get_layer("h_up").output)
    maps = np.random.default_rng(0).normal(size=(1, 8, 9, 4)).astype("float32")
    expected = smooth(plain.predict_on_batch(maps), sigma=1.5)
    assert expected.shape == (1, 16, 18, 2)
    np.testing.assert_allclose(model.predict_on_batch(maps), expected, atol=1e-5)


def test_the_patch_decoder_is_the_embedding_backwards():
    encoder = kz.encoders.ConvMixer(width=6, blocks=1, kernel_size=3)
    model = kz.segmenter(encoder, kz.decoders.Patch(width=5), "linear", num_classes=2)
    learnt = model.get_layer("decoder").get_layer("d1_patch_conv")
    assert (learnt.kernel_size, learnt.strides, learnt.filters) == ((7, 7), (7, 7), 5)
    assert model.predict_on_batch(np.zeros((1, 15, 22, 3), "float32")).shape == (1, 15, 22, 2)
    bilinear = kz.segmenter(encoder, kz.decoders.Patch(upsampling="bilinear"), "linear", num_classes=2)
    assert bilinear.get_layer("decoder").count_params() == 0
    assert bilinear.predict_on_batch(np.zeros((1, 15, 22, 3), "float32")).shape == (1, 15, 22, 2)


def test_conv_mixer_seg_is_one_line():
    model = kz.segmenter("convmixer_256_20", "patch", "smooth", num_classes=2)
    embedding, block = 7 * 7 * 3 * 256 + 256, (9 * 9 * 256 + 256) + (256 * 256 + 256)
    norms = 2 * 256
    decoder, classes = 7 * 7 * 256 * 100 + 100 + 2 * 100, 100 * 2 + 2
    expected = embedding + norms + 20 * (block + 2 * norms) + decoder + classes
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == expected
