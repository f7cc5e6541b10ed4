"""Encoders from keras.applications: their own features from raw images, dilation, channels, refusals."""

import dataclasses
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.encoders import build_encoder
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo.checkpoints import download
from kerazoo.encoders import strides
from kerazoo.encoders.applications import REFUSED, SIZE, VARIANTS, Application, recorded
from kerazoo.encoders.graph import pyramid, trace, without_preprocessing
from kerazoo.encoders.stem import adapt_stem
from kerazoo.layers import ReverseColors, SpreadPool

FAMILIES = {  # one member of each, and the strides of its levels
    "vgg16": [1, 2, 4, 8, 16, 32],
    "mobilenet": [2, 4, 8, 16, 32],
    "mobilenetv2": [2, 4, 8, 16, 32],
    "mobilenetv3_small": [2, 4, 8, 16, 32],
    "efficientnetb0": [2, 4, 8, 16, 32],
    "efficientnetv2_b0": [2, 4, 8, 16, 32],
    "efficientnetv2_s": [2, 4, 8, 16, 32],
    "densenet121": [2, 4, 8, 16, 32],
    "resnet50v2": [2, 4, 8, 16, 32],
    "convnext_tiny": [4, 8, 16, 32],
    "xception": [2, 4, 8, 16, 32],
    "inceptionv3": [2, 4, 8, 16, 32],
    "inceptionresnetv2": [2, 4, 8, 16, 32],
}
SLOW = {"efficientnetv2_b0", "efficientnetv2_s", "densenet121", "convnext_tiny", "inceptionv3", "inceptionresnetv2"}
DILATABLE = [name for name in FAMILIES if VARIANTS[name].dilatable]


def families(names, slow=()):
    return [pytest.param(name, marks=pytest.mark.slow if name in {*SLOW, *slow} else ()) for name in names]


def image(height, width, channels=3, *, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (1, height, width, channels)).astype("float32")


def run(model, x):
    outputs = model(x, training=False)
    return [ops.convert_to_numpy(y) for y in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def relative_error(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def randomize(model):
    """Weights under which every layer matters: fresh batch norms do nothing, fresh layer scales are 1e-6."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.Sequential):
            randomize(layer)
        elif isinstance(layer, layers.Normalization):
            continue
        else:
            values = [w if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()]
            layer.set_weights(values)


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """Stands for Keras's download and ours: gives every family a file of its own structure.

    Called with a part: the function of `keras.applications`, and the path of the file that `weights="imagenet"` gets.
    """

    def prepare(part):
        build = getattr(keras.applications, part.function)
        donor = part.classifier(None)
        randomize(donor)
        for layer in donor.layers:
            if isinstance(layer, layers.Normalization) and layer.weights:  # EfficientNet B0-B7; see its source
                layer.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)])
        path = tmp_path / f"{part.function}_notop.h5"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
            donor.save(path)  # the format of the files that Keras downloads
        files = sys.modules[keras.applications.VGG16.__module__].file_utils
        monkeypatch.setattr(files, "get_file", lambda *args, **kwargs: str(path))
        monkeypatch.setattr(download, "fetch", lambda record: path)
        return build, path

    return prepare


# Levels ---------------------------------------------------------------------------------------------------------------


@on_one_backend
@pytest.mark.parametrize("name", families(FAMILIES))
def test_levels_have_the_strides_of_the_family(name):
    model, declared = build_encoder(VARIANTS[name], image_shape=(None, None, 3))
    assert list(declared) == strides(model) == FAMILIES[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_builds(name):
    model, declared = build_encoder(VARIANTS[name], image_shape=(None, None, 3))
    assert list(declared) == strides(model)


def test_every_family_is_tested():
    def modules(names):
        return {getattr(keras.applications, VARIANTS[name].function).__module__ for name in names}

    assert modules(FAMILIES) == modules(VARIANTS.keys() - {"vgg19"})


def test_variants_are_all_of_keras_that_have_a_pyramid():
    builders = {name for name in dir(keras.applications) if name[0].isupper()}
    native = {"ResNet50", "ResNet101", "ResNet152"}  # Keras has version 1; ours is 1.5, with PyTorch's weights
    assert {part.function for part in VARIANTS.values()} == builders - native - REFUSED.keys()


@on_one_backend
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="run-time sizes are TensorFlow's")
@pytest.mark.parametrize("name", ["vgg16", "xception"])  # with SpreadPool over raw and over padded maps
def test_run_time_sizes(name):
    import tensorflow as tf

    model, declared = build_encoder(VARIANTS[name], image_shape=(None, None, 3), output_stride=8, preprocessing=True)
    function = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3), "float32")])
    for height, width in ((33, 70), (64, 32)):
        x = image(height, width)
        for stride, dynamic, eager in zip(declared, function(x), run(model, x), strict=True):
            assert dynamic.shape == (1, -(-height // stride), -(-width // stride), eager.shape[-1])
            np.testing.assert_allclose(dynamic, eager, rtol=1e-4, atol=1e-4 * np.abs(eager).max())


def test_inner_branches_are_no_levels():
    x = keras.Input((64, 64, 3))
    stem = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    branch = layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    merged = layers.Add(name="merged")([stem, branch * 0.5])
    padded = layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(merged)
    down = layers.Conv2D(8, 3, strides=2, name="down")(padded)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(down)
    gated = layers.Multiply(name="gated")([down, gate])
    nodes, _ = trace(keras.Model(x, gated))
    assert {stride: nodes[index].name for stride, index in pyramid(nodes, 64).items()} == {2: "merged", 4: "gated"}


def test_names_do_not_depend_on_what_the_process_built_before():
    def names():
        model, _ = build_encoder(VARIANTS["mobilenetv3_small"], image_shape=(32, 32, 3))
        return [layer.name for layer in model.layers]

    first = names()
    layers.Activation("relu"), layers.ReLU()
    recorded.cache_clear()
    assert names() == first
    assert {"conv", "expanded_conv_1_depthwise", "activation", "activation_1", "re_lu"} <= set(first)


@pytest.mark.parametrize("name", ["mobilenetv2", "xception"])
def test_the_same_seed_gives_the_same_weights_first_and_second_time(name):
    def weights():
        keras.utils.set_random_seed(3)
        model, _ = build_encoder(VARIANTS[name], image_shape=(32, 32, 3), depth=2)
        return model.get_weights()

    recorded.cache_clear()
    for first, second in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_policy_is_that_of_the_time_of_building():
    for policy, dtype in (("mixed_bfloat16", "bfloat16"), ("float32", "float32")):
        keras.config.set_dtype_policy(policy)
        model, _ = build_encoder(VARIANTS["mobilenetv2"], image_shape=(32, 32, 3))
        assert {keras.backend.standardize_dtype(output.dtype) for output in model.outputs} == {dtype}
        assert {layer.compute_dtype for layer in model.layers if layer.weights} == {dtype}


# Features -------------------------------------------------------------------------------------------------------------


@on_one_backend
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
@pytest.mark.parametrize("name", families(FAMILIES, slow={"mobilenet"}))
def test_raw_images_give_the_features_of_the_family(name, imagenet):
    part = VARIANTS[name]
    build, _ = imagenet(part)
    family = build(include_top=False, weights="imagenet", input_shape=(96, 96, 3))
    if part.same_padding:
        weights = family.get_weights()
        family = keras.models.clone_model(family, clone_function=same_padding)
        family.set_weights(weights)
    nodes, operations = trace(family)
    taps = pyramid(without_preprocessing(nodes), 96).values()
    inside = len(nodes) - len(without_preprocessing(nodes))
    normalized = operations[inside - 1].output if inside else family.input
    if part.function.startswith("ConvNeXt"):  # levels end inside its nested models
        expected = [family.output]
    else:
        expected = [operations[inside + index].output for index in taps]
    x = image(96, 96)
    normalized, *expected = run(
        keras.Model(family.input, [normalized, *expected]), sys.modules[build.__module__].preprocess_input(x.copy())
    )
    raw = keras.Input((None, None, 3))
    np.testing.assert_allclose(run(keras.Model(raw, part.preprocess(raw)), x)[0], normalized, rtol=1e-5, atol=1e-5)
    ours, _ = build_encoder(part, image_shape=(96, 96, 3), weights="imagenet", preprocessing=True)
    for level, reference in zip(run(ours, x)[-len(expected) :], expected, strict=True):
        assert relative_error(level, reference) < 1e-4


def same_padding(layer):
    config = layer.get_config()
    return type(layer).from_config(config | ({"padding": "same"} if "padding" in config else {}))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_normalization_is_float32_and_finite_for_any_channels(channels):
    keras.config.set_dtype_policy("mixed_float16")
    for name in ("vgg16", "mobilenetv2", "efficientnetb0", "efficientnetv2_s"):
        x = keras.Input((None, None, channels), dtype="uint16")
        normalized = VARIANTS[name].preprocess(x)
        assert keras.backend.standardize_dtype(normalized.dtype) == "float32"
        assert np.isfinite(run(keras.Model(x, normalized), np.full((1, 2, 2, channels), 65535, "uint16"))[0]).all()


@on_one_backend
def test_a_saved_encoder_gives_the_same_features(tmp_path):
    part = VARIANTS["xception"]
    model, _ = build_encoder(part, image_shape=(None, None, 4), output_stride=8, preprocessing=True)
    model.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    x = image(33, 70, 4)
    for before, after in zip(run(model, x), run(loaded, x), strict=True):
        np.testing.assert_array_equal(before, after)


# Dilation -------------------------------------------------------------------------------------------------------------


@on_one_backend
@pytest.mark.parametrize("name", families(DILATABLE, slow={"mobilenet", "mobilenetv2", "efficientnetb0", "resnet50v2"}))
def test_dilated_features_contain_the_original_ones(name):
    """At every r-th position, from the first or the last of r, all the way to the borders."""
    original, original_strides = build_encoder(VARIANTS[name], image_shape=(None, None, 3))
    randomize(original)
    silence_squeeze_and_excite(original)
    x = image(64, 96) / 127.5 - 1
    expected = run(original, x)
    for output_stride in (16, 8):
        dilated, dilated_strides = build_encoder(
            VARIANTS[name], image_shape=(None, None, 3), output_stride=output_stride
        )
        assert list(dilated_strides) == strides(dilated) == [min(s, output_stride) for s in original_strides]
        dilated.set_weights(original.get_weights())
        for full, level, before, after in zip(
            expected, run(dilated, x), original_strides, dilated_strides, strict=True
        ):
            r = before // after
            errors = [relative_error(level[:, start::r, start::r], full) for start in (0, r - 1)]
            assert min(errors) < 1e-4, f"stride {before}, output_stride {output_stride}: {errors}"


def silence_squeeze_and_excite(model):
    """Make gates constant: their global means differ between maps of different resolution."""
    for layer in model.layers:
        if layer.name.endswith(("se_expand", "squeeze_excite_conv_1")):
            kernel, bias = layer.get_weights()
            layer.set_weights([0 * kernel, bias])


@pytest.mark.backends
@pytest.mark.parametrize("pool", ["max", "average"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_spread_pool(pool, dilation):
    x = image(6, 9, 2) - 128
    expected = np.empty_like(x)
    reduce = np.max if pool == "max" else np.mean
    for row in range(6):
        for column in range(9):
            rows = [i for i in range(row, row + 3 * dilation, dilation) if i < 6]
            columns = [i for i in range(column, column + 3 * dilation, dilation) if i < 9]
            expected[:, row, column] = reduce(x[:, rows][:, :, columns], axis=(1, 2))
    pooled = SpreadPool(pool, size=3, dilation=dilation)(x)
    np.testing.assert_allclose(ops.convert_to_numpy(pooled), expected, rtol=1e-5, atol=1e-4)


def test_spread_pool_refuses():
    with pytest.raises(ValueError, match="`pool` must be one of"):
        SpreadPool("median", size=2)
    with pytest.raises(ValueError, match="at least 1, received 2 and 0"):
        SpreadPool("max", size=2, dilation=0)


# Channels -------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_stems_fit_any_number_of_channels():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype("float32")
    assert adapt_stem(kernel, 3) is kernel
    np.testing.assert_allclose(adapt_stem(kernel, 1)[:, :, 0], kernel[:, :, 0] + kernel[:, :, 1] + kernel[:, :, 2])
    for channels in (2, 4, 7):
        adapted = adapt_stem(kernel, channels)
        assert adapted.dtype == kernel.dtype
        for i in range(channels):
            np.testing.assert_allclose(adapted[:, :, i], kernel[:, :, i % 3] * 3 / channels, rtol=1e-6)


@on_one_backend
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
@pytest.mark.parametrize("name", families(FAMILIES, slow=FAMILIES.keys() - {"mobilenetv2", "resnet50v2"}))
def test_pretrained_stems_fit_gray_and_four_channels(name, imagenet):
    """A gray image gives what it gives in three colors; four channels read the first color twice, rescaled."""
    part = VARIANTS[name]
    imagenet(part)
    colors, gray, four = (
        build_encoder(part, image_shape=(64, 64, n), weights="imagenet", depth=1)[0] for n in (3, 1, 4)
    )
    x = image(64, 64, 1) / 255
    for a, b in zip(run(gray, x), run(colors, np.repeat(x, 3, axis=-1)), strict=True):
        assert relative_error(a, b) < 1e-4
    stem, adapted = (
        next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).get_weights()[0]
        for model in (colors, four)
    )
    np.testing.assert_allclose(adapted, stem[:, :, [0, 1, 2, 0]] * 0.75, rtol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize(("channels", "order"), [(1, [0]), (3, [2, 1, 0]), (4, [2, 1, 0, 3]), (6, [2, 1, 0, 5, 4, 3])])
def test_reverse_colors(channels, order):
    x = image(2, 2, channels)
    np.testing.assert_array_equal(ops.convert_to_numpy(ReverseColors()(x)), x[..., order])


# What cannot be -------------------------------------------------------------------------------------------------------


def test_what_keras_has_and_we_refuse():
    """No pyramid: the NASNets. No dilation: the Inceptions. ResNet v1 stands back behind v1.5, but is a part."""
    assert REFUSED.keys() == {"NASNetMobile", "NASNetLarge"}
    for name in ("nasnetmobile", "nasnetlarge"):
        with pytest.raises(ValueError, match=f"There is no encoder '{name}': its cells read the two cells before them"):
            kz.encoders.create(name)
    undilatable = {name for name, part in VARIANTS.items() if not part.dilatable}
    assert undilatable == {"inceptionv3", "inceptionresnetv2"}
    assert all(part.output_strides == (32, 16, 8) for name, part in VARIANTS.items() if name not in undilatable)
    version_1 = Application(function="ResNet50", preprocessing=VARIANTS["vgg16"].preprocessing)
    _, declared = build_encoder(version_1, image_shape=(None, None, 3), output_stride=8)
    assert declared == (2, 4, 8, 8, 8)


@pytest.mark.parametrize("function", sorted(REFUSED))
def test_nasnet_has_no_pyramid(function):
    part = VARIANTS["vgg16"]
    with pytest.raises(ValueError, match=f"{function} cannot be an encoder: its cells read the two cells before them"):
        dataclasses.replace(part, function=function)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no NASNet on PyTorch")
def test_the_reason_why_nasnet_is_refused_is_true():
    model = keras.applications.NASNetMobile(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    nodes, _ = trace(model)
    assert nodes[0].rows == 111
    assert set(pyramid(nodes, SIZE)) == {32}


def test_unknown_functions_are_named():
    preprocessing = VARIANTS["vgg16"].preprocessing
    with pytest.raises(ValueError, match=r"received 'VGG61'\. Did you mean .*'VGG16'"):
        Application(function="VGG61", preprocessing=preprocessing)
    with pytest.raises(ValueError, match="must be the name of a classifier"):
        Application(function="vgg16", preprocessing=preprocessing)  # a module


def test_output_strides_that_cannot_be():
    with pytest.raises(
        ValueError, match=r"InceptionV3's `output_stride` is one of \(32,\), received 16\. Its parallel"
    ):
        build_encoder(VARIANTS["inceptionv3"], image_shape=(32, 32, 3), output_stride=16)
    with pytest.raises(ValueError, match=r"VGG16's `output_stride` is one of \(32, 16, 8\), received 4\."):
        build_encoder(VARIANTS["vgg16"], image_shape=(32, 32, 3), output_stride=4)


@pytest.mark.parametrize(
    ("depth", "message"), [(7, "VGG16 has 1 to 6 levels, received depth=7"), (2.0, "`depth` .* received 2.0: write 2")]
)
def test_depths_that_cannot_be(depth, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(VARIANTS["vgg16"], image_shape=(32, 32, 3), depth=depth)


def test_depth_leaves_out_what_is_not_needed():
    model, declared = build_encoder(VARIANTS["vgg16"], image_shape=(32, 32, 3), depth=3)
    assert declared == (1, 2, 4)
    assert "block4_conv1" not in {layer.name for layer in model.layers}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_file_that_keras_downloaded_can_be_given_by_path(tmp_path):
    part = dataclasses.replace(VARIANTS["mobilenetv2"], alpha=0.35)
    donor = part.classifier(None)
    randomize(donor)
    donor.save(tmp_path / "notop.h5")
    model, _ = build_encoder(part, image_shape=(32, 32, 1), weights=tmp_path / "notop.h5")
    expected = donor.get_weights()
    expected[0] = expected[0].sum(axis=2, keepdims=True)
    for weight, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(weight, value)
    with pytest.raises(ValueError, match=r"notop\.h5 does not hold the weights of this encoder"):
        build_encoder(VARIANTS["mobilenetv2"], image_shape=(32, 32, 3), weights=tmp_path / "notop.h5")


def test_weights_of_another_architecture_are_refused(imagenet):
    part, narrow = (dataclasses.replace(VARIANTS["mobilenetv2"], alpha=alpha) for alpha in (0.5, 0.35))
    model, _ = build_encoder(narrow, image_shape=(32, 32, 3), depth=2)
    _, path = imagenet(part)
    with pytest.raises(ValueError, match="shape"):
        part.load_pretrained(model, path)
    x = keras.Input((32, 32, 3))
    foreign = keras.Model(x, layers.Conv2D(4, 3, name="foreign")(x))
    with pytest.raises(ValueError, match="no weights for the layer 'foreign'"):
        part.load_pretrained(foreign, path)
