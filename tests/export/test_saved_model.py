"""The SavedModel: same numbers as the model, any size, plain TensorFlow, no trace of who made it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support.tiers import thorough

import kerazoo as kz
from kerazoo.export import parity
from kerazoo.export.precision import in_float32
from kerazoo.inference import DecisionRule

tf = pytest.importorskip("tensorflow")


def real_model(num_classes=1, *, label=False):
    """A segmenter with random weights, so enlarged in its last convolution that its masks have more than one class."""
    keras.utils.set_random_seed(1)
    decoder = kz.decoders.create("unet", widths=(16, 16, 8, 8))
    model = kz.segmenter("resnet18", decoder, "linear", num_classes=num_classes, label_head=label)
    kernel = max((v for v in model.get_layer("head").variables), key=lambda v: len(v.shape))
    kernel.assign(30 * (kernel - keras.ops.mean(kernel, axis=2, keepdims=True)))
    return model


def local_model(channels=1, *, size=(None, None), num_classes=1):
    """One convolution: quick to export."""
    keras.utils.set_random_seed(1)
    image = keras.Input((*size, channels))
    x = keras.layers.Rescaling(1 / 64, offset=-2, dtype="float32")(image)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 5, padding="same", dtype="float32")(x))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One export that most tests look at: three classes, a label head, a rule."""
    model = real_model(3, label=True)
    path = tmp_path_factory.mktemp("export") / "served"
    kz.export.saved_model(
        model, path, DecisionRule(min_area=20), class_names=("background", "crack", "fray"), verbose=False
    )
    return model, path


def run(path, images):
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return {name: np.asarray(value) for name, value in signature(images=tf.constant(images)).items()}


@thorough
@pytest.mark.parametrize("size", [(64, 64), (67, 95), (40, 33)])
def test_export_gives_what_predict_gives(exported, size):
    model, path = exported
    (images,) = parity.example_batches(3, "uint8", [size])
    served = run(path, images)
    assert {name: value.dtype.name for name, value in served.items()} == {
        "mask": "uint8",
        "probability": "float32",
        "score": "float32",
        "label": "float32",
    }
    for i, prediction in enumerate(kz.inference.predict(model, images, rule=DecisionRule(min_area=20))):
        np.testing.assert_allclose(served["probability"][i], prediction.probability, atol=1e-5)
        assert (served["mask"][i] != prediction.mask).mean() < 1e-3
        assert served["score"][i] == pytest.approx(prediction.score, abs=1e-5)
        np.testing.assert_allclose(served["label"][i], prediction.label, atol=1e-5)
    assert len(np.unique(served["mask"])) > 1  # a comparison of empty masks would show nothing


def test_folder_has_card_and_parity_and_no_trace_of_its_maker(exported):
    _, path = exported
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["served"]  # nothing temporary is left
    found = json.loads((path / "parity.json").read_text())
    assert found["max_abs_difference"] <= 1e-5
    assert [case["shape"] for case in found["cases"]] == [
        [1, 96, 96, 3],
        [2, 67, 95, 3],
        [1, 128, 41, 3],
        [2, 33, 160, 3],
    ]
    assert DecisionRule.load(path / "parity.json") == DecisionRule(min_area=20)
    card = (path / "card.md").read_text()
    for text in ("any height, any width, 3)", "- 1: crack", "`label`", "dropped: 20", "max |exported − model|"):
        assert text in card
    secrets = [str(Path.cwd()), str(Path.home() / ""), str(path.parent), "site-packages"]
    for file in path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [secret for secret in secrets if len(secret) > 6 and secret.encode() in content], file.name


ALONE = """
import sys
sys.modules["kerazoo"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
data = np.load(sys.argv[2])
result = model(images=tf.constant(data["images"]))
for name in ("mask", "probability", "score"):
    print(name, np.abs(result[name].numpy().astype("float64") - data[name]).max())
"""


def test_plain_tensorflow_runs_it(exported, tmp_path):
    model, path = exported
    (images,) = parity.example_batches(3, "uint8", [(51, 70)])
    (prediction,) = kz.inference.predict(model, images, rule=DecisionRule(min_area=20))
    np.savez(
        tmp_path / "data.npz",
        images=images,
        mask=prediction.mask[None],
        probability=prediction.probability[None],
        score=[prediction.score],
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-c", ALONE, str(path), str(tmp_path / "data.npz")],
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    differences = dict(line.split() for line in process.stdout.splitlines())
    assert differences.keys() == {"mask", "probability", "score"}
    assert all(float(value) < 1e-4 for value in differences.values()), differences


def test_mixed_precision_is_rebuilt_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = real_model()
    assert "bfloat16" in {layer.compute_dtype for layer in model._flatten_layers()}
    copy = in_float32(model)
    assert {layer.compute_dtype for layer in copy._flatten_layers()} == {"float32"}
    assert [v.path for v in copy.variables] == [v.path for v in model.variables]
    for ours, theirs in zip(copy.variables, model.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert keras.config.dtype_policy().name == "mixed_bfloat16"  # as it was


def test_a_model_in_mixed_precision_is_served_in_float32(tmp_path, capsys):
    image = keras.Input((None, None, 1))
    convolution = keras.layers.Conv2D(1, 3, padding="same", dtype="mixed_bfloat16", kernel_initializer="ones")
    scaled = keras.layers.Rescaling(1 / 765, offset=-1 / 6, dtype="float32")(image)
    model = keras.Model(image, keras.layers.Activation("linear", dtype="float32")(convolution(scaled)))
    path = kz.export.saved_model(model, tmp_path / "served")
    assert "max |exported − model| = " in capsys.readouterr().out
    images = parity.example_batches(1, "uint8", [(40, 40)])[0]
    total = np.apply_over_axes(
        np.sum, np.lib.stride_tricks.sliding_window_view(images[0, ..., 0] / 765 - 1 / 6, (3, 3)), (2, 3)
    )
    exact = 1 / (1 + np.exp(-total[..., 0, 0]))
    served = run(path, images)["probability"][0, 1:-1, 1:-1, 0]
    np.testing.assert_allclose(served, exact, atol=1e-5)
    low = kz.inference.predict(model, images)[0].probability[1:-1, 1:-1, 0]
    assert np.abs(low - exact).max() > 1e-4  # bfloat16 would have been seen


def test_float32_model_is_not_rebuilt():
    model = local_model()
    assert in_float32(model) is model


def test_images_are_resized_as_in_training(tmp_path):
    model = local_model()
    path = kz.export.saved_model(model, tmp_path / "served", image_size=(64, 64), verbose=False)
    rows, columns = np.mgrid[:150, :97]
    image = np.uint8(127 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 7))[None, ..., None]
    (prediction,) = kz.inference.predict(model, image, image_size=(64, 64))
    served = run(path, image)
    assert served["mask"].shape == (1, 150, 97)
    # Pillow and TensorFlow antialias alike to a gray level, so probabilities differ a little and not more.
    np.testing.assert_allclose(served["probability"][0], prediction.probability, atol=0.02)
    assert served["score"][0] == pytest.approx(prediction.score, abs=0.02)
    (other,) = kz.inference.predict(model, image)
    assert np.abs(other.probability - prediction.probability).max() > 0.1  # resizing is what made them agree


@pytest.mark.parametrize("image_size", [None, (32, 48)])
def test_16_bit_images_are_served_as_in_training(tmp_path, image_size):
    model = local_model(size=(64, 96) if image_size is None else (None, None))
    path = kz.export.saved_model(model, tmp_path / "served", image_size=image_size, input_dtype="uint16", verbose=False)
    rows, columns = np.mgrid[:64, :96]
    image = (32768 + 16000 * np.sin(rows / 9) + 16000 * np.cos(columns / 7)).astype("uint16")[None, ..., None]
    served = run(path, image)["probability"]
    (prediction,) = kz.inference.predict(model, image, image_size=image_size)
    np.testing.assert_allclose(served[0], prediction.probability, atol=1e-5 if image_size is None else 0.02)
    floats = (image / 257).astype("float32")
    if image_size is None:
        exact = 1 / (1 + np.exp(-np.asarray(model(floats), "float64")))
        np.testing.assert_allclose(served, exact, atol=1e-5)
    assert np.ptp(served) > 0.1
    assert "0 to 65535 for 0 to 255" in (path / "card.md").read_text()


def test_the_intensity_range_of_the_training_is_inside(tmp_path):
    model = local_model()
    options = {"input_dtype": "uint16", "intensity_range": (100, 4095)}
    path = kz.export.saved_model(model, tmp_path / "served", image_size=(32, 48), verbose=False, **options)
    rows, columns = np.mgrid[:64, :96]
    image = (2000 + 1000 * np.sin(rows / 9) + 1000 * np.cos(columns / 7)).astype("uint16")
    scaled = np.clip((image.astype("float32") - 100) * (255 / 3995), 0, 255)
    (prediction,) = kz.inference.predict(model, [scaled], image_size=(32, 48))
    served = run(path, image[None, ..., None])["probability"][0]
    np.testing.assert_allclose(served, prediction.probability, atol=0.02)
    assert np.ptp(served) > 0.1
    assert "100 to 4095, what lies outside is clipped" in (path / "card.md").read_text()
    with pytest.raises(ValueError, match="8-bit images do not hold the values up to 4095 of `intensity_range`"):
        kz.export.saved_model(model, tmp_path / "other", intensity_range=(100, 4095))


def labeled_model():
    """A local model whose label says how bright the image is."""
    image = keras.Input((None, None, 1))
    mean = keras.layers.GlobalAveragePooling2D(dtype="float32")(image)
    label = keras.layers.Rescaling(1 / 8, offset=-16, dtype="float32")(mean)
    return keras.Model(image, {"mask": local_model()(image), "label": label})


@thorough
@pytest.mark.parametrize("image_size", [None, (48, 40)])
@pytest.mark.parametrize(
    "rule",
    [
        DecisionRule(min_area=30, per_component=True, rank=5, image_threshold=0.6),
        DecisionRule(score="label", image_threshold=0.5, pixel_threshold=0.4),
    ],
    ids=str,
)
def test_every_kind_of_rule_is_inside(tmp_path, rule, image_size):
    model, path = labeled_model(), tmp_path / "served"
    kz.export.saved_model(model, path, rule, image_size=image_size, verbose=False)
    (images,) = parity.example_batches(1, "uint8", [(96, 64)])
    images = np.concatenate([images, images // 4, images // 2 + 128])
    served = run(path, images)
    predictions = kz.inference.predict(model, images, rule=rule, image_size=image_size)
    plain = kz.inference.predict(model, images, rule=DecisionRule(pixel_threshold=0.4), image_size=image_size)
    differs = False
    for i, prediction in enumerate(predictions):
        assert (served["mask"][i] != prediction.mask).mean() < (1e-3 if image_size is None else 0.01)
        assert served["score"][i] == pytest.approx(prediction.score, abs=1e-5 if image_size is None else 0.01)
        differs = differs or bool((served["mask"][i] != plain[i].mask).mean() > 0.05)
    assert differs
    assert served["mask"].any()
    text = "A connected component with fewer pixels" if rule.per_component else "foreground probability of the label"
    assert text in (path / "card.md").read_text()
    assert DecisionRule.load(path / "parity.json") == rule


def test_a_difference_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def drifting(logits):
        return keras.ops.sigmoid(logits) + (0.0 if tf.inside_function() else 3e-4)  # traced for the export, then eager

    monkeypatch.setattr(importlib.import_module("kerazoo.export.saved_model"), "probabilities", drifting)
    with pytest.raises(
        RuntimeError, match=r"max \|exported − model\| = 3\.0e-04.*: more than 1e-04 is not the same model"
    ):
        kz.export.saved_model(local_model(), tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_large_logits_widen_the_tolerance_and_small_ones_do_not_narrow_it(tmp_path):
    assert parity.allowed_difference(3.0) == parity.allowed_difference(40.0) == 1e-4
    assert parity.allowed_difference(120.0) == pytest.approx(3e-4)
    model = local_model()
    model.layers[-1].kernel.assign(1000 * model.layers[-1].kernel)
    path = kz.export.saved_model(model, tmp_path / "served", verbose=False)
    largest = max(abs(model.predict(batch, verbose=0)).max() for batch in parity.example_batches(1, "uint8"))
    assert json.loads((path / "parity.json").read_text())["tolerance"] == pytest.approx(1e-5 * largest / 4)


def test_compare_sees_every_kind_of_difference():
    good = {
        "mask": np.zeros((1, 4, 4), "uint8"),
        "probability": np.zeros((1, 4, 4, 1), "float32"),
        "score": np.zeros(1, "float32"),
    }
    batch = [np.zeros((1, 4, 4, 1), "uint8")]

    def result(**changed):
        return parity.compare(lambda _: {**good, **changed}, lambda _: good, batch)

    assert result().holds
    assert not result(score=np.float32([2e-4])).holds
    assert not result(mask=np.ones((1, 4, 4), "uint8")).holds
    assert not result(probability=np.full((1, 4, 4, 1), np.nan, "float32")).holds
    with pytest.raises(ValueError, match="Output 'score' is"):
        result(score=np.zeros(2, "float32"))
    with pytest.raises(ValueError, match="Outputs differ"):
        result(label=np.zeros(2, "float32"))


def test_nothing_is_overwritten_by_accident(tmp_path):
    model = local_model()
    path = kz.export.saved_model(model, tmp_path / "served", verbose=False)
    with pytest.raises(FileExistsError, match=r"exists\. Give another directory, or overwrite=True"):
        kz.export.saved_model(model, path)
    kz.export.saved_model(model, path, overwrite=True, verbose=False)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data.txt").write_text("x")
    with pytest.raises(FileExistsError, match="It is no export"):
        kz.export.saved_model(model, tmp_path / "precious", overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dtype": "int8"}, "`input_dtype` must be one of uint8, uint16, float32; received 'int8'"),
        ({"image_size": (32, 32)}, r"`image_size` is \(32, 32\), but the model takes images of \(64, 64\) only"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, options, message):
    image = keras.Input((64, 64, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    with pytest.raises(ValueError, match=message):
        kz.export.saved_model(model, tmp_path / "served", **options)
    with pytest.raises(ValueError, match="`model` must be a Keras model with one input"):
        kz.export.saved_model("runs/a", tmp_path / "served")
