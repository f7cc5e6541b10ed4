"""FCN and the first U-Net: against PyTorch wired as the papers say, parameter counts by hand, and what they refuse."""

import itertools

import keras
import numpy as np
import pytest
from support.golden_rule import image
from support.source_tree import REPOSITORY
from support.tiers import on_one_backend
from support.torch_names import fill_layers

import kerazoo as kz
from kerazoo.decoders import FCN, DeconvNet, SegNet, UNetOriginal
from kerazoo.encoders import VGG, UNetContracting
from kerazoo.types import Level

GOLDEN = REPOSITORY / "tests" / "golden"
WIDTHS = (4, 5, 6, 7, 8)
TINY_VGG = VGG(depths=(1, 1, 2, 1, 1), widths=WIDTHS)
TINY_UNET = UNetContracting(widths=WIDTHS)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "unpooling_decoders.npz") as arrays:
        return dict(arrays)


def relative_error(ours, reference):
    assert ours.shape == reference.shape
    return np.abs(ours - reference).max() / np.abs(reference).max()


def bare(part, channels, *, strides=(2, 4, 8, 16, 32)):
    """The decoder alone, as a model."""
    features = tuple(
        Level(stride, keras.Input((None, None, width), name=f"in{i}"))
        for i, (stride, width) in enumerate(zip(strides, channels, strict=True))
    )
    decoded = part(features)
    model = keras.Model([level.tensor for level in features], [level.tensor for level in decoded])
    return model, [level.stride for level in decoded]


def finest(model, images):
    """The finest map of the decoder, where `segmenter` needs no padding."""
    if any(layer.name == "mirror" for layer in model.layers):
        images = keras.Model(model.input, model.get_layer("mirror").output).predict_on_batch(images)
    decoded = model.get_layer("decoder").predict_on_batch(model.get_layer("encoder").predict_on_batch(images))
    return keras.tree.flatten(decoded)[0]


@pytest.mark.backends
def test_fcn_8s_is_the_papers_network(golden):
    """fc6 and fc7 as convolutions, scores of three levels, transposed convolutions whose kernels do mix channels."""
    decoder = FCN(width=3, context="fc", context_width=9)
    model = kz.segmenter(TINY_VGG, decoder, "linear", num_classes=2, preprocessing=False)
    fill_layers(model.get_layer("encoder"), TINY_VGG.state_dict_name)
    fill_layers(model.get_layer("decoder"), lambda layer: layer)
    assert relative_error(finest(model, image(11, (1, 64, 96, 3))), golden["fcn"]) < 1e-4


def test_fcn_of_torchvision_is_its_head(golden):
    model, strides = bare(FCN(skips=0), (12,), strides=(8,))
    x = keras.Input((None, None, 12))
    model = keras.Model(
        x, kz.heads.create("linear")((Level(8, keras.tree.flatten(model(x))[0]),), num_classes=4).tensor
    )
    names = {"d_context_conv": "classifier.0", "d_context_bn": "classifier.1", "h_logits": "classifier.4"}
    fill_layers(model, names.get)
    assert strides == [8]
    assert relative_error(model.predict_on_batch(image(13, (2, 5, 7, 12))), golden["fcn_head"]) < 1e-4


def test_fcn_8s_has_the_papers_parameters():
    """134.5 million in Caffe's voc-fcn8s; built with 8 channels for fc6 and fc7 here, by the same formula."""

    def by_hand(fc, classes):
        vgg16 = 14_714_688
        context = 7 * 7 * 512 * fc + fc + fc * fc + fc  # fc6, fc7
        scores = (fc + 512 + 256) * classes + 3 * classes  # of fc7, pool4, pool3
        return vgg16 + context + scores + 2 * 4 * 4 * classes * classes  # and two kernels of 4x4, x2 each

    model = kz.segmenter(*kz.pairs.create("fcn_8s", width=21, context_width=8), "linear", num_classes=21)
    assert model.count_params() == by_hand(8, 21) + 21 * 21 + 21
    in_caffe = by_hand(4096, 21) + 16 * 16 * 21 * 21  # the kernel of x8, which is not learned
    assert round(in_caffe / 1e6, 1) == 134.5
    assert model.predict_on_batch(np.zeros((1, 45, 67, 3), "uint8")).shape == (1, 45, 67, 21)


def test_pairs_are_the_papers():
    encoders = kz.encoders.ENCODERS
    assert [kz.pairs.create(f"fcn_{stride}s").decoder.skips for stride in (8, 16, 32)] == [2, 1, 0]
    assert kz.pairs.create("segnet") == (encoders["vgg16_bn"], SegNet())
    assert kz.pairs.create("deconvnet", fc_width=8) == (encoders["vgg16_bn"], DeconvNet(fc_width=8))
    assert kz.pairs.create("unet_original") == (encoders["unet_contracting"], UNetOriginal(margin=32))


@pytest.mark.parametrize(("skips", "strides"), [(0, [32]), (1, [16, 32]), (2, [8, 16, 32]), (4, [2, 4, 8, 16, 32])])
def test_fcn_fuses_as_many_levels_as_it_is_told(skips, strides):
    model, decoded = bare(FCN(skips=skips), WIDTHS)
    assert decoded == strides
    widths = {tensor.shape[-1] for tensor in model.outputs}
    assert widths == ({64} if skips else {2})  # without skips a quarter of the 8 channels, for the head to project


def test_fcn_upsamples_bilinearly_before_it_is_trained():
    """With scores of zero from the skips each map is the coarser one resized, but for the border."""
    features = (
        Level(8, keras.Input((16, 20, 6))),
        Level(16, keras.Input((8, 10, 7))),
        Level(32, keras.Input((4, 5, 8))),
    )
    decoded = FCN(width=3, context=None)(features)
    model = keras.Model([level.tensor for level in features], [level.tensor for level in decoded])
    for name in ("d8_score", "d16_score"):
        model.get_layer(name).set_weights([np.zeros_like(weight) for weight in model.get_layer(name).get_weights()])
    arrays = [image(i, (1, *level.tensor.shape[1:])) for i, level in enumerate(features)]
    maps = model.predict_on_batch(arrays)
    for ours, coarser in itertools.pairwise(maps):
        expected = keras.ops.convert_to_numpy(kz.layers.Resize(factor=2)(coarser))
        np.testing.assert_allclose(ours[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FCN(skips=-1), "FCN's `skips` must be a whole number of at least 0, received -1"),
        (lambda: FCN(context="mlp"), "FCN's `context` must be one of"),
        (lambda: FCN(kernel_size=4), "FCN's `kernel_size` must be odd"),
        (lambda: FCN(dropout=1.0), "FCN's `dropout` must be at least 0 and less than 1"),
        (lambda: FCN(width=0), "FCN's `width` must be a whole number of at least 1"),
        (
            lambda: bare(FCN(), (4, 5), strides=(16, 32)),
            r"skips=2 needs 3 levels, received strides \[16, 32\].*skips=1",
        ),
        (lambda: bare(FCN(skips=1), (4, 5), strides=(7, 16)), r"16 is no multiple of 7"),
        (lambda: UNetOriginal(padding="full"), "UNetOriginal's `padding` must be one of"),
        (lambda: UNetOriginal(margin=-1), "UNetOriginal's `margin` must be a whole number of at least 0"),
        (
            lambda: bare(UNetOriginal(margin=32), WIDTHS),
            r"needs a `margin` of at least 64 pixels, a multiple of 32, rec",
        ),
        (lambda: bare(UNetOriginal(widths=(4, 4)), WIDTHS), r"have 4 skips, received widths=\(4, 4\)"),
        (lambda: bare(UNetOriginal(), (4,), strides=(2,)), r"at least two levels, received strides \[2\]"),
        (lambda: bare(UNetOriginal(), (4, 5), strides=(4, 7)), r"have whole factors, received strides \[4, 7\]"),
        (lambda: UNetContracting(padding="full"), "UNetContracting's `padding` must be one of"),
        (lambda: kz.encoders.create("unet_contracting", output_stride=8), "`output_stride` is at least 16, received 8"),
        (lambda: kz.encoders.create("unet_contracting", depth=6), "1 to 5 levels, received depth=6"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The first U-Net


def test_unet_is_the_papers_network_on_a_mirrored_image(golden):
    """The reference mirrors by 94 pixels at once, crops skips in the middle and never pads."""
    decoder = UNetOriginal(margin=32)
    model = kz.segmenter(TINY_UNET, decoder, "linear", num_classes=2, preprocessing=False)
    fill_layers(model.get_layer("encoder"), lambda layer: layer)
    fill_layers(model.get_layer("decoder"), lambda layer: layer)
    ours = finest(model, image(12, (1, 32, 48, 3)))
    assert ours.shape == (1, 32, 48, 4)
    assert relative_error(ours[:, ::3, ::3], golden["unet"]) < 1e-4


def test_unet_has_the_papers_parameters():
    """31 030 658 for one channel and two classes, as every account of the paper counts them."""
    model = kz.segmenter(*kz.pairs.create("unet_original"), "linear", num_classes=2, image_shape=(None, None, 1))

    def two(inputs, width):
        return 9 * inputs * width + width + 9 * width * width + width

    down = two(1, 64) + two(64, 128) + two(128, 256) + two(256, 512) + two(512, 1024)
    up = sum(4 * 2 * width * width + width + two(2 * width, width) for width in (512, 256, 128, 64))
    assert down + up + 64 * 2 + 2 == 31_030_658
    assert model.count_params() == 31_030_658


@on_one_backend
@pytest.mark.parametrize(
    ("encoder", "decoder", "pad"),
    [
        (TINY_UNET, UNetOriginal(margin=32), True),
        (TINY_UNET, UNetOriginal(margin=32), False),
        (UNetContracting(widths=WIDTHS, padding="same"), UNetOriginal(padding="same"), True),
        (TINY_VGG, UNetOriginal(), False),
        (TINY_VGG, FCN(width=4), False),
    ],
    ids=["paper", "unpadded", "same", "vgg", "fcn"],
)
def test_logits_have_the_size_of_the_image(encoder, decoder, pad):
    model = kz.segmenter(encoder, decoder, "linear", num_classes=3, pad=pad)
    for size in ((45, 67), (32, 16), (3, 1)):
        logits = model.predict_on_batch(np.full((1, *size, 3), 255, "uint8"))
        assert logits.shape == (1, *size, 3)
        assert np.isfinite(logits).all()


def test_valid_convolutions_see_as_far_as_the_paper_says_and_no_zeros():
    """A row that starts a pooling window of every level sees 94 rows above it."""
    model = kz.segmenter(TINY_UNET, UNetOriginal(margin=32), "linear", num_classes=1)
    x = image(15, (1, 128, 32, 3)) * 255
    logits = model.predict_on_batch(x)[0, 96:]
    beyond, within = x.copy(), x.copy()
    beyond[:, :2] = 255 - beyond[:, :2]
    within[:, :16] = 255 - within[:, :16]
    np.testing.assert_allclose(model.predict_on_batch(beyond)[0, 96:], logits, atol=1e-7)
    assert np.abs(model.predict_on_batch(within)[0, 96:] - logits).max() > 1e-4


def test_only_a_decoder_with_a_margin_sets_what_is_mirrored():
    encoder = kz.encoders.UNetContracting(widths=(4, 8), mirrored=5)
    assert encoder.continuing_mirror(0) is encoder
    assert encoder.continuing_mirror(6).mirrored == 6


def test_static_sizes_and_several_levels_for_the_head():
    model = kz.segmenter(TINY_UNET, UNetOriginal(margin=32), "mlf", num_classes=1, image_shape=(40, 56, 3), aux=True)
    outputs = model.predict_on_batch(np.zeros((1, 40, 56, 3), "float32"))
    assert {key: value.shape for key, value in outputs.items()} == dict.fromkeys(
        ("mask", "aux_1", "aux_2", "aux_4", "aux_8"), (1, 40, 56, 1)
    )
