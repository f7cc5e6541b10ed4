"""Models with `pyramid_outputs` as encoders: a backbone of our own, and KerasHub's where it is installed."""

import keras
import numpy as np
import pytest
from keras import layers

import kerazoo as kz
from kerazoo.encoders import strides
from kerazoo.encoders.build import build_encoder


def backbone_of(shape, strides=(2, 2), padding="same"):
    """A backbone whose level names are not logarithms of strides, coarse to fine."""
    image = x = keras.Input(shape)
    outputs = []
    for i, step in enumerate(strides):
        x = layers.Conv2D(4 + i, 3, strides=step, padding=padding, name=f"stage{i}")(x)
        outputs.append(x)
    backbone = keras.Model(image, x, name="backbone")
    backbone.pyramid_outputs = {f"P{9 - i}": output for i, output in reversed(list(enumerate(outputs)))}
    return backbone


def segment(backbone, **arguments):
    return kz.segmenter(backbone, kz.decoders.FPN(width=4, finest_stride=1), "linear", num_classes=2, **arguments)


def test_levels_are_sorted_by_measured_strides():
    backbone = backbone_of((None, None, 1), strides=(4, 2, 1))
    model = segment(backbone, image_shape=(None, None, 1))
    assert kz.encoders.strides(model.get_layer("encoder")) == [4, 8, 8]
    assert model.predict_on_batch(np.zeros((1, 45, 67, 1), "float32")).shape == (1, 45, 67, 2)


def test_a_segmenter_shares_the_weights_of_the_backbone():
    backbone = backbone_of((64, 32, 3))
    model = segment(backbone, image_shape=(64, 32, 3))
    shared = {id(weight) for weight in model.get_layer("encoder").weights}
    assert shared == {id(weight) for weight in backbone.weights}


def test_depth_keeps_the_finest_levels():
    model = segment(backbone_of((None, None, 3), strides=(2, 2, 2)), depth=2)
    assert kz.encoders.strides(model.get_layer("encoder")) == [2, 4]


def test_a_segmenter_with_an_outside_backbone_is_read_back(tmp_path):
    model = segment(backbone_of((None, None, 3)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((1, 33, 46, 3), dtype="float32")
    np.testing.assert_array_equal(model.predict_on_batch(x), loaded.predict_on_batch(x))


@pytest.mark.parametrize(
    ("shape", "image_shape", "message"),
    [
        ((64, 64, 3), (None, None, 3), r"built for images of \(64, 64\), and would get \(None, None\)\. Pass image_sh"),
        (
            (64, 64, 3),
            (32, 32, 3),
            r"built for images of \(64, 64\), and would get \(32, 32\)\. Pass image_sh",
        ),
        ((66, 66, 3), (66, 66, 3), r"built for images of \(66, 66\), which its strides do not divide\. Build it for a"),
        ((None, None, 1), (None, None, 3), r"'backbone' takes 1 channels, image_shape=\(None, None, 3\) has 3"),
    ],
)
def test_sizes_that_cannot_be(shape, image_shape, message):
    with pytest.raises(ValueError, match=message):
        segment(backbone_of(shape), image_shape=image_shape)


def test_strides_that_are_not_exact_are_refused():
    with pytest.raises(ValueError, match=r"output is \(31, 31\) for an image of \(64, 64\): that is no exact stride"):
        segment(backbone_of((64, 64, 3), padding="valid"), image_shape=(64, 64, 3))


@pytest.mark.parametrize(
    ("size", "steps"), [((48, 48), (8, 4)), ((48, 64), (4, 4, 2)), ((20, 20), (2, 2, 5)), ((32, 32), (32, 2))]
)
def test_strides_of_a_small_fixed_size_are_those_of_a_large_image(size, steps):
    backbone = backbone_of((*size, 1), steps)
    levels = keras.Model(backbone.inputs, [layer.output for layer in backbone.layers[1:]])
    assert kz.encoders.strides(levels) == np.cumprod(steps).tolist()


@pytest.mark.parametrize(("size", "patch"), [((98, 84), 14), ((42, 42), 7)])
def test_strides_of_a_model_for_its_own_size_alone_are_exact_where_they_can_be(size, patch):
    image = keras.Input((*size, 1))
    patches = layers.Conv2D(2, patch, strides=patch)(image)
    fixed = layers.Reshape(patches.shape[1:])(patches)
    assert kz.encoders.strides(keras.Model(image, fixed)) == [patch]


@pytest.mark.parametrize(("size", "patch"), [((98, 84), 14), ((42, 42), 7), ((50, 50), 14)])
def test_strides_of_patches(size, patch):
    mixer = kz.encoders.ConvMixer(width=4, blocks=1, kernel_size=3, patch_size=patch)
    assert kz.encoders.strides(build_encoder(mixer, image_shape=(*size, 3)).model) == [patch]


def test_levels_of_a_backbone_are_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr("kerazoo.encoders.backbone.strides", lambda model: measured.append(model) or strides(model))
    segment(backbone_of((None, None, 3)))
    assert len(measured) == 1


def test_tokens_are_no_maps():
    image = keras.Input((32, 32, 3))
    tokens = layers.Reshape((64, 4))(layers.Conv2D(4, 4, strides=4)(image))
    backbone = keras.Model(image, tokens, name="vit")
    backbone.pyramid_outputs = {"stage1": tokens}
    with pytest.raises(ValueError, match=r"'vit' has no maps: 'stage1' is \(None, 64, 4\).*Reshape the tokens"):
        segment(backbone, image_shape=(32, 32, 3))


def test_levels_named_by_layers_as_keras_cv_does():
    backbone = backbone_of((None, None, 3))
    del backbone.pyramid_outputs
    backbone.pyramid_level_inputs = {"P1": "stage0", "P2": "stage1"}
    assert kz.encoders.strides(segment(backbone).get_layer("encoder")) == [2, 4]


def test_a_backbone_without_levels_is_refused():
    backbone = backbone_of((None, None, 3))
    backbone.pyramid_outputs = {}
    with pytest.raises(ValueError, match="'backbone' has no levels: its `pyramid_outputs` are empty"):
        segment(backbone)


# KerasHub -------------------------------------------------------------------------------------------------------------

HUB = {  # class: arguments of a tiny one, name of its argument for the image's shape, strides of its levels
    "ResNetBackbone": (
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 64, 64, 64],
            "stackwise_num_blocks": [1, 1, 1, 1],
            "stackwise_num_strides": [1, 2, 2, 2],
            "block_type": "basic_block",
        },
        "image_shape",
        [4, 8, 16, 32],
    ),
    "EfficientNetBackbone": (
        {
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "stackwise_width_coefficients": [1.0] * 6,
            "stackwise_depth_coefficients": [1.0] * 6,
            "stackwise_kernel_sizes": [3] * 6,
            "stackwise_num_repeats": [1] * 6,
            "stackwise_input_filters": [8] * 6,
            "stackwise_output_filters": [8] * 6,
            "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
            "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25, 0.25],
            "stackwise_strides": [1, 2, 2, 2, 1, 2],
            "stackwise_block_types": ["fused"] * 3 + ["unfused"] * 3,
        },
        "input_shape",
        [2, 4, 8, 16, 32],
    ),
    "DenseNetBackbone": ({"stackwise_num_repeats": [1] * 4, "growth_rate": 4}, "image_shape", [4, 8, 16, 32]),
    "CSPNetBackbone": (
        {
            "stem_filters": 8,
            "stem_kernel_size": 3,
            "stem_strides": 1,
            "stem_padding": "same",
            "stackwise_depth": [1] * 5,
            "stackwise_strides": [2] * 5,
            "stackwise_num_filters": [8] * 5,
            "block_type": "dark_block",
            "stage_type": "dark",
        },
        "image_shape",
        [2, 4, 8, 16, 32],
    ),
    "MiTBackbone": (
        {
            "layerwise_depths": [1] * 4,
            "num_layers": 4,
            "layerwise_num_heads": [1] * 4,
            "layerwise_sr_ratios": [8, 4, 2, 1],
            "layerwise_patch_sizes": [7, 3, 3, 3],
            "layerwise_strides": [4, 2, 2, 2],
            "hidden_dims": [8, 8, 16, 16],
            "max_drop_path_rate": 0.0,
        },
        "image_shape",
        [4, 8, 16, 32],
    ),
}


@pytest.mark.backends
@pytest.mark.parametrize("name", HUB)
def test_backbones_of_keras_hub(name, tmp_path):
    hub = pytest.importorskip("keras_hub", reason="kerazoo[hub] is not installed", exc_type=ModuleNotFoundError)
    arguments, shape_argument, strides = HUB[name]
    shape = (64, 64, 3) if name == "MiTBackbone" else (None, None, 3)  # MiT reads its size when it is built
    backbone = getattr(hub.models, name)(**arguments, **{shape_argument: shape})
    model = segment(backbone, image_shape=shape)
    assert kz.encoders.strides(model.get_layer("encoder")) == strides
    x = np.random.default_rng(0).random((1, *(shape[:2] if shape[0] else (45, 67)), 3), dtype="float32")
    logits = model.predict_on_batch(x)
    assert logits.shape == (*x.shape[:3], 2)
    assert np.isfinite(logits).all()
    model.save(tmp_path / "model.keras")
    if name == "MiTBackbone":  # configurations of its layers hold what their constructors do not take
        with pytest.warns(UserWarning, match="build"), pytest.raises(TypeError, match="HierarchicalTransformerEncoder"):
            keras.models.load_model(tmp_path / "model.keras")
        return
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(x), logits, rtol=1e-5, atol=1e-5)
