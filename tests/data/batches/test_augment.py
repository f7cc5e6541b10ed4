"""Augmentation: image and mask stay together, masks get no new ids, and the seed decides."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.data_fixtures import Arrays, arrays, figure

import kerazoo as kz
from kerazoo.data import augment
from kerazoo.data.batches.augment import Augmenter

NAMES = [name for name in augment.list() if name not in ("crop", "cutmix")]  # which have tests of their own
GEOMETRY = {"elastic", "flip", "flip_vertical", "rotate", "shift", "zoom"}
MASKS = np.stack([figure(48, 64).astype(np.uint8)] * 8)
IMAGES = np.where(MASKS > 0, 200, 60).astype(np.uint8)[..., np.newaxis]


def apply(items, images=IMAGES, masks=MASKS, *, seed=(3, 5), mask_fill=0):
    """Augment NumPy arrays; the pipeline does the same in a graph."""
    augmenter = Augmenter(items, mask_fill=mask_fill)
    tensors = (tf.constant(images), tf.constant(masks), tf.constant(seed, tf.int32))
    return [part.numpy() for part in augmenter(*tensors)]


def inner(mask):
    """`mask` without its outline, where bilinear and nearest pixels may differ."""
    shifted = [np.roll(mask, step, axis) for step in (-1, 1) for axis in (1, 2)]
    return np.logical_and.reduce([mask, *shifted])


def test_every_augmentation_is_tested_here():
    assert set(NAMES) >= GEOMETRY
    assert len(NAMES) == 10, "say in GEOMETRY whether the new one moves pixels"


@pytest.mark.parametrize("name", NAMES)
def test_image_and_mask_stay_together(name):
    images, masks = apply([name])
    assert (images.shape, images.dtype) == (IMAGES.shape, np.uint8)
    assert (masks.shape, masks.dtype) == (MASKS.shape, np.uint8)
    assert (images != IMAGES).any(), "nothing happened"
    if name not in GEOMETRY:
        assert (masks == MASKS).all()
        return
    assert (masks != MASKS).any()
    bright = images[..., 0] > 130
    foreground, background = inner(masks == 1), inner(masks == 0)
    assert foreground.sum() > 500
    assert bright[foreground].all(), "the mask has foreground where the image has none"
    assert not bright[background].any(), "the image has foreground where the mask has none"


def test_the_alignment_check_can_fail():
    images, masks = apply(["rotate"])
    bright = np.roll(images[..., 0] > 130, 3, axis=2)
    assert not bright[inner(masks == 1)].all()


@pytest.mark.parametrize("name", sorted(GEOMETRY))
def test_masks_get_no_new_ids_and_their_own_fill(name):
    masks = MASKS * 7 + np.roll(MASKS, 9, axis=2) * 11 * (1 - MASKS)
    strength = {"factor": 0.3} if name == "elastic" else {}
    item = augment.create(name, fill_value=90.0, **strength) if name not in ("flip", "flip_vertical") else name
    images, moved = apply([item], np.full_like(IMAGES, 200), masks, mask_fill=255)
    assert {7, 11} <= set(np.unique(moved)) <= {0, 7, 11, 255}
    outside, inside = images[..., 0] == 90, images[..., 0] == 200
    assert outside.any() == (name not in ("flip", "flip_vertical"))
    assert (moved[outside] == 255).all(), "outside of the image, the mask is not ignored"
    assert (moved[inside] != 255).all()


def test_strongest_settings_still_move_both():
    items = [
        augment.rotate(degrees=180), augment.zoom(factor=0.5), augment.shift(factor=0.3), augment.create("flip"),
        augment.gamma(factor=0.2), augment.noise(factor=0.02), augment.brightness(factor=0.05),
    ]  # fmt: skip
    images, masks = apply(items)
    bright = images[..., 0] > 130
    foreground, background = inner(inner(masks == 1)), inner(inner(masks == 0))
    assert bright[foreground].mean() > 0.99
    assert bright[background].mean() < 0.01


def test_each_image_of_a_batch_is_turned_by_itself():
    _, masks = apply(["rotate"])
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    flipped = apply(["flip"])[1]
    assert {mask.tobytes() for mask in flipped} == {MASKS[0].tobytes(), MASKS[0, :, ::-1].tobytes()}
    turned = apply(["flip_vertical"])[1]
    assert {mask.tobytes() for mask in turned} == {MASKS[0].tobytes(), MASKS[0, ::-1].tobytes()}


def test_two_augmentations_draw_independently():
    _, masks = apply(["flip", "flip_vertical"], np.repeat(IMAGES, 4, axis=0), np.repeat(MASKS, 4, axis=0))
    assert len({mask.tobytes() for mask in masks}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name):
    first, again, other = apply([name]), apply([name]), apply([name], seed=(3, 6))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("name", NAMES)
def test_float_images_keep_range_and_dtype(name):
    images, _ = apply([name], IMAGES.astype(np.float32))
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 255


@pytest.mark.parametrize("name", NAMES)
def test_another_range_of_intensities_is_the_same_picture(name):
    """Images in [-1, 1] become what they would become in 0-255: nothing is clipped to 0-255 or filled with gray."""
    low, high = -1.0, 1.0
    carried = IMAGES / np.float32(255) * (high - low) + low
    tensors = (tf.constant(MASKS), tf.constant((3, 5), tf.int32))
    unit, masks = Augmenter([name], value_range=(low, high))(tf.constant(carried), *tensors)
    images, expected = apply([name], IMAGES.astype(np.float32))
    np.testing.assert_allclose((unit.numpy() - low) / (high - low) * 255, images, atol=0.01)
    assert (masks.numpy() == expected).all()


def test_the_range_of_the_source_reaches_augmentation():
    class Unit(Arrays):
        value_range = (-1.0, 1.0)

    source = kz.data.Source(Unit(images=IMAGES.astype(np.float32) / 127.5 - 1, masks=MASKS))
    for of in (source, source.map_classes({1: "figure"}), kz.data.concat(source)):
        assert of.value_range == (-1, 1)
        padded, _ = next(
            iter(kz.data.pipeline(of, image_size=None, batch_size=8, augment=[augment.crop(size=(60, 70))]))
        )
        assert (padded[:, 0].numpy() == -1).all(), "black"
        noisy, _ = next(iter(kz.data.pipeline(of, image_size=(48, 64), batch_size=8, augment=["noise"])))
        assert noisy.numpy().min() < -0.4
        assert noisy.numpy().max() <= 1
    with pytest.raises(ValueError, match=r"differ in value_range: \(-1.0, 1.0\) and \(0.0, 255.0\)"):
        kz.data.concat(source, arrays(4))


def test_masks_may_be_missing():
    augmenter = Augmenter(["rotate", "noise"])
    images, masks = augmenter(tf.constant(IMAGES), None, tf.constant([1, 2]))
    assert masks is None
    assert (images.numpy() == apply(["rotate", "noise"], seed=(1, 2))[0]).all()


def test_contrast_goes_both_ways():
    images, _ = apply(["contrast"])
    ratios = images.reshape(8, -1).std(axis=1) / IMAGES.reshape(8, -1).std(axis=1)
    assert ratios.min() < 0.97
    assert ratios.max() > 1.03


def test_gamma_is_a_power_of_the_share_of_255():
    ramp = np.tile(np.arange(256, dtype=np.float32), (8, 2, 1))[..., np.newaxis]
    images, _ = apply([augment.gamma(factor=1.0)], ramp, np.zeros((8, 2, 256), np.uint8))
    powers = np.log(images[:, 0, 128, 0] / 255) / np.log(128 / 255)
    assert ((powers > 0.5) & (powers < 2)).all()
    assert powers.min() < 0.9 < 1.1 < powers.max()
    expected = 255 * (ramp[:, 0, :, 0] / 255) ** powers[:, np.newaxis]
    np.testing.assert_allclose(images[:, 0, :, 0], expected, rtol=1e-4, atol=1e-3)


def test_half_precision_policy_does_not_reach_images():
    keras.config.set_dtype_policy("mixed_float16")
    fine = IMAGES.astype(np.float32) + 0.03
    images, _ = apply(["flip"], fine)
    assert set(np.unique(images)) == set(np.unique(fine))


def test_keras_layers_are_taken_and_left_alone():
    layer = keras.layers.RandomTranslation(0.2, 0.2, fill_mode="constant", fill_value=77.0)
    images, masks = apply([layer])
    assert set(np.unique(masks)) == {0, 1}
    assert (images == 77).any()
    assert layer.get_config()["fill_value"] == 77.0
    assert layer.interpolation == "bilinear"


@pytest.mark.parametrize("name", [*augment._GEOMETRY, *augment._INTENSITY])
def test_known_keras_layers_keep_masks_aligned(name):
    options = {
        "RandomRotation": {"factor": 0.1}, "RandomZoom": {"height_factor": 0.2},
        "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
        "RandomPerspective": {"factor": 1.0, "scale": 0.5}, "RandomPosterization": {"factor": 4},
    }.get(name, {"factor": 0.2})  # fmt: skip
    if name in (
        "RandomFlip",
        "AutoContrast",
        "Equalization",
        "RandomGaussianBlur",
        "RandomColorJitter",
        "Solarization",
    ):
        options = {}
    try:
        layer = getattr(keras.layers, name)(**options)
    except TypeError as error:
        pytest.fail(f"{name}: {error}")
    images, masks = apply([layer], np.repeat(IMAGES, 3, axis=-1))
    if name in augment._INTENSITY:
        assert (masks == MASKS).all()
        return
    bright = images[..., 0] > 130
    assert bright[inner(inner(masks == 1))].all()
    assert not bright[inner(inner(masks == 0))].any()


def test_refuses():
    with pytest.raises(ValueError, match="Unknown augmentation 'flipp'. Did you mean 'flip'"):
        Augmenter(["flipp"])
    with pytest.raises(ValueError, match="RandomElasticTransform, of which it is not known that image and mask stay"):
        Augmenter([keras.layers.RandomElasticTransform()])
    with pytest.raises(ValueError, match="A crop must be the first of `augment`"):
        Augmenter(["flip", augment.crop(size=(8, 8))])
    for item in (augment.crop(size=(8, 8)), "cutmix"):
        with pytest.raises(ValueError, match='in `augment` need masks, and outputs="label" opens none'):
            Augmenter([item], masks=False)
    assert Augmenter([augment.crop(size=(8, 8), foreground=0)], masks=False).crop.size == (8, 8)
    with pytest.raises(ValueError, match="must be a share from 0 to 1, received 33"):
        augment.crop(size=(8, 8), foreground=33)
    with pytest.raises(ValueError, match=r"must be \(height, width\) in pixels, received \(0, 8\)"):
        augment.crop(size=(0, 8))
    with pytest.raises(ValueError, match="cells >= 1 and interpolation"):
        augment.elastic(cells=0)
    with pytest.raises(TypeError, match="takes names .* or Keras layers, received 3 of type int"):
        Augmenter([3])


def test_why_elastic_is_refused():
    """Keras draws another displacement for masks; when this fails, ours can go."""
    layer = keras.layers.RandomElasticTransform(factor=1.0, scale=1.0, seed=0)
    pixels = np.repeat(MASKS[..., np.newaxis] * 255.0, 1, axis=-1).astype(np.float32)
    moved = layer({"images": pixels, "segmentation_masks": pixels.copy()}, training=True)
    difference = np.abs(np.asarray(moved["images"]) - np.asarray(moved["segmentation_masks"])) > 200
    assert difference.mean() > 0.005
