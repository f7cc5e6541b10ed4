"""Classifier and segmenter as one model: what is rejected is empty, everything else is the segmenter's."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block
from kerazoo.inference import TwoStage
from kerazoo.layers import AntialiasResize, ImageGate

pytestmark = pytest.mark.backends
TINY = kz.encoders.ResNet(
    block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8
)  # every code path of a ResNet-18, built in a fraction of the time

SMALL = kz.encoders.ResNet(block=basic_block, depths=(1,), widths=(8,), expansion=1, stem_width=8)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def softmax(x):
    e = np.exp(np.asarray(x, "float64"))
    return e / e.sum(-1, keepdims=True)


def tiny_segmenter(**options):
    return kz.segmenter(
        TINY, kz.decoders.UNet(widths=(8,)), "linear", **{"num_classes": 1, "depth": 2, "pad": False, **options}
    )


def brightness(channels=1, size=(None, None), offset=-128.0):
    """A classifier whose logit is the mean of the image minus 128: bright images show something."""
    image = keras.Input((*size, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    weights = np.full((3, channels), 1 / 3, "float32")
    dense = keras.layers.Dense(channels)
    logits = dense(mean)
    dense.set_weights([weights, np.full(channels, offset, "float32")])
    return keras.Model(image, logits)


def bright_and_dark(size=(33, 47)):
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 100, (2, *size, 3))
    return np.stack([dark[0], 255 - dark[0], dark[1], 255 - dark[1]]).astype("uint8")


@pytest.fixture(scope="module")
def stages():
    keras.utils.set_random_seed(0)
    return brightness(), tiny_segmenter(aux=True, label_head=True)


@pytest.fixture(scope="module")
def model(stages):
    return TwoStage(*stages)


def test_rejected_images_are_empty_and_the_others_are_the_segmenters(model, stages):
    for size in ((33, 47), (32, 40)):
        images = bright_and_dark(size)
        outputs, alone = model.predict_on_batch(images), stages[1].predict_on_batch(images)
        assert set(outputs) == {"mask", "label"}
        assert outputs["mask"].shape == (4, *size, 1)
        np.testing.assert_allclose(outputs["mask"][[1, 3]], alone["mask"][[1, 3]], atol=1e-5)
        assert (sigmoid(outputs["mask"][[0, 2]]) < 1e-12).all()
        np.testing.assert_allclose(outputs["label"], stages[0].predict_on_batch(images), rtol=1e-5)
    assert {layer.name for layer in model.layers} == {"image", "classifier", "segmenter", "gate"}


def test_predict_gives_an_empty_mask_and_the_label(model):
    predictions = kz.inference.predict(model, bright_and_dark(), threshold=1e-6)
    assert [bool(prediction.mask.any()) for prediction in predictions] == [False, True, False, True]
    assert [prediction.score < 1e-12 for prediction in predictions] == [True, False, True, False]
    assert [round(float(prediction.label[0])) for prediction in predictions] == [0, 1, 0, 1]


def test_evaluate_counts_what_the_gate_leaves(model):
    """Truth: every pixel of every image is foreground. The segmenter alone would find some in the dark images too."""
    images = bright_and_dark()
    losses = {"mask": kz.losses.CrossEntropy(), "label": keras.losses.BinaryCrossentropy(from_logits=True)}
    model.compile(loss=losses, metrics={"mask": [kz.metrics.Recall(1, threshold=1e-11)]})
    truth = {"mask": np.ones((4, 33, 47), "int32"), "label": np.array([[0.0], [1], [0], [1]])}
    logs = model.evaluate(images, truth, verbose=0, return_dict=True)
    assert logs["mask_recall"] == pytest.approx(0.5)


def test_image_threshold_is_a_probability_of_the_image(stages):
    images = np.full((1, 32, 32, 3), 129, "uint8")  # logit 1, probability 0.731
    alone = stages[1].predict_on_batch(images)["mask"]
    for threshold, passes in ((0.73, True), (0.74, False), (0.0, True)):
        outputs = TwoStage(*stages, image_threshold=threshold).predict_on_batch(images)
        assert np.allclose(outputs["mask"], alone, atol=1e-5) == passes, threshold


GATES = {  # label logits of one image, arguments, its probability of foreground
    "one class": ([0.4], {}, sigmoid(0.4)),
    "classes of their own": ([3.0, -1.0, 0.2], {}, sigmoid(0.2)),
    "exclusive classes": ([0.5, -1.0, 0.2], {"exclusive": True}, 1 - softmax([0.5, -1.0, 0.2])[0]),
}


@pytest.mark.parametrize("num_classes", [1, 4])
@pytest.mark.parametrize("case", GATES)
def test_gate(case, num_classes):
    label, options, probability = GATES[case]
    label = np.array([label], "float32")
    mask = np.random.default_rng(0).normal(size=(1, 3, 5, num_classes)).astype("float32")
    for step, passes in ((-0.01, True), (0.01, False)):
        gate = ImageGate(image_threshold=probability + step, **options)
        gated, logits = (keras.ops.convert_to_numpy(x) for x in gate(mask, label))
        if passes:
            np.testing.assert_array_equal(gated, mask)
        else:
            background = 1 - sigmoid(gated[..., 0]) if num_classes == 1 else softmax(gated)[..., 0]
            assert (background > 1 - 1e-12).all()
        each = softmax(label) if options else sigmoid(label)
        np.testing.assert_allclose(sigmoid(logits), each, rtol=1e-5)


class TestHarness(TestCase):
    """Keras's own checks of a layer."""

    def test_layers(self):
        common = {"expected_num_trainable_weights": 0, "expected_num_non_trainable_weights": 0}
        common |= {"expected_num_losses": 0, "supports_masking": False}
        shapes = {"logits_shape": (2, 4, 5, 3), "label_shape": (2, 3)}
        options = {"image_threshold": 0.3, "exclusive": True}
        self.run_layer_test(
            ImageGate, options, shapes, expected_output_shape=((2, 4, 5, 3), (2, 3)), run_training_check=False, **common
        )
        self.run_layer_test(
            AntialiasResize,
            {"size": (3, 8)},
            (2, 4, 5, 3),
            expected_output_shape=(2, 3, 8, 3),
            run_training_check=False,
            **common,
        )


def test_an_image_whose_label_is_not_a_number_passes():
    mask = np.ones((2, 1, 1, 1), "float32")
    gated, _ = ImageGate()(mask, np.array([[np.nan], [-9.0]], "float32"))
    assert keras.ops.convert_to_numpy(gated)[:, 0, 0, 0].tolist() == [1, -30]


def test_the_classifier_sees_images_of_its_own_size(stages):
    """Of one that was built for it, and of one that takes any; shrunk as PIL does it before training."""
    image_module = pytest.importorskip("PIL.Image")
    images = bright_and_dark((32, 48))
    small = np.stack(
        [image_module.fromarray(image).resize((10, 16), image_module.Resampling.BILINEAR) for image in images]
    )
    peak = keras.Input((None, None, 3))
    any_size = keras.Model(peak, keras.layers.GlobalMaxPooling2D()(peak)[:, :1])  # a maximum tells how it was shrunk
    fixed_input = keras.Input((16, 10, 3))
    fixed = keras.Model(fixed_input, keras.layers.GlobalMaxPooling2D()(fixed_input)[:, :1])
    for stage, options in ((any_size, {"classifier_size": (16, 10)}), (fixed, {})):
        outputs = TwoStage(stage, stages[1], **options).predict_on_batch(images)
        np.testing.assert_allclose(outputs["label"][:, 0], small[..., 0].max((1, 2)), atol=1)  # PIL rounds to 8 bits


@pytest.mark.parametrize("size", [(5, 7), (24, 3), (11, 16), (40, 40)])
def test_antialias_resize_is_pils(size):
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).random((11, 16, 2)).astype("float32")
    channels = [
        image_module.fromarray(image[..., c]).resize(size[::-1], image_module.Resampling.BILINEAR) for c in range(2)
    ]
    resized = keras.ops.convert_to_numpy(AntialiasResize(size)(image[None]))[0]
    np.testing.assert_allclose(resized, np.stack(channels, -1), atol=1e-5)


def test_a_segmenter_with_a_label_head_may_be_both_and_runs_once():
    segmenter = tiny_segmenter(num_classes=3, label_head=True)
    model = TwoStage(segmenter, segmenter, image_threshold=1.0)
    assert model.count_params() == segmenter.count_params()
    outputs = model.predict_on_batch(bright_and_dark())
    assert (softmax(outputs["mask"])[..., 0] > 0.999).all()
    assert outputs["label"].shape == (4, 3)


def test_reload_and_a_classifier_of_ours(tmp_path):
    classifier = kz.classifier(SMALL, num_classes=3)
    segmenter = tiny_segmenter(num_classes=3)
    encoder = classifier.get_layer("encoder")
    assert classifier.count_params() == encoder.count_params() + 8 * 3 + 3
    assert classifier.output_shape == (None, 3)
    model = TwoStage(classifier, segmenter, image_threshold=0.4, exclusive=True, classifier_size=(32, 32))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = bright_and_dark()
    expected, received = model.predict_on_batch(images), loaded.predict_on_batch(images)
    for key in ("mask", "label"):
        np.testing.assert_allclose(received[key], expected[key], rtol=1e-5, atol=1e-5)


def test_mixed_precision_leaves_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    classifier, segmenter = kz.classifier(SMALL, num_classes=1), tiny_segmenter()
    outputs = TwoStage(classifier, segmenter, classifier_size=(32, 32)).predict_on_batch(bright_and_dark())
    assert {value.dtype.name for value in outputs.values()} == {"float32"}


def test_misfits_are_named(stages):
    classifier, segmenter = stages
    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    probability = keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(pooled))
    with pytest.raises(ValueError, match=r"`classifier` must give logits, and its last layer applies a sigmoid"):
        TwoStage(probability, segmenter)
    with pytest.raises(ValueError, match=r"`classifier` must give logits, and its last layer applies a softmax"):
        TwoStage(keras.Model(image, keras.layers.Softmax()(pooled)), segmenter)
    with pytest.raises(ValueError, match=r"`segmenter` must give logits \(B, H, W, num_classes\), .* its output is \("):
        TwoStage(classifier, classifier)
    with pytest.raises(ValueError, match=r"`classifier` must give logits \(B, num_classes\), .* its output is \("):
        TwoStage(tiny_segmenter(), segmenter)
    with pytest.raises(ValueError, match=r"`segmenter` takes 1 channels and `classifier` 3"):
        TwoStage(classifier, tiny_segmenter(image_shape=(None, None, 1)))
    with pytest.raises(ValueError, match=r"`classifier_size` is \(8, 8\), but `classifier` takes images of \(16, 10\)"):
        TwoStage(brightness(size=(16, 10)), segmenter, classifier_size=(8, 8))
    with pytest.raises(ValueError, match=r"`image_threshold` is a probability and must be in \[0, 1\], received 2"):
        TwoStage(classifier, segmenter, image_threshold=2)
    with pytest.raises(ValueError, match=r"`exclusive=True` is for labels of two or more classes, received 1"):
        TwoStage(classifier, segmenter, exclusive=True)
    with pytest.raises(
        ValueError, match=r"`classifier` must be a functional Keras model with one input, .* received 3"
    ):
        TwoStage(3, segmenter)
