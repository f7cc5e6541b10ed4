"""Tensors of PyTorch in our models: reading files, strict assignment, encoders from timm files."""

import struct

import keras
import ml_dtypes
import numpy as np
import pytest
from golden_rule import fill
from safetensors.numpy import save_file

import kerazoo as kz
from kerazoo.encoders.build import build_encoder
from kerazoo.encoders.resnet import basic_block
from kerazoo.pretrained import tensors

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
    return state_of({**tensors.places(encoder, TINY.module_of), **timm})


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
