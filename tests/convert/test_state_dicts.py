"""Tensors of PyTorch in our models: reading files, strict assignment, encoders from timm files."""

import gc
import importlib.util
import struct
import tracemalloc
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.encoders import build_encoder
from support.golden_rule import fill, image

import kerazoo as kz
from kerazoo.checkpoints import tensors
from kerazoo.encoders.resnet import basic_block

TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)


def state_of(shapes):
    return {name: fill(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def encoder():
    model, _ = build_encoder(TINY, image_shape=(32, 32, 3))
    return model


@pytest.fixture(scope="module")
def state(encoder):
    """A state dict as timm would write it, classifier and counters included."""
    timm = {"fc.weight": (10, 16), "fc.bias": (10,), "bn1.num_batches_tracked": ()}
    return state_of({**tensors.places(encoder, TINY.state_dict_name), **timm})


@pytest.fixture
def checkpoint(tmp_path, state):
    path = tmp_path / "tiny.safetensors"
    save_file(state, path)
    return path


def load(path, **kwargs):
    model, _ = build_encoder(TINY, image_shape=kwargs.pop("image_shape", (32, 32, 3)), weights=path, **kwargs)
    return model


def conv_of(model, name):
    return keras.ops.convert_to_numpy(model.get_layer(name).kernel)


def test_read_is_lazy_and_names_what_is_there(checkpoint, state):
    read = tensors.read(checkpoint)
    assert set(read) == set(state)
    assert len(read) == len(state)
    assert "conv1.weight" in read
    assert "layer9" not in read
    np.testing.assert_array_equal(read["conv1.weight"], state["conv1.weight"])
    with pytest.raises(KeyError):
        read["layer9"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_every_precision_becomes_float32(tmp_path, dtype):
    values = np.array([[0.0, 1.5], [-2.25, 1024.0]])
    raw = values.astype(dtype).tobytes()
    name = {"float16": "F16", "float64": "F64", "bfloat16": "BF16"}[np.dtype(dtype).name]
    header = f'{{"a":{{"dtype":"{name}","shape":[2,2],"data_offsets":[0,{len(raw)}]}}}}'.encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw)
    read = tensors.read(path)["a"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_an_encoder_takes_a_timm_file(checkpoint, state):
    model = load(checkpoint)
    kernel = state["layer2.0.conv1.weight"]
    np.testing.assert_array_equal(conv_of(model, "layer2_0_conv1"), kernel.transpose(2, 3, 1, 0))
    norm = model.get_layer("layer2_0_downsample_bn")
    for ours, theirs in {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }.items():
        expected = state[f"layer2.0.downsample.1.{theirs}"]
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(getattr(norm, ours)), expected)


def test_a_shallow_encoder_leaves_the_deeper_stages_in_the_file(checkpoint, state):
    model = load(checkpoint, depth=3)
    np.testing.assert_array_equal(
        conv_of(model, "layer2_0_conv1"), state["layer2.0.conv1.weight"].transpose(2, 3, 1, 0)
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_the_stem_adapts_to_other_channels(checkpoint, state, channels):
    model = load(checkpoint, image_shape=(32, 32, channels))
    colors = state["conv1.weight"].transpose(2, 3, 1, 0)
    if channels == 1:
        expected = colors.sum(axis=2, keepdims=True)
    else:
        expected = np.stack([colors[:, :, i % 3] for i in range(channels)], axis=2) * (3 / channels)
    np.testing.assert_allclose(conv_of(model, "conv1"), expected, rtol=1e-6)


def test_a_shape_of_the_stem_that_is_not_about_channels_is_refused(tmp_path, state):
    path = tmp_path / "small_stem.safetensors"
    save_file({**state, "conv1.weight": fill("conv1.weight", (8, 3, 3, 3))}, path)
    with pytest.raises(
        ValueError, match=r"conv1.weight \(8, 3, 3, 3\), the model wants \(8, 3, 7, 7\) for conv1/kernel"
    ):
        load(path)


def test_whatever_does_not_fit_is_listed_and_nothing_is_changed(encoder, state):
    changed = {**state, "layer9.0.conv1.weight": state["layer1.0.conv1.weight"], "layer1.0.bn2.bias": np.zeros(9)}
    changed["layer3.0.convolution1.weight"] = changed.pop("layer3.0.conv1.weight")
    before = [np.copy(value) for value in encoder.get_weights()]
    with pytest.raises(ValueError, match="the state dict do not fit the model 'encoder'") as error:
        tensors.assign(encoder, changed, TINY.state_dict_name, allow_unexpected=("fc.*",))
    lines = str(error.value).splitlines()
    assert lines[1] == "2 not in the model:"
    assert lines[2].startswith("  layer9.0.conv1.weight (8, 8, 3, 3)")
    assert lines[3] == (
        "  layer3.0.convolution1.weight (12, 8, 3, 3) (the model has layer3.0.conv1.weight (12, 8, 3, 3))"
    )
    assert lines[4] == "1 missing:"
    assert lines[5].startswith("  layer3.0.conv1.weight (12, 8, 3, 3) (there is layer3.0.convolution1.weight")
    assert lines[6] == "1 of another shape:"
    assert lines[7] == "  layer1.0.bn2.bias (9,), the model wants (8,) for layer1_0_bn2/beta"
    for ours, old in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


def test_long_lists_are_cut_and_counted(encoder):
    with pytest.raises(ValueError, match=r"(?s)1 not in the model:.* missing:.*… and \d+ more") as error:
        tensors.assign(encoder, {"a": np.zeros(1)}, TINY.state_dict_name)
    assert len(str(error.value).splitlines()) == 3 + 1 + tensors.SHOWN + 1


def test_exceptions_are_named_by_patterns(encoder, state):
    without = {name: value for name, value in state.items() if not name.startswith("layer4")}
    with pytest.raises(ValueError, match="missing"):
        tensors.assign(encoder, without, TINY.state_dict_name, allow_unexpected=("fc.*",))
    with pytest.raises(ValueError, match=r"2 not in the model:\n  fc\.weight"):
        tensors.assign(encoder, state, TINY.state_dict_name)
    tensors.assign(encoder, without, TINY.state_dict_name, allow_unexpected=("fc.*",), allow_missing=("layer4.*",))


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, state, name):
    """More blocks, or blocks of another kind."""
    other = kz.encoders.ResNet(
        block=basic_block, depths=(2, 1, 1, 1) if name == "resnet34" else (1, 1, 1, 1), widths=(8, 8, 12, 16),
        expansion=1, stem_width=8,
    )  # fmt: skip
    shapes = tensors.places(build_encoder(other, image_shape=(32, 32, 3))[0], other.state_dict_name)
    if name == "resnet50":
        shapes = {key.replace("conv2", "conv3"): shape for key, shape in shapes.items()}
    path = tmp_path / f"{name}.safetensors"
    save_file(state_of(shapes), path)
    with pytest.raises(ValueError, match=rf"The tensors of {name}\.safetensors do not fit the model 'encoder'"):
        load(path)


def test_two_weights_may_not_read_one_tensor(encoder, state):
    with pytest.raises(ValueError, match=r"Both conv1/kernel and layer1_0_conv1/kernel are mapped to the tensor same"):
        tensors.assign(encoder, state, lambda path: "same" if "conv1" in path else TINY.state_dict_name(path))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.safetensors", b"\x00\x01", ValueError, "a.safetensors is no complete .safetensors file"),
        ("a.npz", b"", ValueError, r"a.npz: tensors are read from files that end in .safetensors, .pth"),
        ("b.safetensors", None, FileNotFoundError, "There is no file .*b.safetensors"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        tensors.read(tmp_path / name)


def test_a_cut_off_file_is_refused(tmp_path, checkpoint):
    path = tmp_path / "half.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="half.safetensors is no complete .safetensors file"):
        load(path)


needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")


def torch_state(state):
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


@needs_torch
@pytest.mark.parametrize(
    ("wrap", "zipped"),
    [
        (lambda state: state, True),
        (lambda state: state, False),
        (lambda state: {"epoch": 3, "state_dict": state, "args": {"lr": 0.1}}, True),
        (lambda state: {"model": {f"module.{name}": value for name, value in state.items()}}, True),
    ],
)
def test_pth_files(tmp_path, state, wrap, zipped):
    import torch

    path = tmp_path / "tiny.pth"
    torch.save(wrap(torch_state(state)), path, _use_new_zipfile_serialization=zipped)
    model = load(path)
    expected = state["layer4.0.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(conv_of(model, "layer4_0_conv2"), expected)


@needs_torch
def test_what_is_no_state_dict_is_described(tmp_path, state):
    import torch

    path = tmp_path / "tiny.pth"
    torch.save({"state_dict": torch_state(state), "state_dict_ema": torch_state(state)}, path)
    with pytest.raises(ValueError, match=r"received several, under \['state_dict', 'state_dict_ema'\]"):
        load(path)
    torch.save({"optimizer": {"lr": 0.1}, "epoch": 1}, path)
    with pytest.raises(ValueError, match=r"received a dict with the keys \['optimizer', 'epoch'\]"):
        load(path)
    with pytest.raises(
        ValueError, match=r"the state dict should hold one state dict.*received a dict with the keys \[\]"
    ):
        tensors.from_state({})


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@needs_torch
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_never_runs(tmp_path, zipped):
    import torch

    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    torch.save({"state_dict": Malicious(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="evil.pth is no checkpoint that holds only tensors.*never run here"):
        load(path)
    assert not trace.exists()


@needs_torch
def test_every_kind_of_layer_computes_what_torch_computes():
    import torch

    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),  # depthwise, two outputs per channel
        nn.BatchNorm2d(16),
        nn.ConvTranspose2d(16, 32, 2, stride=2),
        nn.GroupNorm(4, 32),
        nn.Conv2d(32, 6, 1),  # a dense layer of ours
        nn.Conv2d(6, 5, 3, padding=2, dilation=2, bias=False),
    ).eval()
    last = nn.Linear(5, 3)  # a 1x1 convolution of ours
    layers = keras.layers
    ours = keras.Sequential(
        [
            keras.Input((None, None, 4)),
            layers.Conv2D(8, 3, padding="same", groups=2, name="0"),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="1"),
            layers.BatchNormalization(epsilon=1e-5, name="2"),
            layers.Conv2DTranspose(32, 2, strides=2, name="3"),
            layers.GroupNormalization(4, epsilon=1e-5, name="4"),
            layers.Dense(6, name="5"),
            layers.Conv2D(5, 3, padding="same", dilation_rate=2, use_bias=False, name="6"),
            layers.Conv2D(3, 1, name="7"),
            layers.LayerNormalization(epsilon=1e-5, name="8"),
        ]
    )
    norm = nn.LayerNorm(3)
    everything = nn.Sequential(*theirs, last, norm)
    with torch.no_grad():
        for name, parameter in everything.state_dict().items():
            if parameter.ndim:
                parameter.copy_(torch.from_numpy(fill(name, tuple(parameter.shape))))
        x = image(1, (2, 5, 7, 4))
        expected = norm(last(theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).permute(0, 2, 3, 1))).numpy()
    tensors.assign(ours, everything.state_dict(), lambda path: path.rpartition("/")[2])
    np.testing.assert_allclose(ours.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


@needs_torch
def test_bfloat16_of_torch_becomes_float32():
    import torch

    state = tensors.from_state({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "n": torch.tensor(3)})
    assert state["a"].dtype == np.float32
    np.testing.assert_array_equal(state["a"], [1.5, -2.0])
    assert state["n"].dtype == np.int64


def test_journey_from_a_timm_file(tmp_path, checkpoint, state):
    model = kz.segmenter(TINY, "fpn", "mlf", num_classes=1, weights=str(checkpoint), image_shape=(32, 32, 3))
    expected = state["layer1.0.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(conv_of(model.get_layer("encoder"), "layer1_0_conv1"), expected)


def test_tensors_are_read_one_at_a_time(tmp_path):
    """What NumPy holds at the peak, beyond what it holds in the end, is a few tensors, however many the file has.

    In the end, because TensorFlow takes an array of aligned memory for the memory of its variable, without a copy.
    """
    model = keras.Sequential([keras.Input((512,)), *(keras.layers.Dense(512, name=f"{i}") for i in range(12))])
    path = tmp_path / "dense.safetensors"
    save_file(state_of(tensors.places(model, lambda path: path.rpartition("/")[2])), path)
    passing = []
    for _ in range(5):  # other threads, and what is imported lazily, only add to what is counted
        gc.collect()
        tracemalloc.start()
        tensors.assign(model, tensors.read(path), lambda path: path.rpartition("/")[2])
        kept, peak = tracemalloc.get_traced_memory()
        passing.append(peak - kept)
        tracemalloc.stop()
    assert min(passing) < 4 * (4 * 512 * 512) < path.stat().st_size / 2
