"""ResNet, SE-ResNet and ConvMixer: timm's features and logits, channels, dilation, sizes, refusals."""

import dataclasses

import keras
import numpy as np
import pytest
from support.encoders import build_encoder
from support.golden_rule import fill, image
from support.source_tree import REPOSITORY
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo._checks.models import as_list
from kerazoo.encoders.resnet import basic_block
from kerazoo.layers import SqueezeExcite

GOLDEN = REPOSITORY / "tests" / "golden"
CLASSES = 1000
TIMM = {  # golden file: encoder, output stride, size of the image, name of timm's classifier
    "resnet18": ("resnet18", 32, (64, 64), "fc"),
    "resnet50": ("resnet50", 32, (64, 96), "fc"),
    "seresnet18": ("seresnet18", 32, (45, 67), "fc"),
    "seresnet18_dilated": ("seresnet18", 16, (45, 67), "fc"),
    "seresnet50": ("seresnet50", 32, (64, 64), "fc"),
    "convmixer_768_32": ("convmixer_768_32", 32, (70, 70), "head"),
}
PARAMETERS = {  # of timm 1.0.31, `sum(p.numel() for p in create_model(name, num_classes=0).parameters())`
    "resnet18": 11_176_512,
    "resnet26": 13_946_176,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "seresnet18": 11_266_624,
    "seresnet34": 21_447_416,
    "seresnet50": 26_039_024,
    "seresnet101": 47_277_872,
    "seresnet152": 64_772_848,
    "convmixer_768_32": 20_341_248,
    "convmixer_1024_20_ks9_p14": 23_358_464,
    "convmixer_1536_20": 50_088_960,
}
RESNET = kz.encoders.ResNet(
    block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8, squeeze_excite=True
)
MIXER = kz.encoders.ConvMixer(width=8, blocks=2, kernel_size=3)
TINY = pytest.mark.parametrize("part", [RESNET, MIXER], ids=["resnet", "convmixer"])


def run(model, x):
    return [keras.ops.convert_to_numpy(level) for level in as_list(model(x, training=False))]


def relative_error(ours, reference):
    return np.abs(ours - reference).max() / np.abs(reference).max()


# timm -----------------------------------------------------------------------------------------------------------------


@on_one_backend
@pytest.mark.parametrize(
    "golden", [pytest.param(name, marks=pytest.mark.backends if "18" in name else ()) for name in TIMM]
)
def test_features_and_logits_are_those_of_timm(golden, checkpoint):
    """From a checkpoint. See golden/make_encoders.py for what the files hold."""
    name, output_stride, size, classifier = TIMM[golden]
    path = checkpoint(kz.encoders.ENCODERS[name])
    model = kz.encoders.create(name, weights=path, output_stride=output_stride)
    levels = as_list(model.predict_on_batch(image(1, (1, *size, 3))))
    kernel, bias = (
        fill(f"{classifier}.weight", (CLASSES, levels[-1].shape[-1])),
        fill(f"{classifier}.bias", (CLASSES,)),
    )
    ours = {f"level{i}": level for i, level in enumerate(levels)}
    ours["logits"] = levels[-1].mean(axis=(1, 2)) @ kernel.T + bias
    with np.load(GOLDEN / f"encoder_{golden}.npz") as reference:
        assert set(reference.files) == set(ours)
        for key, expected in reference.items():
            corner = ours[key][tuple(slice(n) for n in expected.shape)]
            assert relative_error(corner, expected) < 1e-4, key


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_timm_has(name):
    model = kz.encoders.create(name, image_shape=(32, 32, 3))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == PARAMETERS[name]


def test_every_native_encoder_is_counted():
    """All that take files of PyTorch, but those that timm does not have."""
    native = {name for name, part in kz.encoders.ENCODERS.items() if isinstance(part, (type(RESNET), type(MIXER)))}
    assert native - {"convmixer_256_20"} == PARAMETERS.keys()


@pytest.mark.parametrize(("channels", "squeezed"), [(64, 8), (72, 8), (200, 16), (256, 16), (2048, 128)])
def test_bottlenecks_are_as_wide_as_those_of_timm(channels, squeezed):
    layer = SqueezeExcite(reduction=16, divisor=8)
    layer.build((None, None, None, channels))
    assert layer.squeeze.units == squeezed


# Channels -------------------------------------------------------------------------------------------------------------


@TINY
def test_pretrained_stems_fit_gray_and_four_channels(part, checkpoint):
    """A gray image gives what it gives in three colors; four channels read red twice, rescaled."""
    path = checkpoint(part)
    colors, gray, four = (build_encoder(part, image_shape=(32, 42, n), weights=path)[0] for n in (3, 1, 4))
    x = image(2, (1, 32, 42, 1))
    for a, b in zip(run(gray, x), run(colors, np.repeat(x, 3, axis=-1)), strict=True):
        assert relative_error(a, b) < 1e-5
    stem = "stem_conv" if part is MIXER else "conv1"
    kernel, adapted = (keras.ops.convert_to_numpy(model.get_layer(stem).kernel) for model in (colors, four))
    np.testing.assert_allclose(adapted, kernel[:, :, [0, 1, 2, 0]] * 0.75, rtol=1e-6)
    for layer, other in zip(colors.layers, four.layers, strict=True):
        if layer.weights and layer.name != stem:
            for a, b in zip(layer.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


# Dilation -------------------------------------------------------------------------------------------------------------


@on_one_backend
@pytest.mark.backends
@pytest.mark.parametrize(
    ("name", "output_stride"),
    [("resnet18", 16), ("resnet18", 8), pytest.param("resnet50", 8, marks=pytest.mark.slow)],
)
def test_dilation_computes_the_same_features_more_densely(name, output_stride):
    strided = kz.encoders.create(name)
    dilated = kz.encoders.create(name, output_stride=output_stride)
    dilated.set_weights(strided.get_weights())
    assert kz.encoders.strides(dilated) == [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    x = image(3, (1, 256, 256, 3))
    coarse, fine = strided.predict_on_batch(x)[-1], dilated.predict_on_batch(x)[-1]
    step = 32 // output_stride
    inner = slice(3, 5)  # rows whose receptive field does not reach the borders' zeros differ nowhere
    difference = np.abs(fine[:, ::step, ::step][:, inner, inner] - coarse[:, inner, inner]).max()
    assert difference < 1e-3 * np.abs(coarse).max()


@pytest.mark.parametrize(("dilate_first", "rates"), [(False, [1, 2, 2, 4]), (True, [2, 2, 4, 4])])
def test_first_convolutions_of_a_dilated_stage(dilate_first, rates):
    part = dataclasses.replace(RESNET, dilate_first=dilate_first)
    model, _ = build_encoder(part, image_shape=(32, 32, 3), output_stride=8)
    names = ["layer3_0_conv1", "layer3_0_conv2", "layer4_0_conv1", "layer4_0_conv2"]
    assert [model.get_layer(name).dilation_rate[0] for name in names] == rates


def test_output_strides_that_cannot_be():
    with pytest.raises(ValueError, match=r"A ResNet's `output_stride` is one of \(32, 16, 8\), received 4\."):
        build_encoder(RESNET, image_shape=(32, 32, 3), output_stride=4)
    with pytest.raises(ValueError, match=r"patches of 7 pixels .* `output_stride` is at least 7, received 4\."):
        build_encoder(MIXER, image_shape=(32, 32, 3), output_stride=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1, 1)}, r"ResNet needs one depth per width, received \(1, 1, 1\) and \(8, 8, 12, 16\)"),
        ({"depths": (1, 0, 1, 1)}, "ResNet's `depths` must be a whole number of at least 1, received 0"),
        ({"widths": 64}, "ResNet's `widths` must be a tuple of whole numbers"),
    ],
)
def test_resnet_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RESNET, **arguments)


# ConvMixer ------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_patches_that_the_image_does_not_fill_are_padded_with_zeros():
    model, declared = build_encoder(MIXER, image_shape=(None, None, 3), output_stride=16)
    assert declared == (7,)
    x = image(3, (1, 15, 21, 3))
    (level,) = run(model, x)
    assert level.shape == (1, 3, 3, 8)
    (padded,) = run(model, np.pad(x, ((0, 0), (0, 6), (0, 0), (0, 0))))
    np.testing.assert_allclose(level, padded, rtol=1e-5, atol=1e-6)


@pytest.mark.backends
def test_pointwise_residual_adds_the_input_of_the_pointwise_half():
    """Checked where that half gives a constant, its bias: the depthwise half stays, or is lost."""
    x = image(4, (1, 14, 14, 3))
    levels = {}
    for residual in (False, True):
        keras.utils.set_random_seed(0)
        part = dataclasses.replace(MIXER, blocks=1, pointwise_residual=residual)
        model, _ = build_encoder(part, image_shape=(14, 14, 3))
        model.get_layer("blocks_0_channel_bn").gamma.assign(np.zeros(8))
        model.get_layer("blocks_0_channel_bn").beta.assign(np.full(8, 0.25))
        inner = keras.Model(model.input, model.get_layer("blocks_0_spatial_add").output)
        levels[residual] = run(model, x)[0], run(inner, x)[0]
    np.testing.assert_allclose(levels[False][0], np.full((1, 2, 2, 8), 0.25))
    np.testing.assert_allclose(levels[True][0], levels[True][1] + 0.25, rtol=1e-6)


def test_convmixer_256_20_has_both_residuals():
    part = kz.encoders.ENCODERS["convmixer_256_20"]
    assert (part.width, part.blocks, part.kernel_size, part.patch_size, part.pointwise_residual) == (
        256,
        20,
        9,
        7,
        True,
    )


def test_a_convmixer_is_an_encoder_of_a_segmenter():
    model = kz.segmenter(MIXER, kz.decoders.FPN(width=8), "linear", num_classes=2)
    x = image(5, (2, 30, 45, 3))
    assert model.predict_on_batch(255 * x).shape == (2, 30, 45, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "ConvMixer's `width` must be a whole number of at least 1, received 0"),
        ({"blocks": 1.5}, "ConvMixer's `blocks` must be a whole number"),
        ({"kernel_size": 8}, "ConvMixer's `kernel_size` must be odd, received 8"),
        ({"patch_size": 0}, "ConvMixer's `patch_size` must be"),
        ({"activation": "swish"}, r"ConvMixer's `activation` must be one of \('gelu', 'relu'\), received 'swish'"),
    ],
)
def test_convmixer_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        kz.encoders.ConvMixer(**{"width": 8, "blocks": 1, **arguments})


def test_a_convmixer_has_one_level():
    with pytest.raises(ValueError, match=r"A ConvMixer has one level, received depth=2\. Leave it out\."):
        build_encoder(MIXER, image_shape=(32, 32, 3), depth=2)
