"""Refinement by random walks: borders move to the edges of the image, labels are respected."""

import functools
import sys

import keras
import numpy as np
import pytest
from scipy import ndimage

import kerazoo as kz
from kerazoo.weak import random_walk
from kerazoo.weak.pseudo_masks import mask_of

ROWS, COLUMNS = np.mgrid[:48, :48]
DISK = (ROWS - 24) ** 2 + (COLUMNS - 22) ** 2 < 12**2
NOISE = np.random.default_rng(0).normal(0, 6, (48, 48, 1))


def blurry(truth, shift=(2, -2)):
    return ndimage.gaussian_filter(np.roll(truth, shift, (0, 1)).astype("float32"), 4)[..., None]


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_a_blurry_border_moves_to_the_edge():
    image = np.clip(80 + 70 * DISK[..., None] + NOISE, 0, 255).astype(np.uint8)
    maps = blurry(DISK)
    mask = mask_of(maps, 0.4)
    refined = random_walk(image, maps, mask)
    assert iou(mask > 0, DISK) < 0.75
    assert iou(refined > 0, DISK) > 0.97
    assert refined.dtype == np.uint8
    unaware = random_walk(image, maps, mask, beta=0)
    assert iou(unaware > 0, DISK) < 0.85, "it is the image that knows where the edge is"


def test_several_classes_keep_their_ids():
    left, right = DISK & (COLUMNS < 22), DISK & (COLUMNS >= 22)
    image = np.stack([60 + 80 * left, 60 + 80 * right, np.full_like(left, 60, int)], -1) + NOISE
    maps = np.concatenate([blurry(left, (2, 0)), np.zeros((48, 48, 1)), blurry(right, (-2, 0))], -1)
    mask = mask_of(maps, 0.4)
    refined = random_walk(image, maps, mask)
    assert set(np.unique(refined)) == {0, 1, 3}
    for class_id, truth in ((1, left), (3, right)):
        assert iou(refined == class_id, truth) > max(0.95, iou(mask == class_id, truth))


def test_what_leaves_nothing_to_decide_comes_back():
    maps = blurry(DISK)
    image = 80 + 70 * DISK[..., None] + NOISE
    for mask in (np.zeros((48, 48), np.uint8), np.ones((48, 48), np.uint8)):
        np.testing.assert_array_equal(random_walk(image, maps, mask), mask)
    mask = mask_of(maps, 0.4)
    np.testing.assert_array_equal(random_walk(np.full_like(image, 7), maps, mask), mask)
    np.testing.assert_array_equal(random_walk(image, np.ones_like(maps), mask), mask)


def test_pseudo_masks_are_refined():
    """A model that is a blur of the brightness, and images whose squares it finds too large or too small."""
    source = kz.data.sources.synthetic(
        6, empty_fraction=0.5, image_size=(32, 32), contrast=(0.4, 0.5), radius=(0.2, 0.3), seed=3
    )
    inputs = keras.Input((None, None, 1))
    scaled = keras.layers.Rescaling(1 / 10, offset=-16)(inputs)
    model = keras.Model(inputs, kz.layers.GaussianSmooth(sigma=2.0)(scaled))
    refine = functools.partial(random_walk, beta=300)
    plain, refined = (
        kz.weak.pseudo_masks(model, source, threshold=0.5, labels="given", refine=how) for how in (None, refine)
    )
    np.testing.assert_array_equal(refined.labels, source.labels)
    assert any((plain.mask(i) != refined.mask(i)).any() for i in range(6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"certain": 1.0}, "`certain` must be in"),
        ({"beta": -1}, "`beta` at least 0"),
        ({"mask": np.full((48, 48), 2)}, "ids up to F"),
        ({"image": np.zeros((48, 48))}, "takes an image"),
    ],
)
def test_refusals(arguments, message):
    given = {"image": DISK[..., None] + NOISE, "maps": blurry(DISK), "mask": DISK.astype(np.uint8)}
    with pytest.raises(ValueError, match=message):
        random_walk(**{**given, **arguments})


def test_the_extra_is_named(monkeypatch):
    for module in ("skimage", "skimage.segmentation"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"kerazoo\[weak\]"):
        random_walk(DISK[..., None] + NOISE, blurry(DISK), DISK.astype(np.uint8))
