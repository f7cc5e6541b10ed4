"""Explanations: gradients, Grad-CAM and Grad-CAM++ against hand computation, inputs that excite a unit, filters."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.backend import SLOW_ON_JAX, value_and_gradient

import kerazoo as kz
from kerazoo.explain import activation_maximization, first_filters, grad_cam
from kerazoo.explain.gradients import Gradient, intercepted
from kerazoo.explain.layer_paths import walk
from kerazoo.weak import cam_beta

pytestmark = pytest.mark.backends
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(4, 6, 2)).astype("float32")
MAPS = RNG.normal(size=(2, 3)).astype("float32")  # kernel of the maps
LOGITS = RNG.normal(size=(3, 2)).astype("float32")  # kernel of the logits
ENCODER = kz.encoders.ResNet(
    block=kz.encoders.resnet.basic_block, depths=(1, 1), widths=(8, 8), expansion=1, stem_width=8
)


def linear(pool=True):
    """Two channels to three maps to two logits, of the image or of each pixel."""
    image = keras.Input((None, None, 2))
    x = layers.Conv2D(3, 1, use_bias=False, name="maps")(image)
    x = layers.GlobalAveragePooling2D()(x) if pool else x
    logits = layers.Dense(2, use_bias=False, name="logits")(x)
    model = keras.Model(image, logits, name="linear")
    model.set_weights([MAPS[None, None], LOGITS])
    return model


@pytest.fixture(scope="module")
def segmenter():
    keras.utils.set_random_seed(2)
    model = kz.segmenter(ENCODER, kz.decoders.UNet(widths=(8, 8, 8)), "linear", num_classes=3, label_head=True)
    head = model.get_layer("label_head")
    head.set_weights([np.abs(weight) for weight in head.get_weights()])  # a map that is not 0
    return model


def test_gradients_are_those_of_the_backend():
    def function(x):
        return ops.sum(ops.sin(x) * ops.exp(ops.flip(x, axis=1)))

    gradient = Gradient(function, (1, 4, 6, 2))
    for scale in (1.0, 100.0):  # large points, and the same object again
        point = scale * IMAGE[None] / 50
        np.testing.assert_allclose(gradient(point), value_and_gradient(function, point)[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(Gradient(lambda x: ops.sum(x) * 0, (1, 2))(np.ones((1, 2), "float32")), 0)


def test_grad_cam_of_a_label_is_the_class_activation_map():
    """Pooled by the mean, s = mean(A) w: the gradient is w / (h w), and the map relu(Σ_k w_k A_k) / (h w)."""
    maps = IMAGE @ MAPS
    for target in (0, 1):
        expected = np.maximum(maps @ LOGITS[:, target], 0) / 24
        received = grad_cam(linear(), IMAGE, layer="maps", target=target, normalize=False)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
        scaled = grad_cam(linear(), IMAGE, layer="maps", target=target)
        np.testing.assert_allclose(scaled, expected / expected.max(), rtol=1e-4, atol=1e-6)
    likeliest = grad_cam(linear(), IMAGE, layer="maps")
    np.testing.assert_array_equal(likeliest, scaled, "index 0 is the background's")


@pytest.mark.parametrize("region", [(1, 2, 3, 5), np.pad(np.ones((2, 3), bool), ((1, 1), (2, 1)))], ids=["box", "mask"])
def test_grad_cam_of_a_region(region):
    """s = Σ_k w_k mean of A_k over 6 of 24 pixels: g = w / 6 there and 0 elsewhere, so that its mean is w / 24."""
    expected = np.maximum(IMAGE @ MAPS @ LOGITS[:, 1], 0) / 24
    model = linear(pool=False)
    for options in ({"region": region}, {}):
        received = grad_cam(model, IMAGE, layer="maps", target=1, normalize=False, **options)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_plus_plus_by_loops():
    maps, gradient = IMAGE @ MAPS, np.zeros((4, 6, 3))
    gradient[1:3, 2:5] = LOGITS[:, 1] / 6
    expected = np.zeros((4, 6))
    for k in range(3):
        weight = 0.0
        for i, j in np.ndindex(4, 6):
            g = gradient[i, j, k]
            if g:
                weight += g**2 / (2 * g**2 + g**3 * maps[..., k].sum()) * max(g, 0)
        expected += weight * maps[..., k]
    model = linear(pool=False)
    received = grad_cam(model, IMAGE, layer="maps", target=1, region=(1, 2, 3, 5), plus_plus=True, normalize=False)
    np.testing.assert_allclose(received, np.maximum(expected, 0), rtol=1e-3, atol=1e-6)


def test_sub_models_and_several_outputs(segmenter):
    """The label head is linear in the coarsest level of the encoder, which covers the padded image."""
    images = RNG.uniform(0, 255, (2, 20, 29, 3)).astype("float32")
    (kernel, _) = (ops.convert_to_numpy(weight) for weight in segmenter.get_layer("label_head").weights)
    normalized = (images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    padded = np.pad(normalized.astype("float32"), ((0, 0), (0, 12), (0, 3), (0, 0)))
    level = ops.convert_to_numpy(segmenter.get_layer("encoder")(padded, training=False)[-1])
    assert level.shape == (2, 4, 4, 8)
    coarse = np.maximum(level @ kernel[:, 2:], 0) / 16
    fine = ops.convert_to_numpy(kz.layers.Resize(size=(32, 32))(coarse))[:, :20, :29, 0]
    assert fine.max() > 0
    received = grad_cam(segmenter, images, target=2, normalize=False)
    np.testing.assert_allclose(received, fine, rtol=1e-4, atol=1e-6)
    named = next(path for path, _ in reversed(list(walk(segmenter))) if path.startswith("encoder/"))
    for layer in (named, named.partition("/")[2]):
        np.testing.assert_allclose(grad_cam(segmenter, images, target=2, layer=layer, normalize=False), fine, rtol=1e-4)
    both = [grad_cam(segmenter, one, target=2, normalize=False) for one in images]
    np.testing.assert_allclose(received, both, rtol=1e-4, atol=1e-6)


def test_a_weak_model_is_explained_by_its_labels_and_its_maps(segmenter):
    weak = cam_beta(segmenter, pooling="gap")
    image = RNG.uniform(0, 255, (16, 24, 3)).astype("float32")
    label, pixels = (grad_cam(weak, image, target=1, **options) for options in ({}, {"region": (0, 0, 16, 24)}))
    np.testing.assert_allclose(label, pixels, rtol=1e-3, atol=1e-5, err_msg="the label is the mean of the map")


def test_nothing_is_changed(segmenter):
    weights, image = segmenter.get_weights(), RNG.uniform(0, 255, (16, 16, 3)).astype("float32")
    before = segmenter.predict_on_batch(image[None])
    grad_cam(segmenter, image)
    activation_maximization(segmenter, layer="decoder", channel=0, image_size=(16, 16), steps=2)
    for weight, now in zip(weights, segmenter.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, now)
    for key, after in segmenter.predict_on_batch(image[None]).items():
        np.testing.assert_allclose(after, before[key], rtol=1e-5, atol=1e-5)
    layer = segmenter.get_layer("encoder")
    with pytest.raises(KeyError), intercepted(layer, lambda output: {}["raised while it is open"]):
        segmenter(image[None])
    assert "call" not in vars(layer)


def test_a_linear_unit_is_excited_by_the_sign_of_its_weights():
    options = {"layer": "maps", "channel": 1, "image_size": (5, 7), "decay": 0, "blur": 0, "rate": 5.0}
    x = activation_maximization(linear(), **options)
    np.testing.assert_allclose(x, np.broadcast_to(np.where(MAPS[:, 1] > 0, 255, 0), (5, 7, 2)))
    assert x.dtype == np.float32
    x = activation_maximization(linear(), position=(1, 2), value_range=(-1, 1), **options)
    np.testing.assert_allclose(x[1, 2], np.sign(MAPS[:, 1]))
    elsewhere = np.ones((5, 7), bool)
    elsewhere[1, 2] = False
    assert np.abs(x[elsewhere]).max() < 0.5, "only noise where the unit does not look"


def test_decay_and_blur_leave_a_smoother_input(segmenter):
    options = {"layer": "encoder", "channel": 0, "image_size": (32, 32), "steps": 5}
    rough = activation_maximization(segmenter, decay=0, blur=0, **options)
    smooth = activation_maximization(segmenter, blur=2.0, **options)
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, axis=0)).mean()
    np.testing.assert_array_equal(smooth, activation_maximization(segmenter, blur=2.0, **options))


def test_first_filters_are_those_of_the_first_convolution(segmenter):
    filters = first_filters(segmenter)
    kernel = ops.convert_to_numpy(segmenter.get_layer("encoder").get_layer("conv1").kernel)
    assert filters.shape == (8, 7, 7, 3)
    for i in range(8):
        np.testing.assert_allclose(filters[i], 0.5 + kernel[..., i] / (2 * np.abs(kernel[..., i]).max()), rtol=1e-5)
    np.testing.assert_array_equal(first_filters(segmenter, layer="conv1"), filters)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: grad_cam(m, IMAGE, layer="map"), "no layer 'map' in what 'scorer' gives. Did you mean 'maps'"),
        (lambda m: grad_cam(m, IMAGE), "no layer 'encoder'"),
        (lambda m: grad_cam(m, IMAGE, layer="logits"), r"maps have the shape \(B, h, w, K\)"),
        (lambda m: grad_cam(m, IMAGE, layer="maps", target=2), "0 to 1; received 2"),
        (lambda m: grad_cam(m, IMAGE, layer="maps", region=(0, 0, 2, 2)), "must be a segmenter"),
        (lambda m: grad_cam(m, np.zeros((0, 4)), layer="maps"), "`image` must be"),
        (lambda m: first_filters(m, layer="logits"), "must name a Conv2D"),
        (lambda m: activation_maximization(m, layer="maps", channel=3), "`channel` must be 0 to 2"),
        (lambda m: activation_maximization(m, layer="maps", channel=0, position=(0, 200)), "`position` is"),
        (lambda m: activation_maximization(m, layer="maps", channel=0, steps=0), "`steps` of at least 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(linear())


def test_what_the_score_does_not_depend_on_is_refused():
    image = keras.Input((4, 6, 2))
    maps = layers.Conv2D(3, 1, name="maps")(image)
    pooled = layers.GlobalAveragePooling2D()(maps * 0)
    with pytest.raises(ValueError, match="its gradient is 0 everywhere"):
        grad_cam(keras.Model(image, layers.Dense(2)(pooled)), IMAGE, layer="maps")


@pytest.mark.parametrize("decoder", [pytest.param("segnet", marks=SLOW_ON_JAX)])
def test_the_coarsest_level_counts_and_not_where_maxima_were(decoder):
    """SegNet has its encoder give integers after its levels; a gradient by those would be 0, which is refused."""
    encoder = kz.encoders.VGG(depths=(1, 1, 1, 1, 1), widths=(8, 8, 8, 8, 8))
    model = kz.segmenter(encoder, decoder, "linear", num_classes=2)
    kinds = [keras.backend.standardize_dtype(output.dtype) for output in model.get_layer("encoder").outputs]
    assert "int" in kinds[-1]
    image = RNG.uniform(0, 255, (32, 32, 3)).astype("float32")
    assert grad_cam(model, image, region=(0, 0, 16, 16)).shape == (32, 32)


@pytest.mark.parametrize("region", [(0, 0, 9, 2), (2, 2, 2, 4), np.zeros((4, 6)), np.ones((3, 3))])
def test_regions_outside_are_refused(region):
    with pytest.raises(ValueError, match="`region`"):
        grad_cam(linear(pool=False), IMAGE, layer="maps", region=region)


def test_a_unit_that_does_not_respond_is_refused():
    image = keras.Input((8, 8, 1))
    dead = layers.Conv2D(1, 1, kernel_initializer="zeros", name="dead")(image)
    with pytest.raises(ValueError, match="does not respond to the noise of seed=0"):
        activation_maximization(keras.Model(image, dead), layer="dead", channel=0)
