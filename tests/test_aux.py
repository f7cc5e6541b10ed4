"""Deep supervision: one logit map per decoded level, trained with the mask, and gone where a model is used."""

import keras
import numpy as np
import pytest
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo.compose import without_aux
from kerazoo.encoders.resnet import basic_block
from kerazoo.types import Level

pytestmark = pytest.mark.backends
TINY = kz.encoders.ResNet(
    block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8
)  # every code path of a ResNet-18, built in a fraction of the time
WIDTHS = (8, 6)
KEYS = {"mask", "aux_2", "aux_4"}


def tiny(**options):
    options = {"num_classes": 1, "depth": 3, "aux": True, **options}
    return kz.segmenter(TINY, kz.decoders.UNet(widths=WIDTHS), "linear", **options)


def images_and_masks(count=4, size=(33, 47)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *size, 3)).astype("uint8"), rng.integers(0, 2, (count, *size))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tiny(num_classes=3, label_head=True)


def test_there_is_a_map_of_image_size_for_the_mask_and_every_decoded_level(model):
    outputs = model.predict_on_batch(images_and_masks()[0])
    assert set(outputs) == KEYS | {"label"}
    assert {value.shape for key, value in outputs.items() if key != "label"} == {(4, 33, 47, 3)}
    assert {value.dtype.name for value in outputs.values()} == {"float32"}


def test_auxiliary_maps_cost_one_convolution_each(model):
    plain = tiny(num_classes=3, label_head=True, aux=False)
    assert model.count_params() - plain.count_params() == sum((width + 1) * 3 for width in WIDTHS)
    names = [weight.path for weight in model.weights]
    assert len(set(names)) == len(names)


def test_auxiliary_maps_read_their_level_and_the_mask_does_not_depend_on_them(model):
    """Weights of one auxiliary map change that map alone."""
    images, _ = images_and_masks(1)
    before = model.predict_on_batch(images)
    kernel = next(weight for weight in model.weights if weight.path.endswith("h_aux_4/kernel"))
    kept = keras.ops.convert_to_numpy(kernel)
    kernel.assign(kept + 1)
    after = model.predict_on_batch(images)
    kernel.assign(kept)
    assert [key for key in before if np.abs(after[key] - before[key]).max() > 1e-6] == ["aux_4"]


def test_levels_of_equal_stride_have_names_of_their_own():
    from kerazoo.heads._auxiliary import auxiliary_names

    levels = tuple(Level(stride, None) for stride in (4, 8, 16, 16))
    assert auxiliary_names(levels) == ["aux_4", "aux_8", "aux_16", "aux_16_3"]
    model = kz.segmenter(TINY, kz.decoders.FPN(width=8), "linear", num_classes=1, aux=True, output_stride=16)
    assert set(model.output) == {"mask", "aux_4", "aux_8", "aux_16", "aux_16_3"}


@pytest.mark.slow
@pytest.mark.parametrize("name", kz.decoders.list())
def test_every_decoder_can_be_supervised(name):
    decoder = kz.decoders.create(name, **({"fc_width": 16} if name == "deconvnet" else {}))
    switches = getattr(decoder, "switches", False)
    encoder = kz.encoders.VGG(depths=(1,) * 5, widths=(8,) * 5) if switches else TINY
    model = kz.segmenter(encoder, decoder, "linear", num_classes=2, aux=True)
    outputs = model.predict_on_batch(images_and_masks(1)[0])
    assert len(outputs) == 1 + len(model.get_layer("aux_head").outputs)
    assert {value.shape for value in outputs.values()} == {(1, 33, 47, 2)}


def test_without_aux_the_rest_is_the_same(model):
    images, _ = images_and_masks(2)
    bare = without_aux(model)
    assert "aux_head" not in {layer.name for layer in bare.layers}
    outputs, expected = bare.predict_on_batch(images), model.predict_on_batch(images)
    assert set(outputs) == {"mask", "label"}
    for key, value in outputs.items():
        np.testing.assert_allclose(value, expected[key], atol=1e-6)
    assert without_aux(bare) is bare
    single = without_aux(tiny())
    assert single.output_shape == (None, None, None, 1)


@on_one_backend
def test_every_head_learns_and_the_losses_add_up(tmp_path):
    """As a person types it, with arrays; also after saving and loading, optimizer included."""
    model = tiny()
    images, masks = images_and_masks()
    targets = dict.fromkeys(model.output, masks)
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.get_layer("aux_head").weights}
    assert len(before) == 4
    loss = kz.losses.CrossEntropy() + 0.1 * kz.losses.ForegroundDice()
    losses = kz.losses.deep_supervision(loss, model, weight=0.8)
    model.compile(keras.optimizers.SGD(0.1), loss=losses, metrics={"mask": [kz.metrics.IoU(1)]})
    model.fit(images, targets, batch_size=4, verbose=0)
    for weight in model.get_layer("aux_head").weights:
        assert np.abs(keras.ops.convert_to_numpy(weight) - before[weight.path]).max() > 0, weight.path

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    logs = loaded.evaluate(images, targets, verbose=0, return_dict=True)
    alone = {key: float(loss(masks, value)) for key, value in model.predict_on_batch(images).items()}
    assert set(alone) == KEYS
    assert logs["loss"] == pytest.approx(alone["mask"] + 0.4 * (alone["aux_2"] + alone["aux_4"]), rel=1e-4)
    assert [key for key in logs if key.endswith("iou")] == ["mask_iou"]
    loaded.train_on_batch(images, targets)


def test_predict_reads_the_mask(model):
    images, _ = images_and_masks(2)
    predicted, expected = kz.inference.predict(model, images), kz.inference.predict(without_aux(model), images)
    for one, other in zip(predicted, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)
        np.testing.assert_allclose(one.label, other.label, atol=1e-6)


def test_misuse_is_named(model):
    with pytest.raises(ValueError, match=r"has no auxiliary maps to supervise\. Build it with kerazoo\.segmenter"):
        kz.losses.deep_supervision(kz.losses.CrossEntropy(), tiny(aux=False))
    with pytest.raises(TypeError, match=r"`loss` must be a loss object, .*; received 'mse'"):
        kz.losses.deep_supervision("mse", model)
    with pytest.raises(ValueError, match=r"`weight` must be positive, received 0"):
        kz.losses.deep_supervision(kz.losses.CrossEntropy(), model, weight=0)
