"""Freezing: what is frozen does not move, what is not does, and a forgotten recompile is an error."""

import keras
import numpy as np
import pytest
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block

pytestmark = pytest.mark.backends
TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)


def numpy_of(variables):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in variables}


def moved(before, variables):
    return {path for path, value in numpy_of(variables).items() if (value != before[path]).any()}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    decoder = kz.decoders.create("unet", widths=(32, 12, 8, 8))
    return kz.segmenter(TINY, decoder, "linear", num_classes=1, image_shape=(32, 32, 3))


def train_step(model):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 32, 32, 3), dtype="float32") * 255, rng.integers(0, 2, (2, 32, 32, 1)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    model.train_on_batch(x, y)


def test_a_frozen_encoder_does_not_move_not_even_its_moving_statistics(model, capsys):
    kz.freeze(model, "encoder")
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    assert "trainable 25.2 k of 36.0 k parameters" in capsys.readouterr().out
    before, before_decoder = numpy_of(encoder.weights), numpy_of(decoder.weights)
    train_step(model)
    assert not moved(before, encoder.weights)
    assert moved(before_decoder, decoder.weights) == set(before_decoder)


def test_a_frozen_encoder_gives_in_training_what_it_gives_in_inference(model):
    kz.freeze(model, "encoder")
    x = np.random.default_rng(0).random((2, 32, 32, 3), dtype="float32")
    encoder = model.get_layer("encoder")
    for trained, inferred in zip(encoder(x, training=True), encoder(x, training=False), strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(trained), keras.ops.convert_to_numpy(inferred), rtol=1e-5, atol=1e-5
        )


@on_one_backend
def test_batch_norm_can_go_on_training(model):
    kz.freeze(model, "encoder", batchnorm="train")
    encoder = model.get_layer("encoder")
    before = numpy_of(encoder.weights)
    train_step(model)
    assert moved(before, encoder.weights)
    assert all("bn" in path for path in moved(before, encoder.weights))


def test_unfreezing_from_a_stride_moves_only_what_is_coarser(model):
    kz.freeze(model, "encoder")
    kz.unfreeze(model, "encoder", from_stride=16)
    encoder = model.get_layer("encoder")
    before = numpy_of(encoder.weights)
    train_step(model)
    stages = {path.split("/")[0].split("_")[0] for path in moved(before, encoder.weights)}
    assert stages == {"layer3", "layer4"}


def test_unfreezing_all_after_a_container_was_frozen_by_hand(model):
    model.get_layer("encoder").trainable = False
    kz.unfreeze(model, "encoder")
    table = kz.trainable_table(model)
    assert table.rows[0].part == "encoder"
    assert table.rows[0].trainable == sum(int(np.prod(v.shape)) for v in model.get_layer("encoder").trainable_variables)
    assert table.rows[0].trainable > 9_000


def test_unfreezing_can_leave_batch_norm_frozen(model):
    kz.freeze(model, "encoder")
    kz.unfreeze(model, "encoder", batchnorm="frozen")
    flags = {layer.name: layer.trainable for layer in model.get_layer("encoder").layers if layer.weights}
    assert all(flag == ("bn" not in name) for name, flag in flags.items())


def test_flags_survive_the_file(model, tmp_path):
    kz.freeze(model, "encoder")
    model.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert kz.trainable_table(loaded) == kz.trainable_table(model)


def test_a_forgotten_recompile_is_an_error(model):
    model.compile("sgd", loss="mse")
    kz.freeze(model, "encoder")
    with pytest.raises(ValueError, match=r"compile\(\)"):
        model.fit(np.zeros((1, 32, 32, 3)), np.zeros((1, 32, 32, 1)), verbose=0)


def test_the_table_names_the_parts(model):
    kz.freeze(model, "encoder")
    text = str(kz.trainable_table(model))
    assert [line.split()[0] for line in text.splitlines()] == ["encoder", "decoder", "head", "all"]
    assert "0 of       " in text.splitlines()[0]


def test_bad_arguments_are_named(model):
    with pytest.raises(ValueError, match=r"has no part 'backbone'; its parts are \['encoder', 'decoder', 'head'\]"):
        kz.freeze(model, "backbone")
    with pytest.raises(ValueError, match=r"`batchnorm` must be one of \('frozen', 'train'\), received 'half'"):
        kz.freeze(model, "encoder", batchnorm="half")
    with pytest.raises(ValueError, match=r"has a stride of at least 64: there are \[2, 4, 8, 16, 32\]"):
        kz.unfreeze(model, "encoder", from_stride=64)
    with pytest.raises(ValueError, match="`from_stride` is for encoders, and 'decoder' is none"):
        kz.unfreeze(model, "decoder", from_stride=16)
