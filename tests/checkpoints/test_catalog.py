"""The catalog against the registry, the libraries its facts are from, and whole models that start from its files."""

import importlib.util
import sys
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
import safetensors.numpy
from support.source_tree import REPOSITORY

import kerazoo as kz
from kerazoo.checkpoints import catalog
from kerazoo.checkpoints.record import Record
from kerazoo.checkpoints.tensors import places
from kerazoo.cli import app
from kerazoo.encoders import ENCODERS
from kerazoo.encoders.applications import Application
from kerazoo.types import BY_127_128, BY_128, CAFFE, MINUS_ONE_TO_ONE, TORCH

spec = importlib.util.spec_from_file_location("weights_check", REPOSITORY / "weights" / "check.py")
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

WITHOUT = {  # encoders without weights, and why
    "convmixer_256_20": "the paper's network for CIFAR",
    "seresnet18": "timm lists it as untrained",
    "seresnet34": "timm lists it as untrained",
    "seresnet101": "timm lists it as untrained",
    "seresnet152": "timm lists it as untrained",
    "unet_contracting": "it was never trained on ImageNet",
}
NARROW = "mobilenetv2_035"  # small, and Keras has no hash for it


# Records --------------------------------------------------------------------------------------------------------------


def test_the_records_and_the_manifest_are_sound():
    assert list(check.faults()) == []


def test_the_check_can_fail(monkeypatch):
    record = catalog.RECORDS["resnet50.imagenet1k_v1"]
    wrong = replace(record, name="resnet50.second", digest=None, licence="beerware", top1=0.76)
    monkeypatch.setitem(catalog.RECORDS, wrong.name, wrong)
    monkeypatch.setattr(catalog.ORIGINS[0], "RECORDS", (*catalog.ORIGINS[0].RECORDS, wrong))
    faults = "\n".join(check.faults())
    for fault in ("this address is there 2 times", "'beerware' is none of", "a pickle without", "no percentage"):
        assert fault in faults
    assert "manifest.csv is stale" in faults
    monkeypatch.delitem(catalog.DEFAULTS, "seresnet50")
    assert next(iter(check.faults())).startswith("seresnet50: several weights and no default")


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "resnet50"},
        {"name": "ResNet50.tv"},
        {"digest": "sha256:abc"},
        {"digest": "0676ba61"},
        {"revision": "main"},
        {"repo": "timm"},
        {"url": "https://x/y.h5"},
        {"repo": None},
        {"repo": None, "url": "http://x/y.h5"},
        {"repo": None, "url": "https://x/y.h5", "revision": 40 * "a"},
        {"package": "x-model", "version": "1.0"},
        {"repo": None, "package": "x-model"},
        {"repo": None, "package": "X_Model", "version": "1.0"},
        {"version": "1.0"},
        {"licence": ""},
        {"training_data": ()},
    ],
    ids=str,
)
def test_records_of_another_form_are_refused(facts):
    right = {"name": "a.b", "origin": "timm", "repo": "timm/a.b", "file": "m.safetensors", "licence": "mit"}
    Record(**right)
    with pytest.raises(ValueError, match=r"The record '.*' (has|needs)"):
        Record(**{**right, **facts})


def test_every_encoder_has_weights_or_a_reason():
    archs = {record.arch for record in catalog.records()}
    assert archs <= set(ENCODERS)
    assert set(ENCODERS) - archs == WITHOUT.keys()


def test_the_ranges_of_preprocessing():
    assert MINUS_ONE_TO_ONE.range == pytest.approx((-1, 1))
    assert BY_128.range == pytest.approx((-1, 127 / 128))
    assert BY_127_128.range == pytest.approx((-127 / 128, 1))
    assert CAFFE.range == pytest.approx((-123.68, 255 - 103.939))
    assert TORCH.range == pytest.approx((-0.485 / 0.229, 0.594 / 0.225))


def test_the_preprocessing_of_every_record_is_its_encoders():
    """It belongs to the encoder and never depends on the weights: others are not in the catalog."""
    image = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3)).astype("float32")
    wanted = {(record.arch, record.preprocessing) for record in catalog.records()}
    assert len({preprocessing for _, preprocessing in wanted}) == 5
    for arch, preprocessing in sorted(wanted, key=lambda pair: pair[0]):
        colors = image if preprocessing.order == "RGB" else image[..., ::-1]
        expected = (preprocessing.scale * colors - preprocessing.mean) / preprocessing.std
        ours = keras.ops.convert_to_numpy(ENCODERS[arch].preprocess(keras.ops.convert_to_tensor(image)))
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4, err_msg=arch)


class _AskedFor(Exception):
    """Stops Keras where it would download."""


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(name, marks=[] if name in {"vgg16", "mobilenetv3_small"} else [pytest.mark.slow])
        for name, part in ENCODERS.items()
        if isinstance(part, Application)
    ],
)
def test_records_of_keras_are_what_keras_loads(arch, monkeypatch):
    def get_file(file, url, *, cache_subdir, file_hash=None):
        raise _AskedFor(file, url, file_hash)

    files = sys.modules[keras.applications.VGG16.__module__].file_utils
    monkeypatch.setattr(files, "get_file", get_file)
    part, record = ENCODERS[arch], catalog.find(arch, "keras_in1k")
    options = {} if part.alpha is None else {"alpha": part.alpha}
    options |= {"minimalistic": True} if part.minimalistic else {}
    with pytest.raises(_AskedFor) as asked:
        getattr(keras.applications, part.function)(include_top=False, input_shape=(224, 224, 3), **options)
    digest = None if record.digest is None else record.digest.partition(":")[2]
    assert asked.value.args == (record.file, record.url, digest)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "name", "found"),
    [
        ("resnet50", "imagenet", "resnet50.smp_imagenet"),
        ("resnet26", "imagenet", "resnet26.bt_in1k"),
        ("seresnet50", "imagenet", "seresnet50.a1_in1k"),
        ("convmixer_768_32", "imagenet", "convmixer_768_32.in1k"),
        ("vgg16", "imagenet", "vgg16.keras_in1k"),
        ("efficientnet_lite0", "imagenet", "efficientnet_lite0.pip_in1k"),
        ("efficientnet_lite4", "imagenet", "efficientnet_lite4.in1k"),
        ("vgg16_bn", "imagenet", "vgg16_bn.smp_imagenet"),
        ("resnet50", "tv2_in1k", "resnet50.tv2_in1k"),
        ("resnet50", "resnet50.tv_in1k", "resnet50.tv_in1k"),
        ("resnet50", "IMAGENET1K_V2", "resnet50.imagenet1k_v2"),
        (None, "resnet50.tv_in1k", "resnet50.tv_in1k"),
    ],
)
def test_names_of_weights(arch, name, found):
    record = kz.pretrained.find(arch, name)
    assert (record.name, record) == (found, catalog.RECORDS[found])


@pytest.mark.parametrize(
    ("arch", "name", "message"),
    [
        (
            "resnet50",
            "imagnet",
            r"no weights 'imagnet' for resnet50\. Did you mean 'imagenet'.*one of 'imagenet', 'a1_in",
        ),
        ("resnet50", "tv_in2k", r"Did you mean 'tv_in1k'"),
        ("resnet50", "resnet50.tv_in2k", r"Did you mean 'resnet50\.tv_in1k'"),
        ("resnet50", "resnet18.tv_in1k", r"belong to the encoder 'resnet18', not to 'resnet50'"),
        ("resnet50", "", r"no weights '' for resnet50\."),
        ("seresnet18", "imagenet", r"no weights 'imagenet' for seresnet18\. It takes None .* kerazoo\.encoders\.list"),
        ("resnet34", "ra4_e3600_r224_in1k", r"left out: it was trained on images in \[-1, 1\]"),
        ("resnet50", "resnet50.bamboo", r"left out: timm names no licence"),
        (None, "imagenet", r"no weights 'imagenet'\. This encoder .* `arch='resnet18'` .*'resnet18\.tv_in1k'"),
        (None, "resnet18.tv_in2k", r"Did you mean 'resnet18\.tv_in1k'"),
    ],
)
def test_other_names_are_answered_with_what_there_is(arch, name, message):
    with pytest.raises(ValueError, match=message):
        kz.pretrained.find(arch, name)


def test_encoders_are_listed_by_their_weights():
    listed = kz.encoders.list("*efficientnet*", weights="imagenet")
    assert listed == [
        *(f"efficientnet_lite{i}" for i in range(5)),
        *(f"efficientnetb{i}" for i in range(8)),
        *(f"efficientnetv2_{size}" for size in ["b0", "b1", "b2", "b3", "l", "m", "s"]),
    ]
    assert kz.encoders.list("resnet??", weights="tv2_in1k") == ["resnet50"]
    assert set(kz.encoders.list()) - set(kz.encoders.list(weights="imagenet")) == WITHOUT.keys()
    assert kz.encoders.list(weights="nothing") == []


def test_the_command_line_lists_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAZOO_CACHE", str(tmp_path))
    record = catalog.RECORDS["resnet18.tv_in1k"]
    (tmp_path / record.name).mkdir()
    (tmp_path / record.name / record.file).write_bytes(b"")
    app(["models", "resnet18", "--weights"], standalone_mode=False)
    lines = {words[0]: words[1:] for words in map(str.split, capsys.readouterr().out.splitlines())}
    assert set(lines) == {"weights", *(record.name for record in catalog.records("resnet18.*"))}
    assert lines["resnet18.tv_in1k"] == ["69.8", "bsd-3-clause", "yes"]
    assert lines["resnet18.smp_imagenet"] == ["bsd-3-clause", "yes"]
    app(["models", "*.keras_in1k", "--weights"], standalone_mode=False)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(catalog.records("*.keras_in1k"))


# From a name to a model -----------------------------------------------------------------------------------------------


def test_a_segmenter_starts_from_weights_asked_for_by_name(mirror, monkeypatch):
    """Journey: a name, a server, a model; then the same without a network."""
    part = ENCODERS["resnet18"]
    rng = np.random.default_rng(0)
    wanted = places(kz.encoders.create("resnet18"), part.state_dict_name)
    tensors = {name: rng.uniform(0.5, 1.5, shape).astype("float32") for name, shape in wanted.items()}
    head = {"fc.weight": np.zeros((1000, 512), "float32"), "fc.bias": np.zeros(1000, "float32")}
    mirror.files["/resnet18.smp_imagenet/model.safetensors"] = safetensors.numpy.save({**tensors, **head})

    model = kz.segmenter("resnet18", "unet", "mlf", num_classes=1, weights="imagenet")
    encoder = model.get_layer("encoder")
    stem, last = tensors["conv1.weight"], tensors["layer4.1.conv2.weight"]
    np.testing.assert_array_equal(encoder.get_layer("conv1").kernel, stem.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(encoder.get_layer("layer4_1_conv2").kernel, last.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(encoder.get_layer("bn1").moving_variance, tensors["bn1.running_var"])
    assert mirror.downloads("model.safetensors") == 1

    monkeypatch.setenv("KERAZOO_OFFLINE", "1")
    gray = kz.segmenter(
        part, "unet", "mlf", num_classes=1, image_shape=(None, None, 1), depth=3, weights="resnet18.smp_imagenet"
    ).get_layer("encoder")
    np.testing.assert_allclose(gray.get_layer("conv1").kernel[:, :, 0], stem.sum(axis=1).transpose(1, 2, 0), rtol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"KERAZOO_OFFLINE is set.*resnet18\.tv_in1k"):
        kz.encoders.create("resnet18", weights="tv_in1k")
    assert mirror.downloads("model.safetensors") == 1


def test_an_encoder_of_keras_starts_from_weights_asked_for_by_name(mirror, tmp_path):
    donor = ENCODERS[NARROW].classifier(None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
        donor.save(tmp_path / "donor.h5")
    record = catalog.find(NARROW, "imagenet")
    mirror.files[f"/{record.name}/{record.file}"] = (tmp_path / "donor.h5").read_bytes()
    encoder = kz.encoders.create(NARROW, weights="imagenet")
    for ours, theirs in zip(encoder.get_weights(), donor.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_network_under_the_right_name_are_refused(mirror):
    mirror.files["/resnet18.tv_in1k/model.safetensors"] = safetensors.numpy.save(
        {"conv1.weight": np.zeros(3, "float32")}
    )
    with pytest.raises(ValueError, match=r"model\.safetensors do not fit"):
        kz.encoders.create("resnet18", weights="tv_in1k")


@pytest.mark.parametrize("weights", ["nowhere.safetensors", "nowhere/imagenet.h5", "nowhere.weights.h5"])
def test_what_looks_like_a_file_is_one(weights, mirror):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        kz.encoders.create(NARROW if weights.endswith("net.h5") else "resnet18", weights=weights)
    with pytest.raises(ValueError, match=r"this encoder takes files that end in \.weights\.h5, \.safetensors"):
        kz.encoders.create("resnet18", weights="nowhere/imagenet.ckpt")
    assert mirror.requests == []
