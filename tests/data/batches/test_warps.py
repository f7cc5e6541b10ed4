"""Elastic deformation, CutMix and crops: what moves, how far, and how often foreground is shown."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from support.data_fixtures import Arrays, figure, write_pair

import kerazoo as kz
from kerazoo.data import augment
from kerazoo.data.batches.augment import Augmenter
from kerazoo.data.batches.warps import Crop, RandomCutMix, RandomElastic

pipeline = kz.data.pipeline


def apply(items, images, masks, seed=(3, 5), mask_fill=0):
    tensors = (tf.constant(images), tf.constant(masks), tf.constant(seed, tf.int32))
    return [part.numpy() for part in Augmenter(items, mask_fill=mask_fill)(*tensors)]


# --- elastic ---


def field(factor=0.1, cells=4, size=(60, 90), batch=16):
    """Displacements `(B, H, W)` of rows and columns."""
    layer = RandomElastic(factor, cells=cells, value_range=(0, 255))
    moved = layer.get_random_transformation(tf.zeros((batch, *size, 1)), seed=keras.random.SeedGenerator(7))
    rows, columns = np.asarray(moved["rows"]), np.asarray(moved["columns"])
    return rows - np.arange(size[0])[:, np.newaxis], columns - np.arange(size[1])


def test_elastic_is_smooth_and_as_strong_as_said():
    rows, columns = field()
    strength = np.sqrt(np.mean(np.concatenate([rows, columns]) ** 2))
    assert strength == pytest.approx(0.1 * 60 / np.sqrt(3), rel=0.25), "deviations uniform up to a tenth of 60 pixels"
    steps = np.abs(np.diff(rows, axis=1)).max(), np.abs(np.diff(columns, axis=2)).max()
    assert max(steps) < 1.5, "neighbors are torn apart"
    assert np.abs(np.diff(rows, n=2, axis=1)).max() < 0.25
    assert len({row.tobytes() for row in rows}) == 16, "images share a field"
    assert abs(np.corrcoef(rows.ravel(), columns.ravel())[0, 1]) < 0.3


def test_elastic_takes_pixels_from_where_it_says():
    """Beside SciPy's map_coordinates."""
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 56)), 2).astype(np.float32)
    layer = RandomElastic(0.08, fill_value=0.25, value_range=(0, 255))
    batch = tf.constant(image[np.newaxis, ..., np.newaxis])
    moved = layer.get_random_transformation(batch, seed=keras.random.SeedGenerator(1))
    result = np.asarray(layer.transform_images(batch, moved))[0, ..., 0]
    places = [np.asarray(moved[name])[0] for name in ("rows", "columns")]
    expected = ndimage.map_coordinates(image, places, order=1, mode="grid-constant", cval=0.25)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert (result == 0.25).any()


def test_elastic_does_not_fold_at_its_default():
    rows, columns = field(factor=0.04)
    down, across = 1 + np.diff(rows, axis=1)[:, :, :-1], 1 + np.diff(columns, axis=2)[:, :-1]
    shear = np.diff(rows, axis=2)[:, :-1] * np.diff(columns, axis=1)[:, :, :-1]
    assert (down * across - shear).min() > 0, "the field folds: its Jacobian changes sign"


@pytest.mark.parametrize("layer", [RandomElastic(0.1, cells=3, fill_value=7.0), RandomCutMix(0.25)])
def test_layers_are_made_again_from_their_configuration(layer):
    again = type(layer).from_config(layer.get_config())
    images = tf.constant(np.random.default_rng(0).random((4, 12, 10, 1)), tf.float32)
    first, second = (
        np.asarray(
            each.transform_images(images, each.get_random_transformation(images, seed=keras.random.SeedGenerator(2)))
        )
        for each in (layer, again)
    )
    assert (first == second).all()
    still = layer.get_random_transformation(images, training=False, seed=keras.random.SeedGenerator(2))
    np.testing.assert_allclose(layer.transform_images(images, still), images, atol=1e-6)


def test_sizes_may_be_known_at_run_time_only():
    augmenter = Augmenter(["elastic", "cutmix"])
    spec = [tf.TensorSpec((None, None, None, 3), tf.uint8), tf.TensorSpec((None, None, None), tf.int32)]
    call = tf.function(lambda images, masks: augmenter(images, masks, tf.constant([1, 2])), input_signature=spec)
    for size in ((2, 9, 13), (5, 16, 8), (1, 8, 8)):
        images, masks = call(tf.zeros((*size, 3), tf.uint8), tf.zeros(size, tf.int32))
        assert (images.shape, masks.shape) == ((*size, 3), size)


# --- CutMix ---

NUMBERED = np.arange(1, 33, dtype=np.uint8)[:, np.newaxis, np.newaxis] * np.ones((1, 24, 40), np.uint8)


def test_cutmix_pastes_one_rectangle_of_one_other_image():
    images, masks = apply(["cutmix"], NUMBERED[..., np.newaxis], NUMBERED + 100)
    assert (images[..., 0] + 100 == masks).all(), "image and mask are mixed differently"
    mixed = 0
    for number, image in enumerate(images[..., 0], start=1):
        pasted = image != number
        if not pasted.any():
            continue
        mixed += 1
        assert len(set(image[pasted].tolist())) == 1
        rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
        assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "no rectangle"
    assert 8 <= mixed <= 24, "half of 32 images, give or take"
    again = apply(["cutmix"], NUMBERED[..., np.newaxis], NUMBERED + 100)
    assert (again[0] == images).all()


def test_cutmix_of_everything_and_of_a_single_image():
    shares = []
    for seed in range(12):
        images, _ = apply([augment.cutmix(factor=1.0)], NUMBERED[..., np.newaxis], NUMBERED, seed=(1, seed))
        shares.extend((images[..., 0] != NUMBERED).mean(axis=(1, 2)).tolist())
    assert 0.3 < np.mean(shares) < 0.5, "areas uniform in 0 to 1, cut off at the border"
    assert max(shares) > 0.8
    alone = apply([augment.cutmix(factor=1.0)], NUMBERED[:1, ..., np.newaxis], NUMBERED[:1])
    assert (alone[1] == NUMBERED[:1]).all()


def test_labels_after_cutmix_are_the_masks():
    masks = np.zeros((8, 16, 16), np.uint8)
    masks[::2] = 1
    source = kz.data.Source(Arrays(images=masks[..., np.newaxis], masks=masks))
    options = {"image_size": None, "batch_size": 8, "outputs": ("mask", "label"), "shuffle": False}
    dataset = pipeline(source, augment=[augment.cutmix(factor=1.0)], **options)
    changed = 0
    for _ in range(5):
        (_, both) = next(iter(dataset))
        label = both["label"].numpy()[:, 0]
        assert label.tolist() == both["mask"].numpy().any(axis=(1, 2)).tolist()
        changed += (label != source.foreground).sum()
    assert changed > 5


# --- crop ---


def windows(mask, image=None, *, n=400, seed=0, **options):
    cut = Crop(size=(12, 16), **options)
    rng = np.random.default_rng(seed)
    image = mask[..., np.newaxis] * 200 if image is None else image
    return [cut(image, mask, rng=rng) for _ in range(n)]


@pytest.mark.parametrize("share", [0.0, 0.33, 1.0])
def test_crops_show_foreground_as_often_as_asked(share):
    mask = np.zeros((96, 128), np.uint8)
    mask[40:43, 50:52] = 1
    cut = windows(mask, foreground=share)
    assert all((image[..., 0] > 0).tolist() == (part == 1).tolist() for image, part in cut), "image and mask differ"
    shown = np.mean([part.any() for _, part in cut])
    by_chance = 14 * 17 / (85 * 113)
    assert shown == pytest.approx(share + (1 - share) * by_chance, abs=0.07)


def test_crops_find_rare_classes_and_every_place():
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :30], mask[39, 59], mask[0, 31:] = 1, 2, 255
    cut = Crop(size=(12, 16), foreground=1.0)
    rng = np.random.default_rng(0)
    parts = [cut(mask[..., np.newaxis], mask, rng=rng, ignore_class=255)[1] for _ in range(300)]
    assert np.mean([(part == 2).any() for part in parts]) > 0.4, "a class of one pixel is drawn as often as a large one"
    assert all(np.isin(part, (1, 2)).any() for part in parts), "ignored pixels are no foreground"
    corners = {(int(part[0, 0]), int(part[-1, -1])) for part in parts}
    assert {(1, 1), (0, 2)} <= corners
    places = np.arange(40 * 60).reshape(40, 60, 1)
    tops = {
        int(cut(places, np.zeros((40, 60), np.uint8), rng=rng)[0][0, 0, 0]) // 60 for _ in range(600)
    }  # nothing to find: anywhere
    assert tops == set(range(29))


def test_small_images_are_padded_and_ignored_there():
    image, mask = np.full((8, 40, 3), 90, np.uint8), np.ones((8, 40), np.uint8)
    image, mask = Crop(size=(12, 16), fill_value=5)(image, mask, rng=np.random.default_rng(0), ignore_class=255)
    assert (image.shape, mask.shape) == ((12, 16, 3), (12, 16))
    assert mask[:, 0].tolist() == [255] * 2 + [1] * 8 + [255] * 2
    assert image[:, 0, 0].tolist() == [5] * 2 + [90] * 8 + [5] * 2


def test_crops_in_the_pipeline(tmp_path):
    """Images of several sizes become batches of one size; the same for any number of workers, and aligned."""
    for number, size in enumerate(((40, 60), (52, 33), (20, 70), (64, 64), (30, 90))):
        write_pair(tmp_path, str(number), figure(*size), suffix=".bmp", scale=1)
    source = kz.data.sources.folder(tmp_path)
    options = {"image_size": None, "augment": [augment.crop(size=(24, 32), foreground=0.5), "flip"], "seed": 4}
    runs = []
    for workers in (1, 5):
        dataset = pipeline(source, batch_size=2, workers=workers, cache="memory", **options)
        assert dataset.element_spec[0].shape == (None, 24, 32, 1)
        runs.append([[tuple(part.numpy().tobytes() for part in batch) for batch in dataset] for _ in range(2)])
        for images, masks in dataset:
            assert ((images.numpy()[..., 0] > 125) == (masks.numpy() == 1)).all()
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1], "every epoch crops alike"
