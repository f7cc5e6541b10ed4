"""Whole models of smp and torchvision from their tensors, against the logits that they give themselves."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.golden_rule import fill, image
from support.source_tree import REPOSITORY

import kerazoo as kz

GOLDEN = REPOSITORY / "tests" / "golden"
STEP = 5  # as in golden/make_models.py, which says what each file is
QUICK = {  # one per architecture in the default run; `make test-all` has all
    "smp_deeplabv3_separable",
    "smp_deeplabv3plus_stride8",
    "smp_fpn_tu",
    "smp_linknet_resnet18",
    "smp_manet_depth4",
    "smp_pan_tu_depth4",
    "smp_pspnet_40",
    "smp_segformer_depth4",
    "smp_unet_no_norm",
    "smp_unet_scse",
    "smp_unetplusplus_scse",
    "smp_upernet_depth4",
    "torchvision_fcn_aux",
}
NEUTRAL = {"smp_pspnet_40"}  # on the other backends too
FILES = sorted([*GOLDEN.glob("smp_*.npz"), *GOLDEN.glob("torchvision_*.npz")])


def marks(name):
    return [pytest.mark.slow] * (name not in QUICK) + [pytest.mark.backends] * (name in NEUTRAL)


def about(name):
    """Configuration, tensors' shapes, seed and shape of the image of a golden file."""
    with np.load(GOLDEN / f"{name}.npz") as reference:
        return json.loads(reference["about"].tobytes())


def state_of(name):
    return {key: fill(key, tuple(shape)) for key, shape in about(name)["tensors"].items()}


def write(folder, name):
    """The directory that smp's `save_pretrained` leaves behind."""
    save_file(state_of(name), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about(name)["config"]))
    return folder


def relative_error(ours, reference):
    return np.abs(ours - reference).max() / np.abs(reference).max()


@pytest.mark.parametrize("name", [pytest.param(path.stem, marks=marks(path.stem)) for path in FILES])
def test_logits_are_those_of_the_original(tmp_path, monkeypatch, name):
    import keras

    if keras.backend.backend() != "torch":
        monkeypatch.setitem(sys.modules, "torch", None)  # importing it is an error from here on
    folder = write(tmp_path, name)
    if name.startswith("smp"):
        model = kz.pretrained.from_smp(str(folder))
    else:
        model = kz.pretrained.from_torchvision(folder / "model.safetensors")
    reference = about(name)
    outputs = model.predict_on_batch(image(reference["seed"], tuple(reference["shape"])))
    outputs = outputs if isinstance(outputs, dict) else {"mask": outputs}
    with np.load(GOLDEN / f"{name}.npz") as expected:
        assert outputs.keys() - {"mask"} == set(expected.files) - {"logits", "about"}
        assert relative_error(outputs["mask"][:, ::STEP, ::STEP], expected["logits"]) < 1e-4
        if "label" in outputs:
            assert relative_error(outputs["label"], expected["label"]) < 1e-4


def test_every_architecture_has_a_quick_golden():
    from kerazoo.convert.smp_decoders import DECODERS
    from kerazoo.convert.smp_designs import DESIGNS

    stems = {path.stem for path in FILES}
    assert stems >= QUICK >= NEUTRAL
    quick = {about(name)["config"].get("_model_class") for name in QUICK} - {None}
    assert quick == DESIGNS.keys() == DECODERS.keys()


SMALL = "smp_pspnet_40"


@pytest.fixture(scope="module")
def state():
    return state_of(SMALL)


@pytest.fixture(scope="module")
def config():
    return about(SMALL)["config"]


def convert(state, config, **changes):
    return kz.pretrained.from_smp(state, {**config, **changes})


def test_a_state_dict_with_its_config(state, config, tmp_path):
    model = kz.pretrained.from_smp({"state_dict": {f"module.{key}": value for key, value in state.items()}}, config)
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    other = kz.pretrained.from_smp(path, config, image_shape=(64, 64, 3), name="other")
    assert other.name == "other"
    assert other.input_shape == (None, 64, 64, 3)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_preprocessing_is_in_the_model_on_demand(state, config):
    plain = kz.pretrained.from_smp(state, config)
    raw = kz.pretrained.from_smp(state, config, preprocessing=True)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 48, 3)).astype("float32")
    normalized = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    expected = plain.predict_on_batch(normalized.astype("float32"))
    assert relative_error(raw.predict_on_batch(pixels), expected) < 1e-4


def test_a_converted_model_is_one_of_ours(state, config, tmp_path):
    import keras

    model = kz.pretrained.from_smp(state, config)
    assert [layer.name for layer in model.layers if layer.weights] == ["encoder", "decoder", "head"]
    path = tmp_path / "model.keras"
    model.save(path)
    x = image(0, (1, 40, 56, 3))
    np.testing.assert_allclose(
        keras.models.load_model(path).predict_on_batch(x), model.predict_on_batch(x), rtol=1e-5, atol=1e-5
    )
    assert model.predict_on_batch(image(0, (1, 37, 51, 3))).shape == (1, 37, 51, 2)


def test_smp_s_own_defaults_fill_a_short_config(state):
    short = {"_model_class": "PSPNet", "encoder_name": "resnet18", "classes": 2, "psp_out_channels": 64}
    model = kz.pretrained.from_smp(state, short)
    assert model.output_shape == (None, None, None, 2)


def test_arguments_of_earlier_versions(state, config):
    model = convert(state, config, psp_use_batchnorm=True, decoder_use_norm="identity", encoder_weights="imagenet")
    assert model.get_layer("decoder").count_params() > 0
    today = state_of("smp_deeplabv3_separable")
    before = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    renamed = {
        next((key.replace(now, then) for now, then in before.items() if key.startswith(now)), key): value
        for key, value in today.items()
    }
    assert renamed.keys() != today.keys()
    kz.pretrained.from_smp(renamed, about("smp_deeplabv3_separable")["config"])


def test_an_activation_is_left_out_with_a_word(state, config):
    with pytest.warns(UserWarning, match="activation='sigmoid'; the converted one gives the logits before it"):
        convert(state, config, activation="sigmoid")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_model_class": "Unetplusplus"}, r"_model_class='Unetplusplus' is no class .* Did you mean 'UnetPlusPlus'"),
        ({"_model_class": "os.system"}, r"_model_class='os.system' is no class of smp"),
        ({"encoder_name": "resnext50_32x4d"}, r"encoder_name='resnext50_32x4d' .* there are resnet18, .*tu-seresnet50"),
        ({"encoder_name": "seresnet50"}, r"encoder_name='seresnet50' is no encoder"),
        ({"drop_path_rate": 0.1}, r"smp\.PSPNet that cannot be converted: drop_path_rate\. Known are encoder_name"),
        ({"decoder_use_norm": "layernorm"}, r"decoder_use_norm='layernorm' cannot be converted"),
        (
            {"decoder_use_norm": {"type": "batchnorm", "eps": 0.1}},
            r"decoder_use_norm=.*eps.* without further arguments",
        ),
        ({"upsampling": 4}, r"upsampling=4 gives masks of another size .* Only upsampling=8 can be converted"),
        ({"encoder_depth": 6, "upsampling": 64}, r"1 to 5 levels, received depth=6"),
        ({"aux_params": {"classes": 3}}, r"aux_params=.* pooling='avg' with the 2 classes of the mask"),
        ({"aux_params": {"classes": 2, "pooling": "max"}}, r"aux_params=.* cannot be converted"),
        ({"classes": 5}, r"2 of another shape:\n  segmentation_head.0.weight \(2, 64, 3, 3\), the model wants \(5, 64"),
        ({"encoder_name": "resnet34"}, r"missing:\n  encoder.layer1.2.conv1.weight \(64, 64, 3, 3\) \(there is"),
    ],
)
def test_what_cannot_be_converted_is_named(state, config, changes, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        convert(state, config, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("smp_fpn_tu", {"encoder_depth": 3}, "encoder_depth=3 cannot be converted for FPN"),
        ("smp_fpn_tu", {"decoder_merge_policy": "max"}, r"decoder_merge_policy='max' .* there are \['add', 'cat'\]"),
        ("smp_unet_scse", {"decoder_attention_type": "cbam"}, "decoder_attention_type='cbam' cannot be converted"),
        ("smp_unet_scse", {"decoder_interpolation": "bicubic"}, "decoder_interpolation='bicubic' cannot be converted"),
    ],
)
def test_what_other_architectures_cannot_do_is_named(name, changes, message):
    with pytest.raises(ValueError, match=message):
        kz.pretrained.from_smp({"a": np.zeros(1)}, {**about(name)["config"], **changes})


def test_what_is_missing_around_the_tensors(tmp_path, state, config):
    with pytest.raises(ValueError, match="pass `config`"):
        kz.pretrained.from_smp(state)
    with pytest.raises(FileNotFoundError, match="no file or directory .*nowhere.* of the form 'user/model'"):
        kz.pretrained.from_smp("nowhere/")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        kz.pretrained.from_smp(tmp_path)
    save_file({"a": np.zeros(1, "float32")}, tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no config\.json beside model\.safetensors"):
        kz.pretrained.from_smp(tmp_path)
    (tmp_path / "config.json").write_text("{]")
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        kz.pretrained.from_smp(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json should hold an object .* received a list"):
        kz.pretrained.from_smp(tmp_path)
    with pytest.raises(ValueError, match="(?s)1 not in the model:.*missing"):
        kz.pretrained.from_smp(tmp_path, config)


def test_names_of_the_hub_are_asked_for_there(monkeypatch, tmp_path, state, config):
    import huggingface_hub

    calls = []

    def snapshot_download(repo, **arguments):
        calls.append((repo, arguments))
        return str(write(tmp_path, SMALL))

    monkeypatch.setenv("KERAZOO_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="no file or directory 'nobody/nothing', and nothing came from"):
        kz.pretrained.from_smp("nobody/nothing")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    kz.pretrained.from_smp("somebody/something", revision="v1")
    ((repo, arguments),) = calls
    assert repo == "somebody/something"
    assert arguments["revision"] == "v1"
    assert arguments["local_files_only"]
    assert not any(pattern.endswith((".bin", ".pth")) for pattern in arguments["allow_patterns"])


def test_torchvision_s_other_models_are_refused(state):
    with pytest.raises(ValueError, match="the state dict is of none of fcn_resnet50, .*received encoder.conv1.weight"):
        kz.pretrained.from_torchvision(state)
