"""What `kerazoo.doctor` looks at: every kind of data, a bounded part of it, and nothing changes by it."""

import json
import random

import keras
import numpy as np
import pytest
from keras import layers
from support.doctor_cases import LOGITS, SIZE, compiled, examine, images, masks, plain

import kerazoo as kz
from kerazoo.doctor.batches import inspect_batches
from kerazoo.doctor.graph import last_activations
from kerazoo.encoders.resnet import basic_block

BATCH = 4


def batches(truth):
    return [(images(16)[i : i + BATCH], truth[i : i + BATCH]) for i in range(0, 16, BATCH)]


class Pairs(keras.utils.PyDataset):
    def __init__(self, truth):
        super().__init__()
        self.items = batches(truth)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        return self.items[place]


def of_torch(truth):
    torch = pytest.importorskip("torch")
    pairs = [(torch.from_numpy(image), torch.from_numpy(mask)) for image, mask in zip(images(16), truth, strict=True)]
    return torch.utils.data.DataLoader(pairs, batch_size=BATCH, shuffle=True)


def of_tensorflow(truth):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((images(16), truth)).batch(BATCH)


KINDS = {
    "arrays": lambda truth: (images(16), truth),
    "tensors": lambda truth: (images(16), keras.ops.convert_to_tensor(truth)),
    "list": batches,
    "generator function": lambda truth: lambda: iter(batches(truth)),
    "PyDataset": Pairs,
    "torch": of_torch,
    "tensorflow": of_tensorflow,
    "tensorflow, infinite": lambda truth: of_tensorflow(truth).repeat(),
}


@pytest.mark.backends
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_is_looked_at(kind):
    model = compiled(plain())
    report = examine(model, KINDS[kind](masks(16)), batches=4, batch_size=BATCH)
    assert report.findings == (), str(report)
    assert (report.batches, report.images) == (4, 16)
    faulty = examine(model, KINDS[kind](masks(16) * 255), batches=4, batch_size=BATCH)
    assert faulty.codes == ("labels-outside",)


def test_a_generator_is_some_batches_further():
    generator = iter(batches(masks(16)))
    assert examine(compiled(plain()), generator, batches=3).codes == ("generator-used",)
    assert len(list(generator)) == 1


def test_the_look_is_bounded_and_spread_over_arrays():
    endless = ((images(2), masks(2)) for _ in iter(int, 1))
    assert examine(compiled(plain()), endless, batches=3).images == 6
    truth = masks(100)
    truth[-1, 0, 0] = 7
    facts = inspect_batches((images(100), truth), batches=5, batch_size=10)
    assert (facts.num_batches, facts.num_images, facts.is_complete) == (5, 50, False)
    assert not any(7 in values for batch in facts.targets[""] for values in batch.values)
    assert inspect_batches((images(100), truth), batches=10, batch_size=10).is_complete
    truth[80:82, 0, 0] = 7
    codes = examine(compiled(plain()), (images(100), truth), batches=5, batch_size=10).codes
    assert codes == ("labels-outside",), "the fifth of five batches that are evenly apart starts at 80"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: kz.data.sources.synthetic(4, image_size=(SIZE, SIZE)), r"kerazoo.data.pipeline\(source"),
        (lambda: 3, "what `fit` takes: .* received int"),
        (lambda: "images/", "received str"),
        (lambda: {"image": images()}, "received dict"),
    ],
)
def test_what_is_no_dataset_is_refused(dataset, message):
    with pytest.raises(TypeError, match=message):
        examine(compiled(plain()), dataset())


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="must be a keras.Model, received Conv2D"):
        examine(layers.Conv2D(1, 1), (images(), masks()))
    with pytest.raises(ValueError, match="must be 1 or more, received 0 and None"):
        examine(plain(), (images(), masks()), batches=0)
    assert examine(keras.Sequential([layers.Conv2D(1, 1)]), (images(), masks())).codes == ("not-built",)


@pytest.mark.backends
def test_nothing_changes():
    """Weights, statistics, seeds, optimizer, metrics and every generator of random numbers are as they were."""
    model = plain(last=layers.Dropout(0.5, seed=3))
    metric = kz.metrics.IoU(1)
    compiled(model, metrics=[metric])
    model.fit(images(), masks(), batch_size=4, verbose=0)
    random.seed(3)
    np.random.seed(3)

    def state():
        variables = [*model.variables, *model.optimizer.variables, *metric.variables]
        values = [keras.ops.convert_to_numpy(variable.value).tobytes() for variable in variables]
        functions = [model.train_function, model.test_function, model.predict_function]
        flags = [layer.trainable for layer in model.layers]
        return values, functions, flags, model.compiled, random.getstate(), str(np.random.get_state())

    before, data = state(), (images(), masks())
    nodes = len(model.get_config()["layers"])
    copies = [part.copy() for part in data]
    assert examine(model, data).ok
    assert state() == before
    assert len(model.get_config()["layers"]) == nodes
    for part, copy in zip(data, copies, strict=True):
        np.testing.assert_array_equal(part, copy)
    assert model.evaluate(images(), masks(), verbose=0, return_dict=True)["iou"] >= 0


def test_the_order_of_a_torch_loader_stays():
    torch = pytest.importorskip("torch")
    model, loader = compiled(plain()), of_torch(masks(16))
    torch.manual_seed(5)
    expected = [image.numpy().tobytes() for image, _ in loader]
    torch.manual_seed(5)
    examine(model, loader)
    assert [image.numpy().tobytes() for image, _ in loader] == expected


def test_the_epoch_of_a_pipeline_stays():
    source = kz.data.sources.synthetic(24, image_size=(SIZE, SIZE), channels=3, seed=1)
    options = {"image_size": (SIZE, SIZE), "batch_size": 4, "sampler": "under", "augment": ["flip"], "seed": 2}
    looked, untouched = (kz.data.pipeline(source, **options) for _ in range(2))
    report = examine(compiled(plain()), looked)
    assert report.findings == (), str(report)
    for _ in range(2):
        for (image, _), (other, _) in zip(looked, untouched, strict=True):
            np.testing.assert_array_equal(image, other)


def test_repeats_of_a_sampler_are_no_copies():
    source = kz.data.sources.synthetic(20, empty_fraction=0.9, image_size=(SIZE, SIZE), channels=3, seed=1)
    options = {"image_size": (SIZE, SIZE), "batch_size": 4}
    assert examine(compiled(plain()), kz.data.pipeline(source, sampler="over", **options), batches=20).findings == ()


@pytest.fixture(scope="module")
def encoder():
    return kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), expansion=1, stem_width=8)


def segmenter(encoder, *, heads, classes, **options):
    decoder = kz.decoders.UNet(widths=(8,))
    return kz.segmenter(
        encoder, decoder, "linear", num_classes=classes, depth=2, label_head=heads, aux=heads, **options
    )


@pytest.mark.parametrize(("classes", "heads"), [(1, True), (3, False), (3, True)])
def test_faults_are_found_in_a_segmenter_with_several_heads(encoder, classes, heads):
    model = segmenter(encoder, heads=heads, classes=classes)
    loss = kz.losses.CrossEntropy()
    losses = kz.losses.deep_supervision(loss, model) | {"label": LOGITS} if heads else loss
    label = np.ones((8, classes), np.float32)

    def data(truth, pictures=None):
        pictures = images() if pictures is None else pictures
        return pictures, dict.fromkeys(model.output, truth) | {"label": label} if heads else truth

    truth = masks(classes=classes)
    assert examine(model, data(truth)).codes == ("not-compiled",)
    compiled(model, losses)
    assert examine(model, data(truth)).findings == ()
    outside = examine(model, data(truth + 7))
    assert set(outside.codes) == {"labels-outside"}
    assert len(outside.errors) == (2 if heads else 1), "one for the mask, and one for the auxiliary map"
    black = examine(model, data(truth, images().astype("float32") / 255))
    assert black.codes == ("range-0-1",)
    assert "preprocessing=False" in black.findings[0].fix
    assert set(examine(model, data(truth[:, :8])).codes) == {"mask-size"}
    if heads:
        assert examine(model, (images(), truth)).codes == ("targets-not-dict",)
        label_alone = {name: each for name, each in losses.items() if name != "label"}
        assert examine(compiled(model, label_alone), data(truth)).codes == ("output-without-loss",)


def test_freezing(encoder, capsys):
    model = segmenter(encoder, heads=False, classes=1)
    kz.freeze(model, "encoder")
    assert "not-compiled" in examine(model, (images(), masks())).codes
    compiled(model)
    report = examine(model, (images(), masks()))
    assert report.codes == ("frozen-random",)
    assert "'encoder' is frozen with random weights" in report.findings[0].message
    rng = np.random.default_rng(0)
    for variable in model.get_layer("encoder").variables:
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    assert examine(model, (images(), masks())).findings == ()


def test_precision(encoder):
    keras.config.set_dtype_policy("mixed_float16")
    model = segmenter(encoder, heads=False, classes=1)
    assert examine(compiled(model), (images(), masks())).findings == (), "Keras scales the loss by itself"
    report = examine(compiled(model, auto_scale_loss=False), (images(), masks()))
    assert report.codes == ("no-loss-scaling",)
    keras.config.set_dtype_policy("bfloat16")
    assert "weights-16-bit" in examine(compiled(plain()), (images(), masks())).codes


def test_the_last_activation_is_found_through_what_comes_after():
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1), layers.Softmax(), layers.Cropping2D(1)])
    x = layers.UpSampling2D(2)(layers.Activation("linear")(inner(image)))
    head = keras.Model(image, [layers.Conv2D(1, 1, activation="tanh")(image), layers.Conv2D(1, 1)(image)])
    first, second = head(image)
    outputs = {
        "a": x,
        "b": first,
        "c": second,
        "d": keras.ops.sigmoid(second),
        "e": keras.ops.exp(second),
        "f": x[:, :4],
    }
    expected = {"a": "softmax", "b": "tanh", "c": "linear", "d": "sigmoid", "e": None, "f": "softmax"}
    assert last_activations(keras.Model(image, outputs)) == expected
    assert last_activations(inner) == {"": "softmax"}
    assert last_activations(keras.Model(image, [x, second])) == {"0": "softmax", "1": "linear"}


def test_a_model_without_a_config_is_judged_by_its_values():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Conv2D(3, 1)

        def call(self, x):
            return keras.ops.softmax(self.last(x / 255))

        def build(self, shape):
            self.last.build(shape)
            self.built = True

    model = Own()
    model.build((None, None, None, 3))
    report = examine(compiled(model, kz.losses.CrossEntropy()), (images(), masks(classes=3)))
    assert report.codes == ("double-activation",)


def test_the_report_speaks(capsys):
    model = compiled(plain(activation="sigmoid"))
    report = kz.doctor(model, (images(), masks()))
    assert capsys.readouterr().out == f"{report}\n"
    assert str(report).startswith("1 error, after a look at 8 images in 1 batch\nERROR double-activation: ")
    with pytest.raises(ValueError, match="should not be trained like this:\nERROR double-activation"):
        report.raise_for_errors()
    assert not report.ok
    assert report.to_dict()["findings"][0]["code"] == "double-activation"
    json.dumps(report.to_dict())
    assert kz.doctor(model, (images(), masks()), verbose=False) == report
    assert capsys.readouterr().out == ""
