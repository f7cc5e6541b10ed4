"""Each fault planted on its own is found by `kerazoo.doctor`, and a healthy set-up is silent."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from support.doctor_cases import LOGITS, SIZE, compiled, examine, images, masks, one_hot, plain

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block


@pytest.fixture(scope="module")
def encoder():
    return kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), expansion=1, stem_width=8)


@pytest.mark.backends
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("heads", [False, True])
def test_a_healthy_segmenter_is_silent(encoder, classes, heads):
    decoder = kz.decoders.UNet(widths=(8,))
    model = kz.segmenter(encoder, decoder, "linear", num_classes=classes, depth=2, label_head=heads, aux=heads)
    loss = kz.losses.CrossEntropy(ignore_class=255) + 0.1 * kz.losses.ForegroundDice(ignore_class=255)
    metrics = [kz.metrics.IoU(classes, ignore_class=255), kz.metrics.ImageAUC(ignore_class=255)]
    truth = masks(classes=classes)
    truth[1, :3] = 255
    if heads:
        loss = kz.losses.deep_supervision(loss, model) | {"label": LOGITS}
        metrics = {"mask": metrics, "label": [keras.metrics.BinaryAccuracy(threshold=0.0)]}
        truth = dict.fromkeys(model.output, truth) | {"label": np.ones((8, classes), np.float32)}
    report = examine(compiled(model, loss, metrics=metrics), (images(), truth))
    assert report.findings == ()
    assert report.ok
    report.raise_for_errors()
    assert (report.batches, report.images) == (1, 8)


HEALTHY = {
    "plain": lambda: (compiled(plain()), (images(), masks())),
    "binary, with its last axis": lambda: (compiled(plain()), (images(), masks()[..., None])),
    "bce of logits": lambda: (compiled(plain(), LOGITS), (images(), masks())),
    "bce by name": lambda: (compiled(plain(activation="sigmoid"), "binary_crossentropy"), (images(), masks())),
    "softmax": lambda: (
        compiled(plain(3, activation="softmax"), "sparse_categorical_crossentropy", metrics=["accuracy"]),
        (images(), masks(classes=3)),
    ),
    "one-hot": lambda: (
        compiled(plain(3), keras.losses.CategoricalCrossentropy(from_logits=True)),
        (images(), one_hot(masks(classes=3), 3)),
    ),
    "a function": lambda: (
        compiled(plain(), lambda y, x: keras.ops.mean(keras.ops.square(y - x), axis=-1)),
        (images(), masks()),
    ),
    "a function as a metric": lambda: (
        compiled(plain(), metrics=[keras.metrics.mean_squared_error]),
        (images(), masks()),
    ),
    "a zero last layer": lambda: (compiled(plain(last=lambda x: layers.Rescaling(0.0)(x))), (images(), masks())),
    "weights": lambda: (
        compiled(plain(), kz.losses.BoundaryWeighted()),
        (images(), masks(), np.ones((8, SIZE, SIZE), np.float32)),
    ),
    "no normalization, small values": lambda: (
        compiled(plain(before=False)),
        (images().astype("float32") / 127.5 - 1, masks()),
    ),
    "a schedule that starts at 0": lambda: (
        compiled(
            plain(),
            optimizer=keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=1e-3, warmup_steps=2)
            ),
        ),
        (images(), masks()),
    ),
    "boolean masks": lambda: (compiled(plain()), (images(), masks() > 0)),
    "batches of one, group norm": lambda: (
        compiled(keras.Sequential([keras.Input((None, None, 3)), layers.Rescaling(1 / 255), layers.Conv2D(1, 1)])),
        [(images(8)[i : i + 1], masks(8)[i : i + 1]) for i in range(8)],
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_right_is_not_reported(name):
    report = examine(*HEALTHY[name]())
    assert report.findings == (), str(report)


def void(truth):
    truth = truth.copy()
    truth[:, 0] = 255
    return truth


def first_changed(array, value, dtype=None):
    array = array.astype(dtype or array.dtype)
    array[0] = value
    return array


def frozen(model, *names):
    for layer in model.layers:
        layer.trainable = layer.name not in names
    return model


TWO = {"mask": masks(), "label": np.ones((8, 1), np.float32)}


def two_heads(loss, metrics=None):
    image = keras.Input((None, None, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255)(image)))
    outputs = {
        "mask": layers.Conv2D(1, 1)(x),
        "label": layers.Dense(1)(layers.GlobalAveragePooling2D()(x)),
    }
    return compiled(keras.Model(image, outputs), loss, metrics=metrics)


BOTH = {"mask": kz.losses.CrossEntropy(), "label": LOGITS}
CE = kz.losses.CrossEntropy

# What is planted: the code it must be reported under, its severity, words of the message or the fix, model and dataset.
FAULTS = [
    # the model and its optimizer
    ("not-compiled", "error", "model.compile", lambda: (plain(), (images(), masks()))),
    ("no-loss", "error", "without a loss", lambda: (_compiled_without_loss(), (images(), masks()))),
    (
        "nothing-trainable",
        "error",
        "unfreeze",
        lambda: (compiled(frozen(plain(), "first", "norm", "last")), (images(), masks())),
    ),
    ("frozen-random", "warning", "'first'", lambda: (compiled(frozen(plain(), "first", "norm")), (images(), masks()))),
    (
        "batchnorm-one-image",
        "warning",
        "group",
        lambda: (compiled(plain()), [(images(1), masks(2)[1:]), (images(2)[1:], masks(4)[3:])]),
    ),
    ("learning-rate-high", "warning", "diverges", lambda: (_with_rate(1.0), (images(), masks()))),
    ("learning-rate-low", "warning", "hardly", lambda: (_with_rate(1e-9), (images(), masks()))),
    ("learning-rate-zero", "error", "nothing is learned", lambda: (_with_rate(0.0), (images(), masks()))),
    # the images
    (
        "images-shape",
        "error",
        r"images\[..., None\]",
        lambda: (compiled(plain(channels=1)), (images()[..., 0], masks())),
    ),
    ("images-shape", "error", "batch", lambda: (compiled(plain()), list(zip(images(), masks(), strict=True)))),
    ("channels", "error", "4 channels", lambda: (compiled(plain()), (images(channels=4), masks()))),
    (
        "channels-first",
        "error",
        "moveaxis",
        lambda: (compiled(plain()), (np.moveaxis(images(), -1, 1), masks())),
    ),
    ("image-size", "error", "takes 8x8 only", lambda: (compiled(plain(size=8)), (images(), masks()))),
    (
        "images-not-finite",
        "error",
        "1 of 8 images",
        lambda: (compiled(plain()), (first_changed(images(), np.nan, "float32"), masks())),
    ),
    ("images-constant", "note", "1 of 8 images", lambda: (compiled(plain()), (first_changed(images(), 7), masks()))),
    ("images-constant", "error", "all 8 images", lambda: (compiled(plain()), (images() * 0 + 9, masks()))),
    (
        "images-twice",
        "note",
        "1 of 8",
        lambda: (compiled(plain()), (first_changed(images(), images()[2]), masks())),
    ),
    (
        "same-image-other-mask",
        "warning",
        "paired",
        lambda: (compiled(plain()), (first_changed(images(), images()[1]), masks())),
    ),
    (
        "range-0-1",
        "error",
        "leave 'rescaling",
        lambda: (compiled(plain()), (images().astype("float32") / 255, masks())),
    ),
    (
        "range-negative",
        "error",
        "second time",
        lambda: (compiled(plain()), (images().astype("float32") / 127.5 - 1, masks())),
    ),
    ("range-above-255", "error", "uint16", lambda: (compiled(plain()), (images().astype("uint16") * 257, masks()))),
    ("range-raw", "warning", "Rescaling", lambda: (compiled(plain(before=False)), (images(), masks()))),
    # outputs and losses
    ("double-activation", "error", "sigmoid", lambda: (compiled(plain(activation="sigmoid")), (images(), masks()))),
    (
        "double-activation",
        "error",
        "from_logits=False",
        lambda: (compiled(plain(last=keras.ops.sigmoid), LOGITS), (images(), masks())),
    ),
    (
        "double-activation",
        "error",
        "softmax",
        lambda: (compiled(plain(3, last=layers.Softmax())), (images(), masks(classes=3))),
    ),
    (
        "double-activation",
        "error",
        "softmax",
        lambda: (compiled(plain(3, last=Hidden())), (images(), masks(classes=3))),
    ),
    ("bounded-logits", "error", "relu", lambda: (compiled(plain(activation="relu")), (images(), masks()))),
    (
        "logits-for-probabilities",
        "error",
        "from_logits=True",
        lambda: (compiled(plain(), "binary_crossentropy"), (images(), masks())),
    ),
    (
        "logits-for-probabilities",
        "error",
        "Dice",
        lambda: (compiled(plain(), keras.losses.Dice()), (images(), masks()[..., None])),
    ),
    ("softmax-of-one", "error", "which is 1", lambda: (compiled(plain(activation="softmax")), (images(), masks()))),
    (
        "one-channel-softmax",
        "error",
        "num_classes=2",
        lambda: (compiled(plain(), keras.losses.SparseCategoricalCrossentropy(from_logits=True)), (images(), masks())),
    ),
    (
        "loss-fails",
        "error",
        "class_weights",
        lambda: (compiled(plain(3), CE(class_weights=(1, 2))), (images(), masks(classes=3))),
    ),
    (
        "outputs-not-finite",
        "error",
        "loaded",
        lambda: (compiled(plain(last=lambda x: keras.ops.log(x - x))), (images(), masks())),
    ),
    (
        "logits-16-bit",
        "warning",
        "dtype=",
        lambda: (compiled(plain(last=lambda x: keras.ops.cast(x, "float16"))), (images(), masks())),
    ),
    (
        "unknown-output",
        "error",
        "'maks'",
        lambda: (two_heads({"maks": CE(), "mask": CE(), "label": LOGITS}), (images(), TWO)),
    ),
    ("loss-unnamed", "error", "mask, label", lambda: (two_heads([CE()]), (images(), TWO))),
    ("metrics-unnamed", "error", "compile", lambda: (two_heads(BOTH, [kz.metrics.IoU(1)]), (images(), TWO))),
    ("output-without-loss", "warning", "no loss for label", lambda: (two_heads({"mask": CE()}), (images(), TWO))),
    ("loss-fails", "error", "'label'", lambda: (two_heads(CE()), (images(), TWO))),
    (
        "metric-fails",
        "error",
        "'label'",
        lambda: (two_heads(BOTH, {"label": [kz.metrics.IoU(1)]}), (images(), TWO)),
    ),
    (
        "metric-fails",
        "error",
        "num_classes",
        lambda: (compiled(plain(3), metrics=[kz.metrics.IoU(4)]), (images(), masks(classes=3))),
    ),
    ("metric-on-logits", "warning", "0.5", lambda: (compiled(plain(), metrics=["accuracy"]), (images(), masks()))),
    (
        "metric-on-logits",
        "warning",
        "from_logits",
        lambda: (compiled(plain(), metrics=[keras.metrics.AUC()]), (images(), masks())),
    ),
    (
        "metric-wants-ids",
        "error",
        "MeanIoU",
        lambda: (compiled(plain(3), metrics=[keras.metrics.MeanIoU(3)]), (images(), masks(classes=3))),
    ),
    (
        "metric-ignore-class",
        "warning",
        "ignore_class=255",
        lambda: (compiled(plain(), CE(ignore_class=255), metrics=[kz.metrics.IoU(1)]), (images(), void(masks()))),
    ),
    (
        "weights-missing",
        "error",
        "boundary",
        lambda: (compiled(plain(), kz.losses.BoundaryWeighted()), (images(), masks())),
    ),
    (
        "weights-zero",
        "error",
        "all sample weights",
        lambda: (compiled(plain(), CE()), (images(), masks(), np.zeros(8))),
    ),
    ("weights-negative", "error", "at least 0", lambda: (compiled(plain(), CE()), (images(), masks(), -np.ones(8)))),
    (
        "loss-fails",
        "error",
        "weighted=False",
        lambda: (compiled(plain()), (images(), masks(), np.ones((8, SIZE, SIZE)))),
    ),
    # the targets
    ("no-batches", "error", "empty", lambda: (compiled(plain()), [])),
    ("no-targets", "error", "images only", lambda: (compiled(plain()), [images()])),
    ("targets-not-dict", "error", "outputs=model", lambda: (two_heads(BOTH), (images(), masks()))),
    ("targets-keys", "error", "lack label", lambda: (two_heads(BOTH), (images(), {"mask": masks()}))),
    ("targets-keys", "error", "have id", lambda: (two_heads(BOTH), (images(), TWO | {"id": np.ones(8)}))),
    ("batch-size", "error", "8 images and 6 targets", lambda: (compiled(plain()), [(images(), masks(6))])),
    ("mask-size", "error", "nearest", lambda: (compiled(plain()), (images(), masks()[:, ::2, ::2]))),
    ("mask-size", "error", "exchanged", lambda: (compiled(plain()), (images()[:, :8], masks()[:, :, :8]))),
    ("mask-channels-first", "error", r"masks\[:, 0\]", lambda: (compiled(plain()), (images(), masks()[:, None]))),
    (
        "one-hot-masks",
        "error",
        r"argmax\(-1\)",
        lambda: (compiled(plain(3)), (images(), one_hot(masks(classes=3), 3))),
    ),
    (
        "targets-not-one-hot",
        "error",
        "CrossEntropy",
        lambda: (
            compiled(plain(3), keras.losses.CategoricalCrossentropy(from_logits=True)),
            (images(), masks(classes=3)),
        ),
    ),
    ("targets-not-one-hot", "error", "1 channel,", lambda: (compiled(plain(3), LOGITS), (images(), masks(classes=3)))),
    (
        "labels-not-exclusive",
        "error",
        "exactly one",
        lambda: (
            compiled(plain(3), keras.losses.CategoricalCrossentropy(from_logits=True)),
            (images(), np.ones((8, SIZE, SIZE, 3), np.float32)),
        ),
    ),
    ("labels-fractional", "error", "divided", lambda: (compiled(plain()), (images(), masks().astype("float32") / 255))),
    ("labels-outside", "error", "divide masks by 255", lambda: (compiled(plain()), (images(), masks() * 255))),
    ("labels-outside", "error", "ignore_class=255", lambda: (compiled(plain()), (images(), void(masks())))),
    ("labels-outside", "error", "num_classes=3", lambda: (compiled(plain()), (images(), masks(classes=3)))),
    ("labels-outside", "error", "0 to 255", lambda: (compiled(plain(), LOGITS), (images(), masks() * 255))),
    ("labels-outside", "error", "0 to 2", lambda: (two_heads(BOTH), (images(), TWO | {"label": 2 * np.eye(8)[:, :1]}))),
    ("all-ignored", "error", "8 masks", lambda: (compiled(plain(), CE(ignore_class=1)), (images(), masks() * 0 + 1))),
    ("no-foreground", "error", "all of them", lambda: (compiled(plain()), (images(), masks() * 0))),
    (
        "no-foreground",
        "warning",
        "sampler",
        lambda: (compiled(plain()), [(images(72)[i::9], masks(8) * 0) for i in range(9)]),
    ),
    ("mostly-empty", "warning", "19 of 20", lambda: (compiled(plain()), (images(20), _one_foreground(20)))),
    ("no-background", "warning", "inverted", lambda: (compiled(plain()), (images(), masks() * 0 + 1))),
    ("classes-unseen", "note", "class 3", lambda: (compiled(plain(4)), (images(), masks(classes=3)))),
    (
        "empty-images-unseen",
        "warning",
        "1 of 2 batches",
        lambda: (compiled(plain(), kz.losses.SoftDice()), [(images(4), masks(4)), (images(8)[4:6], masks(2) * 0)]),
    ),
    (
        "empty-images-unseen",
        "warning",
        "the same whatever is predicted",
        lambda: (compiled(plain(), kz.losses.SoftDice(empty="one")), (images(), masks())),
    ),
    ("model-fails", "error", "cannot be called", lambda: (compiled(plain(last=Broken())), (images(), masks()))),
    ("generator-used", "note", "1 batches", lambda: (compiled(plain()), iter([(images(), masks())]))),
]


def _compiled_without_loss():
    model = plain()
    model.compile("adam")
    return model


def _with_rate(rate):
    return compiled(plain(), optimizer=keras.optimizers.Adam(rate))


def _one_foreground(count):
    truth = np.zeros((count, SIZE, SIZE), np.int32)
    truth[3, 4:8] = 1
    return truth


class Hidden(layers.Layer):
    """A softmax that only the values give away."""

    def call(self, x):
        return keras.ops.softmax(x)


class Broken(layers.Layer):
    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            raise ValueError("out of order")
        return x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize(("code", "severity", "words", "plant"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_planted_fault_is_found(code, severity, words, plant):
    report = examine(*plant())
    found = [each for each in report.findings if each.code == code]
    assert [each.severity for each in found] == [severity] * max(1, len(found)), str(report)
    assert set(report.codes) == {code}, str(report)
    assert any(re.search(words, f"{each.message} {each.fix}") for each in found), str(report)
