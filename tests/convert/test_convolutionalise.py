"""Classifiers as heat maps: the same outputs at the size of training, every window of larger images."""

import keras
import numpy as np
import pytest
from keras import layers
from support.golden_rule import image
from support.tiers import on_one_backend

import kerazoo as kz

APPS = keras.applications


def random_weights(model, seed=0):
    """Weights with which layers differ and nothing vanishes, moving statistics included."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        value = weight
        if weight.name in ("gamma", "moving_variance", "variance"):
            value = generator.uniform(0.8, 1.2, weight.shape)
        elif weight.name != "count":
            value = generator.normal(0, 1 / np.sqrt(max(1, np.prod(weight.shape[:-1]))), weight.shape)
        weight.assign(value)
    return model


def valid_network(top, size=14):
    """Windows that see nothing beyond themselves: no padding, one stride of 2."""
    x = inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(6, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return random_weights(keras.Model(inputs, top(x), name="valid"))


def flat_top(x):
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = layers.Dense(10, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    return layers.Dense(4, activation="softmax")(x)


def average_top(x):
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(4, use_bias=False)(layers.LayerNormalization()(x))


def maximum_top(x):
    x = layers.GlobalMaxPooling2D(keepdims=True)(x)
    x = layers.Conv2D(4, 1)(x)
    return layers.Softmax()(layers.Reshape((4,))(x))


@pytest.mark.parametrize("top", [pytest.param(flat_top, marks=pytest.mark.backends), average_top, maximum_top])
def test_the_map_is_the_classifier_at_every_window(top):
    classifier = valid_network(top)
    heat = kz.pretrained.convolutionalise(classifier)
    assert heat.output_shape == (None, None, None, 4)
    x = image(0, (2, 17, 20, 3))
    found = heat.predict_on_batch(x)
    assert found.shape == (2, 2, 4, 4)
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            window = x[:, 2 * row : 2 * row + 14, 2 * column : 2 * column + 14]
            expected = classifier.predict_on_batch(window)
            np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-4, atol=1e-5)


@on_one_backend
@pytest.mark.parametrize(
    ("family", "size", "stride"),
    [
        ("VGG16", 64, 32),
        ("MobileNet", 64, 32),
        ("MobileNetV3Small", 64, 32),
        pytest.param("VGG19", 32, 32, marks=pytest.mark.slow),
        pytest.param("ResNet50", 64, 32, marks=pytest.mark.slow),
        pytest.param("ResNet50V2", 64, 32, marks=pytest.mark.slow),
        pytest.param("MobileNetV2", 64, 32, marks=pytest.mark.slow),
        pytest.param("MobileNetV3Large", 64, 32, marks=pytest.mark.slow),
        pytest.param("EfficientNetB0", 64, 32, marks=pytest.mark.slow),
        pytest.param("EfficientNetV2B0", 64, 32, marks=pytest.mark.slow),
        pytest.param("DenseNet121", 64, 32, marks=pytest.mark.slow),
        pytest.param("ConvNeXtTiny", 64, 32, marks=pytest.mark.slow),
        pytest.param("Xception", 96, 32, marks=pytest.mark.slow),
        pytest.param("InceptionV3", 107, None, marks=pytest.mark.slow),
        pytest.param("InceptionResNetV2", 107, None, marks=pytest.mark.slow),
    ],
)
def test_families_give_their_outputs_at_the_size_of_training(family, size, stride):
    if family.startswith("VGG"):  # with a top that is not as wide as the original's
        base = getattr(APPS, family)(weights=None, include_top=False, input_shape=(size, size, 3))
        x = layers.Dense(64, activation="relu", name="fc1")(layers.Flatten()(base.output))
        classifier = keras.Model(base.input, layers.Dense(5, activation="softmax", name="predictions")(x))
    else:
        classifier = getattr(APPS, family)(weights=None, input_shape=(size, size, 3), classes=5)
    classifier = random_weights(classifier)
    heat = kz.pretrained.convolutionalise(classifier)
    x = 255 * image(1, (2, size, size, 3))
    found, expected = heat.predict_on_batch(x), classifier.predict_on_batch(x)
    assert found.shape == (2, 1, 1, 5)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-3, atol=1e-5)
    if stride is not None:
        larger = heat.predict_on_batch(255 * image(1, (1, size + 2 * stride, size + stride, 3)))
        assert larger.shape == (1, 3, 2, 5)
        np.testing.assert_allclose(larger.sum(axis=-1), 1, rtol=1e-4)


@pytest.fixture(scope="module")
def base():
    x = inputs = keras.Input((None, None, 3), name="pixels")
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    return random_weights(keras.Model(inputs, layers.ReLU(name="relu")(x), name="base"))


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_inside_is_taken_apart(base, kind):
    if kind == "functional":
        inputs = keras.Input((16, 16, 3))
        x = layers.Rescaling(1 / 255)(inputs)
        x = layers.GlobalAveragePooling2D()(base(x))
        classifier = keras.Model(inputs, layers.Dense(3)(x))
    else:
        classifier = keras.Sequential(
            [keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), base, layers.Flatten(), layers.Dense(3)]
        )
    heat = kz.pretrained.convolutionalise(classifier)
    x = 255 * image(2, (2, 16, 16, 3))
    np.testing.assert_allclose(heat.predict_on_batch(x)[:, 0, 0], classifier.predict_on_batch(x), rtol=1e-4, atol=1e-5)
    assert heat.predict_on_batch(np.zeros((1, 20, 16, 3))).shape == (1, 3, 1, 3)
    heat.get_layer("conv").kernel.assign(0 * heat.get_layer("conv").kernel)
    assert np.abs(keras.ops.convert_to_numpy(base.get_layer("conv").kernel)).max() > 0, "weights are copies"


def test_layers_may_be_part_of_other_models_too():
    classifier = valid_network(flat_top)
    classifier.get_layer(index=1)(keras.Input((30, 30, 3)))
    heat = kz.pretrained.convolutionalise(classifier)
    x = image(2, (1, 14, 14, 3))
    np.testing.assert_allclose(heat.predict_on_batch(x)[:, 0, 0], classifier.predict_on_batch(x), rtol=1e-4, atol=1e-5)


def test_a_classifier_of_any_size_needs_the_size(base):
    classifier = keras.Model(base.input, layers.Dense(3)(layers.GlobalAveragePooling2D()(base.output)), name="any_size")
    with pytest.raises(ValueError, match="'any_size' takes images of every size: pass the `image_size`"):
        kz.pretrained.convolutionalise(classifier)
    heat = kz.pretrained.convolutionalise(classifier, image_size=(16, 24))
    x = image(3, (1, 16, 24, 3))
    np.testing.assert_allclose(heat.predict_on_batch(x)[:, 0, 0], classifier.predict_on_batch(x), rtol=1e-4, atol=1e-5)


def test_it_saves_and_exports_with_any_size(tmp_path):
    import tensorflow as tf

    heat = kz.pretrained.convolutionalise(valid_network(flat_top))
    path = tmp_path / "heat.keras"
    heat.save(path)
    x = image(4, (1, 20, 17, 3))
    expected = heat.predict_on_batch(x)
    np.testing.assert_allclose(keras.models.load_model(path).predict_on_batch(x), expected, rtol=1e-5, atol=1e-6)
    heat.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    for size in [(14, 14), (20, 17)]:
        x = image(4, (1, *size, 3))
        np.testing.assert_allclose(served.serve(x), heat.predict_on_batch(x), rtol=1e-4, atol=1e-5)


def two_inputs():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Add()([a, b]))), name="two")


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def pipe(*tops, size=8):
    x = inputs = keras.Input((size, size, 3))
    for layer in (layers.Conv2D(4, 3, name="conv"), *tops):
        x = layer(x)
    return keras.Model(inputs, x, name="pipe")


def residual_top(x):
    x = layers.Dense(8)(layers.GlobalAveragePooling2D()(x))
    return layers.Add(name="sum")([x, layers.Dense(8)(x)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: "vgg16", TypeError, "must be a functional or a built sequential Keras model, received 'vgg16'"),
        (Subclassed, TypeError, "Other kinds have no graph to read"),
        (two_inputs, ValueError, r"'two' must take one image .* shapes \[\(None, 8, 8, 3\), \(None, 8, 8, 3\)"),
        (lambda: pipe(layers.Conv2D(2, 1)), ValueError, "'pipe' must take one image"),
        (lambda: pipe(layers.GlobalAveragePooling2D()), ValueError, "'pipe' has no dense layer after 'global_average"),
        (lambda: pipe(layers.Reshape((144,)), layers.Dense(2)), ValueError, "'pipe' has no layer of GlobalAverage"),
        (
            lambda: pipe(layers.Flatten(), layers.BatchNormalization(name="bn"), layers.Dense(2)),
            ValueError,
            "The layer 'bn', a BatchNormalization between flattening and dense layer of the classifier, has no counter",
        ),
        (
            lambda: pipe(layers.Flatten(), layers.Softmax(name="soft"), layers.Dense(2)),
            ValueError,
            "'soft', a Softmax between flattening",
        ),
        (
            lambda: pipe(layers.Flatten(), layers.Dense(4), layers.UnitNormalization(name="unit")),
            ValueError,
            "The layer 'unit', a UnitNormalization in the top of the classifier",
        ),
        (
            lambda: pipe(layers.Flatten(), layers.Dense(4), layers.Reshape((2, 2), name="square"), layers.Flatten()),
            ValueError,
            "The layer 'square', a Reshape in the top",
        ),
        (lambda: valid_network(residual_top), ValueError, "The layer 'sum', a Add in the top of the classifier"),
    ],
)
def test_what_it_cannot_do_is_named(make, error, message):
    with pytest.raises(error, match=message):
        kz.pretrained.convolutionalise(make())


def test_another_size_than_the_classifier_was_built_for():
    with pytest.raises(ValueError, match=r"'valid' was built for images of \(14, 14\), received image_size=\(20, 20\)"):
        kz.pretrained.convolutionalise(valid_network(flat_top), image_size=(20, 20))
