"""SegNet, DeconvNet and the encoders' switches: against PyTorch's max_unpool2d, counts by hand, what they refuse."""

import keras
import numpy as np
import pytest
from support.golden_rule import image
from support.source_tree import REPOSITORY
from support.torch_names import fill_layers

import kerazoo as kz
from kerazoo.decoders import DeconvNet, SegNet
from kerazoo.encoders import VGG
from kerazoo.encoders.build import build_encoder
from kerazoo.types import Level

GOLDEN = REPOSITORY / "tests" / "golden"
WIDTHS = (4, 5, 6, 7, 8)
TINY_VGG = VGG(depths=(1, 1, 2, 1, 1), widths=WIDTHS)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "unpooling_decoders.npz") as arrays:
        return dict(arrays)


def relative_error(ours, reference):
    assert ours.shape == reference.shape
    return np.abs(ours - reference).max() / np.abs(reference).max()


def composed(decoder, **options):
    return kz.segmenter(TINY_VGG, decoder, "linear", num_classes=2, preprocessing=False, **options)


@pytest.mark.parametrize(
    ("name", "decoder", "seed", "size"),
    [
        pytest.param("segnet", SegNet(), 11, (64, 96), marks=pytest.mark.backends),
        ("deconvnet", DeconvNet(fc_width=9, convolutions=(2,) * 5), 11, (64, 96)),
        (
            "deconvnet_valid",
            DeconvNet(fc_width=9, kernel_size=3, padding="valid", convolutions=(2,) * 5),
            14,
            (96, 128),
        ),
    ],
)
def test_decoder_is_the_papers_network(golden, name, decoder, seed, size):
    model = composed(decoder)
    encoder, inner = model.get_layer("encoder"), model.get_layer("decoder")
    fill_layers(encoder, TINY_VGG.state_dict_name)
    fill_layers(inner, lambda layer: layer)
    tensors = encoder.predict_on_batch(image(seed, (1, *size, 3)))
    finest = inner.predict_on_batch(tensors)  # the one level that the linear head reads
    assert relative_error(finest[:, ::3, ::3], golden[name]) < 1e-4
    if name == "segnet":
        for stride in (4, 8, 16, 32):
            level = tensors[(1, 2, 4, 8, 16, 32).index(stride)]
            assert relative_error(level, golden[f"vgg_stride{stride}"]) < 1e-4


def test_switches_say_where_the_maxima_of_each_level_are():
    """The next pooling's input is the level before it, at odd sizes too, and whichever levels are asked for."""
    built = build_encoder(TINY_VGG, image_shape=(None, None, 3), depth=4, switches=True)
    model, strides, after = built.model, built.strides, built.switch_strides
    assert strides == (1, 2, 4, 8)
    assert after == (2, 4, 8)
    tensors = model.predict_on_batch(image(1, (1, 45, 67, 3)))
    for level, switches in zip(tensors, tensors[4:], strict=False):
        expected = keras.ops.convert_to_numpy(kz.layers.MaxPoolWithIndices()(level)[1])
        np.testing.assert_array_equal(switches, expected)
        assert switches.dtype == "int32"


@pytest.mark.parametrize("depth", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_keras_vgg_has_switches_and_the_same_levels_as_without(depth):
    part = kz.encoders.ENCODERS["vgg16"]
    plain = kz.encoders.create("vgg16", depth=depth)
    built = build_encoder(part, image_shape=(None, None, 3), depth=depth, switches=True)
    model, strides, after = built.model, built.strides, built.switch_strides
    model.set_weights(plain.get_weights())
    x = image(2, (1, 45, 67, 3))
    levels, tensors = plain.predict_on_batch(x), model.predict_on_batch(x)
    for level, same in zip(levels, tensors, strict=False):
        np.testing.assert_array_equal(same, level)
    for stride, level, switches in zip(after, tensors, tensors[len(levels) :], strict=False):
        assert switches.shape == (1, -(-45 // stride), -(-67 // stride), level.shape[-1])
        if stride == 2:  # the level is cropped, so that windows at its border lack what was padded
            expected = keras.ops.convert_to_numpy(kz.layers.MaxPoolWithIndices()(level)[1])
            np.testing.assert_array_equal(switches[:, :-1, :-1], expected[:, :-1, :-1])
    assert strides == (1, 2, 4, 8, 16, 32)[:depth]


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        (SegNet(), {}),
        (SegNet(), {"pad": False, "depth": 4}),
        (SegNet(), {"image_shape": (45, 67, 3)}),
        (DeconvNet(fc_width=4), {"pad": False}),
    ],
    ids=str,
)
def test_logits_have_the_size_of_the_image(decoder, options):
    model = composed(decoder, **options)
    for size in ((45, 67), (32, 64)) if "image_shape" not in options else ((45, 67),):
        logits = model.predict_on_batch(image(3, (1, *size, 3)))
        assert logits.shape == (1, *size, 2)
        assert np.isfinite(logits).all()


def test_mixed_precision_aux_and_reload(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = composed(SegNet(), aux=True)
    assert [tensor.dtype for tensor in model.get_layer("encoder").outputs] == ["float16"] * 6 + ["int32"] * 5
    x = image(4, (1, 33, 40, 3))
    outputs = model.predict_on_batch(x)
    assert set(outputs) == {"mask", "aux_1", "aux_2", "aux_4", "aux_8", "aux_16"}
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras").predict_on_batch(x)
    for key, logits in outputs.items():
        assert logits.dtype == "float32"
        np.testing.assert_allclose(reloaded[key], logits, atol=1e-3)


def test_a_training_step_moves_every_weight():
    model = composed(SegNet())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    x = image(5, (2, 64, 64, 3))
    model.train_on_batch(x, (x.mean(-1) > 0.5).astype("int32"))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        new = keras.ops.convert_to_numpy(weight)
        # a bias before batch norm has no effect; VGG's encoders have one, as torchvision's
        assert (new != old).any() or weight.path.endswith("bias"), weight.path


def test_an_encoder_with_switches_is_unfrozen_by_stride():
    model = composed(SegNet())
    kz.freeze(model, "encoder")
    kz.unfreeze(model, "encoder", from_stride=8)
    encoder = model.get_layer("encoder")
    trainable = {layer.name for layer in encoder.layers if layer.trainable_weights}
    assert trainable == {"features_15", "features_16", "features_19", "features_20"}  # the stages at strides 8 and 16


def test_segnet_has_the_papers_parameters():
    """29.5 million: 13 convolutions down and 13 up, batch norm after each."""

    def convolutions(widths, *, bias):
        return sum(9 * a * b + b * bias + 4 * b for a, b in widths)

    down = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    down += [(256, 512)] + [(512, 512)] * 5
    up = [(512, 512)] * 5 + [(512, 256)] + [(256, 256)] * 2 + [(256, 128), (128, 128), (128, 64), (64, 64), (64, 64)]
    by_hand = convolutions(down, bias=True) + convolutions(up, bias=False) + 64 * 12 + 12
    model = kz.segmenter("vgg16_bn", "segnet", "linear", num_classes=12)
    assert model.count_params() == by_hand
    assert round(by_hand / 1e6, 1) == 29.5


def test_deconvnet_has_the_papers_parameters():
    """About 252 million, nearly all in the middle; built with 8 fully connected channels, by the same formula."""

    def by_hand(fc):
        middle = 2 * 7 * 7 * 512 * fc + fc * fc + 4 * (fc + fc + 512)
        up = [(512, 512)] * 5 + [(512, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64)]
        up += [(64, 64)] * 2
        return middle + sum(9 * a * b + 4 * b for a, b in up)

    strides, widths = (1, 2, 4, 8, 16, 32), (64, 128, 256, 512, 512, 512)
    features = tuple(Level(s, keras.Input((None, None, w))) for s, w in zip(strides, widths, strict=True))
    switches = {
        coarse: keras.Input((None, None, width), dtype="int32")
        for coarse, width in zip(strides[1:], widths, strict=False)
    }
    decoded = DeconvNet(fc_width=8)(features, switches)
    inputs = [level.tensor for level in features] + list(switches.values())
    model = keras.Model(inputs, [level.tensor for level in decoded])
    assert [level.stride for level in decoded] == [1, 2, 4, 8, 16]
    assert model.count_params() == by_hand(8)
    assert round((14_714_688 + 4 * 4224 + by_hand(4096)) / 1e6) == 252


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kz.segmenter("resnet18", "segnet", "linear", num_classes=2),
            "'resnet18' does not say where the maxima",
        ),
        (
            lambda: kz.segmenter("mobilenet", "deconvnet", "linear", num_classes=2),
            "MobileNet has no max-pool switches: 'conv1' lowers the resolution.*'vgg16'",
        ),
        (lambda: composed("segnet", output_stride=16), "switches at `output_stride` 32 only, received 16"),
        (lambda: composed(SegNet(convolutions=(3, 3))), r"poolings to strides \[2, 4, 8, 16, 32\], .*=\(3, 3\)"),
        (lambda: composed("segnet", depth=1), r"strides \[1\] with switches at \[\] do not allow it"),
        (lambda: SegNet(convolutions=(0,)), "SegNet's `convolutions` must be a whole number of at least 1"),
        (lambda: DeconvNet(fc_width=0), "DeconvNet's `fc_width` must be a whole number of at least 1"),
        (lambda: DeconvNet(kernel_size=6), "DeconvNet's `kernel_size` must be odd"),
        (lambda: DeconvNet(padding="full"), "DeconvNet's `padding` must be one of"),
        (lambda: DeconvNet(dropout=-0.1), "DeconvNet's `dropout` must be at least 0"),
        (lambda: VGG(depths=(1, 2), widths=(4,)), r"one depth per width, received \(1, 2\) and \(4,\)"),
        (lambda: kz.encoders.create("vgg11", depth=7), "1 to 6 levels, received depth=7"),
        (lambda: kz.encoders.create("vgg11", output_stride=4), r"`output_stride` is one of \(32, 16, 8\), received 4"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_backbones_from_outside_have_no_switches():
    x = keras.Input((64, 64, 3))
    backbone = keras.Model(x, keras.layers.MaxPooling2D()(x), name="outside")
    backbone.pyramid_outputs = {"P1": backbone.output}
    with pytest.raises(ValueError, match="'outside' does not say where the maxima were"):
        kz.segmenter(backbone, "segnet", "linear", num_classes=1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel is TensorFlow's")
@pytest.mark.parametrize("decoder", ["segnet", pytest.param("unet_original", marks=pytest.mark.slow)])
def test_export_takes_every_size(tmp_path, decoder):
    import tensorflow as tf

    model = composed(decoder)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    for size in ((45, 67), (64, 32)):
        x = image(6, (1, *size, 3))
        np.testing.assert_allclose(loaded.serve(x), model.predict_on_batch(x), rtol=1e-4, atol=1e-4)
