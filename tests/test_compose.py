"""`segmenter`: every size, channel count, precision and composition; and what it refuses."""

import json

import keras
import numpy as np
import pytest
from support.encoders import build_encoder
from support.tiers import on_one_backend, thorough

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block

pytestmark = pytest.mark.backends
NARROW = {"widths": (16, 12, 8, 8)}
TINY = kz.encoders.ResNet(
    block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8
)  # every code path of a ResNet-18, built in a fraction of the time
TINY_VGG = kz.encoders.VGG(depths=(1, 1, 1, 1, 1), widths=(8, 8, 12, 12, 16))


def tiny(**options):
    options = {"num_classes": 1, "image_shape": (None, None, 3), **options}
    return kz.segmenter(TINY, kz.decoders.create("unet", **NARROW), kz.heads.create("mlf", width=8), **options)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tiny()


@pytest.mark.parametrize("size", [(64, 32), (65, 33), (1, 1), (31, 97)])
def test_logits_have_the_size_of_the_image(model, size):
    logits = model.predict_on_batch(np.zeros((2, *size, 3), "uint8"))
    assert logits.shape == (2, *size, 1)
    assert logits.dtype == "float32"


def test_parts_are_found_by_name(model):
    assert {"encoder", "decoder", "head"} <= {layer.name for layer in model.layers}


def test_padding_changes_nothing_where_none_is_needed(model):
    x = np.random.default_rng(0).random((1, 64, 64, 3), dtype="float32") * 255
    unpadded = tiny(pad=False)
    unpadded.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict_on_batch(x), unpadded.predict_on_batch(x), rtol=1e-4, atol=1e-5)


def test_without_padding_odd_sizes_are_resized_to():
    assert tiny(pad=False).predict_on_batch(np.zeros((1, 45, 67, 3), "float32")).shape == (1, 45, 67, 1)


@on_one_backend
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(channels):
    model = tiny(image_shape=(None, None, channels))
    assert model.predict_on_batch(np.full((1, 33, 32, channels), 255, "uint8")).shape == (1, 33, 32, 1)


def test_preprocessing_is_in_the_model(model):
    bare = tiny(preprocessing=False)
    bare.set_weights(model.get_weights())
    raw = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("uint8")
    normalized = ((raw / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype("float32")
    np.testing.assert_allclose(model.predict_on_batch(raw), bare.predict_on_batch(normalized), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_and_large_pixels_finite_in_every_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = tiny(label_head=True, num_classes=3)
    padded = keras.Model(model.input, model.get_layer("pad").output)
    normalized = padded.predict_on_batch(np.full((1, 33, 40, 3), 65535.0, "float32"))  # a 16-bit pixel
    np.testing.assert_allclose(normalized[0, 0, 0, 0], (65535 / 255 - 0.485) / 0.229, rtol=1e-5)
    outputs = model.predict_on_batch(np.full((1, 33, 40, 3), 255, "uint8"))
    for logits in outputs.values():
        assert logits.dtype == "float32"
        assert np.isfinite(logits).all()
    assert model.get_layer("encoder").output[0].dtype == policy.removeprefix("mixed_")
    assert model.get_layer("pad").compute_dtype == "float32"


def test_label_head_adds_image_logits():
    model = tiny(label_head=True, num_classes=3)
    outputs = model.predict_on_batch(np.zeros((2, 32, 40, 3), "float32"))
    assert {key: value.shape for key, value in outputs.items()} == {"mask": (2, 32, 40, 3), "label": (2, 3)}


def encoder_for(decoder):
    """Decoders that unpool need an encoder with switches."""
    return TINY_VGG if getattr(kz.decoders.DECODERS[decoder], "switches", False) else TINY


SLOW_ELSEWHERE = [pytest.mark.slow] * (keras.backend.backend() != "tensorflow")  # names are the same on every backend


@thorough
@pytest.mark.parametrize(
    "heads",
    [pytest.param(["mlf"], marks=SLOW_ELSEWHERE), pytest.param(kz.heads.list(), marks=pytest.mark.slow)],
    ids=["mlf", "all"],
)
def test_every_combination_of_parts_builds_with_unique_names(heads):
    for decoder in kz.decoders.list():
        part = kz.decoders.create(decoder, **kz.testing.TINY.get(("decoder", decoder), {}))
        for head in heads:
            if decoder == "identity" and head in ("linear", "smooth"):
                continue  # refused, as these heads read the finest level alone: see tests/explain/test_gradients.py
            model = kz.segmenter(encoder_for(decoder), part, head, num_classes=2)
            names = [weight.path for weight in model.weights]
            assert len(set(names)) == len(names), (decoder, head)
            assert model.output_shape == (None, None, None, 2)


@on_one_backend
@pytest.mark.parametrize("skip", ["sum", "concat"])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest", "transpose"])
def test_unet_variants_on_odd_pyramids(skip, upsampling):
    decoder = kz.decoders.create("unet", skip=skip, upsampling=upsampling, **NARROW)
    model = kz.segmenter(TINY, decoder, "linear", num_classes=1, pad=False)
    assert model.predict_on_batch(np.zeros((1, 37, 51, 3), "float32")).shape == (1, 37, 51, 1)


@on_one_backend
@pytest.mark.parametrize("name", ["linknet", "manet", "pspnet", "unet", "unet_plus_plus", "upernet"])
def test_group_norm_finds_groups_in_every_width(name):
    """Of 16 channels, say, of which a U-Net's finest level has no more: 32 groups would be too many."""
    model = kz.segmenter(TINY, kz.decoders.create(name, norm="group"), "linear", num_classes=1)
    norms = [layer for layer in model.get_layer("decoder").layers if isinstance(layer, keras.layers.GroupNormalization)]
    norms += [unit.norm for layer in model.get_layer("decoder").layers for unit in getattr(layer, "projections", ())]
    assert norms
    for layer in norms:
        channels = layer.gamma.shape[0]
        assert layer.groups == max(n for n in range(1, 33) if channels % n == 0 and 32 % n == 0)


@on_one_backend
def test_mlf_stages_can_be_switched_off():
    def parameters(**options):
        head = kz.heads.create("mlf", width=8, **options)
        return kz.segmenter(TINY, kz.decoders.create("unet", **NARROW), head, num_classes=1).count_params()

    attention = 8 * 4 + 4 + 4 * 8 + 8  # squeeze to 4 channels (the least) and excite, with biases
    convolution = 3 * 3 * 8 * 8 + 4 * 8
    whole = parameters()
    assert whole - parameters(before=False) == attention
    assert whole - parameters(after=False) == attention
    assert whole - parameters(attention=None) == 2 * attention
    assert whole - parameters(convolutions=0) == 3 * convolution
    hypercolumn = kz.heads.create("hypercolumn", width=8)
    plain = kz.segmenter(TINY, kz.decoders.create("unet", **NARROW), hypercolumn, num_classes=1)
    assert parameters(before=False, convolutions=0, after=False) == plain.count_params()


@pytest.mark.slow
def test_dilated_encoder_under_every_decoder():
    for decoder in kz.decoders.list():
        if encoder_for(decoder) is not TINY:
            continue  # max unpooling needs every pooling
        head = "hypercolumn" if decoder == "identity" else "linear"
        model = kz.segmenter(TINY, decoder, head, num_classes=1, output_stride=8)
        assert model.predict_on_batch(np.zeros((1, 40, 48, 3), "float32")).shape == (1, 40, 48, 1)


def test_depth_leaves_coarse_levels_out():
    decoder = kz.decoders.create("unet", widths=(16, 8))
    model = kz.segmenter(TINY, decoder, "linear", num_classes=1, depth=3)
    assert len(model.get_layer("encoder").outputs) == 3


def test_configuration_is_json_and_rebuilds_the_model(model):
    rebuilt = keras.Model.from_config(json.loads(json.dumps(model.get_config())))
    rebuilt.set_weights(model.get_weights())
    x = np.random.default_rng(0).random((1, 45, 67, 3), dtype="float32") * 255
    np.testing.assert_allclose(rebuilt.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-5, atol=1e-5)


def test_encoder_weights_from_a_file(tmp_path, model):
    path = tmp_path / "encoder.weights.h5"
    model.get_layer("encoder").save_weights(path)
    loaded = tiny(weights=path)
    for ours, theirs in zip(loaded.get_layer("encoder").weights, model.get_layer("encoder").weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def backbone():
    image = keras.Input((None, None, 3))
    fine = keras.layers.Conv2D(4, 3, strides=4, padding="same", name="fine")(image)
    coarse = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="coarse")(fine)
    backbone = keras.Model(image, coarse, name="backbone")
    backbone.pyramid_outputs = {"P1": fine, "P2": coarse}  # a family whose numbers are not logarithms of strides
    return backbone


def test_a_model_with_pyramid_outputs_is_an_encoder(backbone):
    model = kz.segmenter(backbone, "fpn", "linear", num_classes=4)
    assert kz.encoders.strides(model.get_layer("encoder")) == [4, 8]
    assert model.predict_on_batch(np.zeros((1, 45, 67, 3), "float32")).shape == (1, 45, 67, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"encoder": "resnet81"},
            r"Unknown encoder 'resnet81'\. Did you mean .*'resnet18'.*kerazoo\.encoders\.list\(\)",
        ),
        ({"decoder": "unett"}, r"Unknown decoder 'unett'\. Did you mean 'unet'"),
        ({"head": "lineer"}, r"Unknown head 'lineer'\. Did you mean 'linear'"),
        ({"num_classes": 0}, r"`num_classes` must be 1 .* received 0"),
        ({"image_shape": (None, None)}, r"`image_shape` must be \(height, width, channels\).*received \(None, None\)"),
        ({"image_shape": (0, 32, 3)}, r"`image_shape` must be"),
        ({"image_shape": 32}, r"`image_shape` must be \(height, width, channels\).*received 32"),
        ({"output_stride": 5}, r"`output_stride` is one of \(32, 16, 8\), received 5"),
        ({"output_stride": 0}, r"`output_stride` must be a whole number of at least 1, received 0"),
        ({"depth": 0}, r"`depth` must be a whole number of at least 1, received 0"),
        ({"depth": 2.0}, r"`depth` must be a whole number of at least 1, received 2.0: write 2"),
        ({"output_stride": "16"}, r"`output_stride` must be a whole number of at least 1, received '16'"),
        ({"depth": 9}, r"1 to 5 levels, received depth=9"),
        ({"weights": "imagnet"}, r"There are no weights 'imagnet'\. .*pass `arch='resnet18'`"),
        ({"weights": True}, r"`weights` must be None, the name of weights such as 'imagenet', .* received True"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    parts = {"encoder": TINY, "decoder": "unet", "head": "linear", "num_classes": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        kz.segmenter(parts.pop("encoder"), parts.pop("decoder"), parts.pop("head"), **parts)


def test_a_missing_weights_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.weights\.h5.*no such file"):
        kz.segmenter(TINY, "unet", "linear", num_classes=1, weights="nowhere.weights.h5")


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "other.weights.h5"
    tiny().get_layer("decoder").save_weights(path)
    with pytest.raises(ValueError, match=r"other\.weights\.h5 does not hold the weights of this encoder"):
        tiny(weights=path)


def test_a_class_in_place_of_a_part_is_a_type_error():
    with pytest.raises(TypeError, match=r"`decoder` must be a name .* or a part with arguments"):
        kz.segmenter(TINY, kz.decoders.UNet, "linear", num_classes=1)


def test_unet_widths_that_do_not_fit_are_counted():
    with pytest.raises(ValueError, match=r"strides \[2, 4, 8, 16, 32\] have 4 skips, received widths=\(8, 8\)"):
        kz.segmenter(TINY, kz.decoders.create("unet", widths=(8, 8)), "linear", num_classes=1)


def test_unknown_hyper_parameter_names_the_part():
    with pytest.raises(TypeError, match=r"decoder 'unet'.*skips"):
        kz.decoders.create("unet", skips="sum")


@on_one_backend
@pytest.mark.parametrize("num_classes", [1, 4])
@pytest.mark.parametrize("head", kz.heads.list())
def test_an_untrained_head_predicts_the_prior(head, num_classes):
    image = np.zeros((1, 64, 64, 3), "float32")
    model = kz.segmenter(TINY, "unet", kz.heads.create(head, prior=0.02), num_classes=num_classes)
    model.get_layer("head").get_layer("h_logits").kernel.assign(
        0 * model.get_layer("head").get_layer("h_logits").kernel
    )
    logits = model.predict_on_batch(image).astype("float64")
    if num_classes == 1:
        foreground = 1 / (1 + np.exp(-logits))
    else:
        foreground = 1 - np.exp(logits[..., :1]) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(foreground, 0.02, rtol=1e-4)


def test_a_prior_without_a_logit_is_refused():
    with pytest.raises(ValueError, match=r"MLF's `prior` must be between 0 and 1, both excluded, received 0\.0"):
        kz.heads.create("mlf", prior=0.0)


@pytest.mark.parametrize(
    ("create", "name", "value", "message"),
    [
        (kz.heads.create, "mlf", {"width": 0}, r"MLF's `width` must be a whole number of at least 1, received 0"),
        (
            kz.heads.create,
            "mlf",
            {"convolutions": 1.5},
            r"MLF's `convolutions` must be a whole number .* received 1\.5",
        ),
        (
            kz.heads.create,
            "mlf",
            {"attention": "es"},
            r"MLF's `attention` must be one of \(None, 'se', .*\), received 'es'",
        ),
        (kz.heads.create, "hypercolumn", {"fuse": "add"}, r"Hypercolumn's `fuse` must be one of \('sum', 'concat'\)"),
        (kz.heads.create, "linear", {"kernel_size": 2}, r"Linear's `kernel_size` must be odd, received 2"),
        (kz.decoders.create, "fpn", {"interpolation": "bicubic"}, r"FPN's `interpolation` must be one of"),
        (kz.decoders.create, "fpn", {"width": -1}, r"FPN's `width` must be a whole number of at least 1, received -1"),
        (kz.decoders.create, "unet", {"widths": (64, "a")}, r"UNet's `widths` must be a whole number .* received 'a'"),
        (
            kz.decoders.create,
            "unet",
            {"widths": 64},
            r"UNet's `widths` must be a tuple of whole numbers, .* received 64",
        ),
        (
            kz.decoders.create,
            "unet",
            {"skip": "add"},
            r"UNet's `skip` must be one of \('sum', 'concat'\), received 'add'",
        ),
    ],
)
def test_bad_hyper_parameters_are_named_when_the_part_is_made(create, name, value, message):
    with pytest.raises(ValueError, match=message):
        create(name, **value)


def test_a_part_in_another_parts_place_is_a_type_error():
    with pytest.raises(TypeError, match=r"`decoder` must be a name .* received Linear\("):
        kz.segmenter(TINY, kz.heads.create("linear"), "linear", num_classes=1)
    with pytest.raises(TypeError, match=r"`head` must be a name .* received FPN\("):
        kz.segmenter(TINY, "unet", kz.decoders.create("fpn"), num_classes=1)
    for encoder in (kz.decoders.create("fpn"), kz.encoders.ResNet):
        with pytest.raises(TypeError, match=r"`encoder` must be a name"):
            kz.segmenter(encoder, "unet", "linear", num_classes=1)


def test_any_model_is_an_encoder_once_it_says_what_its_levels_are():
    encoder, strides = build_encoder(TINY, image_shape=(None, None, 3))
    with pytest.raises(TypeError, match=r"a model with `pyramid_outputs`; .* Give the model that attribute: a dict"):
        kz.segmenter(encoder, "fpn", "linear", num_classes=1)
    encoder.pyramid_outputs = dict(zip(strides, encoder.outputs, strict=True))
    model = kz.segmenter(encoder, kz.decoders.FPN(width=8), "linear", num_classes=2)
    assert model.predict_on_batch(np.zeros((1, 45, 67, 3), "float32")).shape == (1, 45, 67, 2)


def test_numbers_may_be_numpy_s():
    """Classes and sizes are often computed from masks and images."""
    model = tiny(num_classes=np.int64(2), image_shape=tuple(np.array([33, 47, 3])))
    assert model.output_shape == (None, 33, 47, 2)
    json.dumps(model.get_config())


def test_an_outside_encoder_keeps_its_strides_and_has_only_its_levels(backbone):
    with pytest.raises(
        ValueError, match=r"`output_stride` belongs to encoders given by name; 'backbone' has the strides"
    ):
        kz.segmenter(backbone, "fpn", "linear", num_classes=1, output_stride=8)
    with pytest.raises(ValueError, match=r"'backbone' has 1 to 2 levels, received depth=9"):
        kz.segmenter(backbone, "fpn", "linear", num_classes=1, depth=9)
    with pytest.raises(ValueError, match=r"takes 3 channels"):
        kz.segmenter(backbone, "fpn", "linear", num_classes=1, image_shape=(None, None, 1))


def test_an_outside_encoder_gets_images_of_fixed_size_padded(backbone):
    model = kz.segmenter(backbone, "fpn", "linear", num_classes=2, image_shape=(45, 67, 3))
    assert model.get_layer("encoder").input_shape == (None, 48, 72, 3)
    assert model.predict_on_batch(np.zeros((1, 45, 67, 3), "float32")).shape == (1, 45, 67, 2)


def test_strides_are_measured_for_every_fixed_size():
    for size in ((45, 67), (64, 64), (33, 200), (48, 48), (40, 56)):
        encoder, declared = build_encoder(TINY, image_shape=(*size, 3))
        assert kz.encoders.strides(encoder) == list(declared)


@pytest.mark.parametrize(("patch", "size"), [(14, (98, 84)), (7, (42, 42)), (7, (49, 56))])
def test_strides_that_divide_a_fixed_size_are_exact(patch, size):
    encoder = kz.encoders.ConvMixer(width=4, blocks=1, patch_size=patch)
    assert kz.encoders.strides(build_encoder(encoder, image_shape=(*size, 3))[0]) == [patch]
