"""Weights of pixels: against the definition, and through the pipeline to the loss."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerazoo as kz
from kerazoo.data.batches.pixel_weights import Boundary, RandomMask


def defined(mask, *, w0, sigma):
    """U-Net's equation, one background pixel and one object pixel at a time; objects are the ids of `mask`."""
    weights = np.ones(mask.shape)
    objects = [np.argwhere(mask == k) for k in np.unique(mask[mask > 0])]
    for pixel in np.argwhere(mask == 0):
        distances = sorted(np.sqrt(((points - pixel) ** 2).sum(axis=1)).min() for points in objects)
        if len(distances) > 1:
            weights[tuple(pixel)] += w0 * math.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


def three_objects():
    mask = np.zeros((20, 24), np.uint8)
    mask[2:6, 2:6], mask[3:9, 8:11], mask[12:18, 4:20] = 1, 2, 3
    return mask


def test_boundary_weights_are_the_equation():
    mask = three_objects()
    np.testing.assert_allclose(Boundary(sigma=3.0)(mask), defined(mask, w0=10.0, sigma=3.0), rtol=1e-6, atol=1e-6)


def test_objects_of_one_class_are_told_apart_by_their_pixels():
    mask = three_objects()
    binary = (mask > 0).astype(np.uint8)
    np.testing.assert_array_equal(Boundary()(binary), Boundary()(mask))
    diagonal = np.zeros((9, 9), np.uint8)
    diagonal[2, 2] = diagonal[3, 3] = 1  # they share a corner: one object
    np.testing.assert_array_equal(Boundary()(diagonal), np.ones((9, 9)))


def test_far_objects_are_left_out_without_a_difference():
    """Windows around the objects must not change what the whole image gives."""
    mask = np.zeros((12, 90), np.uint8)
    mask[4:7, 3:6], mask[4:7, 60:63], mask[4:7, 66:69] = 1, 2, 3
    np.testing.assert_allclose(Boundary(sigma=2.0)(mask), defined(mask, w0=10.0, sigma=2.0), atol=1e-6)


@pytest.mark.parametrize("mask", [np.zeros((5, 6), np.uint8), np.ones((5, 6), np.uint8)], ids=["empty", "full"])
def test_masks_with_fewer_than_two_objects_have_the_weights_of_their_classes(mask):
    np.testing.assert_array_equal(Boundary()(mask), np.ones((5, 6)))
    weighed = Boundary(class_weights=(0.5, 4.0))(mask)
    np.testing.assert_array_equal(weighed, np.where(mask, 4.0, 0.5))


def test_ignored_pixels_weigh_nothing_and_are_no_object():
    mask = three_objects()
    ignored = np.where(mask == 3, 255, mask)
    weights = Boundary()(ignored, ignore_class=255)
    assert not weights[ignored == 255].any()
    expected = Boundary()(np.where(mask == 3, 0, mask))
    np.testing.assert_array_equal(weights[ignored != 255], expected[ignored != 255])


def test_random_masks_keep_their_share_and_the_expectation():
    weights = RandomMask(keep=0.25, block=4)(np.zeros((400, 402), np.uint8), rng=np.random.default_rng(0))
    assert weights.shape == (400, 402)
    assert set(np.unique(weights)) == {0.0, 4.0}
    np.testing.assert_allclose(weights.mean(), 1.0, atol=0.05)
    blocks = weights[:, :400].reshape(100, 4, 100, 4)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda: Boundary(sigma=0.0), "w0 >= 0 and sigma > 0, received 10.0 and 0.0"),
        (lambda: RandomMask(keep=0.0), "0 < keep <= 1 and a whole block >= 1, received 0.0 and 1"),
        (lambda: RandomMask(block=1.5), "a whole block >= 1, received 0.5 and 1.5"),
        (lambda: Boundary(class_weights=(-1, 2)), r"`class_weights` as a sequence of numbers.*received \(-1, 2\)"),
        (lambda: Boundary(class_weights={0: 1.0, 1: 2.0}), "`class_weights` as a sequence of numbers"),
        (lambda: Boundary(class_weights=(1, 1))(three_objects()), "2 class_weights, for ids 0..1; the mask has id 3"),
        (lambda: kz.data.pixel_weights.create("bondary"), "Did you mean 'boundary'"),
    ],
)
def test_arguments_outside_their_range(part, message):
    with pytest.raises(ValueError, match=message):
        part()


# Through the pipeline -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    return kz.data.sources.synthetic(8, empty_fraction=0.25, image_size=(32, 32), seed=3)


def batches(source, **kwargs):
    data = kz.data.pipeline(source, image_size=(32, 32), batch_size=4, **kwargs)
    return [[np.asarray(part) for part in batch] for batch in data]


def test_weights_are_those_of_the_mask_that_the_model_sees(source):
    for _, masks, weights in batches(source, pixel_weights="boundary", augment=["flip", "rotate"]):
        assert weights.dtype == np.float32
        np.testing.assert_array_equal(weights, np.stack([Boundary()(mask) for mask in masks]))


def test_random_masks_differ_between_images_and_epochs_and_come_back_with_the_seed(source):
    data = kz.data.pipeline(
        source, image_size=(32, 32), batch_size=8, pixel_weights="random_mask", augment=["flip"], seed=5
    )
    first, second = (next(np.asarray(weights) for _, _, weights in data) for _ in range(2))
    assert (first[0] != first[1]).any()
    assert (first != second).any()
    again = kz.data.pipeline(
        source, image_size=(32, 32), batch_size=8, pixel_weights="random_mask", augment=["flip"], seed=5
    )
    np.testing.assert_array_equal(next(iter(again))[2], first)


def test_outputs_with_names_have_weights_with_names(source):
    data = kz.data.pipeline(
        source, image_size=(32, 32), batch_size=4, pixel_weights=Boundary(w0=2.0), outputs=("mask", "label")
    )
    _, target, weights = next(iter(data))
    assert set(weights) == set(target) == {"mask", "label"}
    np.testing.assert_array_equal(weights["label"], np.ones(4))
    np.testing.assert_array_equal(weights["mask"], np.stack([Boundary(w0=2.0)(mask) for mask in target["mask"]]))


def test_fit_reaches_the_loss_with_the_weights(source):
    inputs = keras.Input((32, 32, source[0].image.shape[2]))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, kernel_initializer="zeros")(inputs))
    loss = kz.losses.BoundaryWeighted() + 0.1 * kz.losses.ForegroundDice(weighted=False)
    model.compile(keras.optimizers.SGD(0.0), loss=loss, metrics=[kz.metrics.IoU(1)])
    data = kz.data.pipeline(source, image_size=(32, 32), batch_size=8, pixel_weights=Boundary(w0=100.0))
    _, masks, weights = next(iter(data))
    logits = np.zeros((8, 32, 32, 1), "float32")
    expected = float(loss(np.asarray(masks), logits, sample_weight=np.asarray(weights)))
    assert expected > float(kz.losses.CrossEntropy()(np.asarray(masks), logits)) * 1.05
    np.testing.assert_allclose(model.evaluate(data, verbose=0)[0], expected, rtol=1e-5)
    plain = kz.data.pipeline(source, image_size=(32, 32), batch_size=8)
    with pytest.raises(ValueError, match="BoundaryWeighted needs `sample_weight`"):
        model.evaluate(plain, verbose=0)


def test_weights_that_make_no_sense(source):
    with pytest.raises(ValueError, match='`pixel_weights` are of pixels, and outputs="label" has none'):
        batches(source, pixel_weights="boundary", outputs="label")
    with pytest.raises(TypeError, match=r"or a part, such as kz.data.pixel_weights.Boundary\(\)"):
        batches(source, pixel_weights=Boundary)


def test_weights_of_another_shape_name_the_part(source):
    def of_an_image(mask, *, ignore_class, rng):
        return np.ones(3)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`pixel_weights` gives \(3,\) for a mask .*of_an_image"):
        batches(source, pixel_weights=of_an_image)


def test_the_former_name_is_accepted_with_a_warning(source):
    with pytest.warns(DeprecationWarning, match="`weights` of kz.data.pipeline is called `pixel_weights` now") as noted:
        former = batches(source, weights="boundary")
    assert noted[0].filename == __file__, "the warning must point to the caller"
    for old, new in zip(former, batches(source, pixel_weights="boundary"), strict=True):
        np.testing.assert_array_equal(old[2], new[2])
    with pytest.raises(ValueError, match="give `pixel_weights` alone"):
        batches(source, weights="boundary", pixel_weights="random_mask")
    with pytest.warns(DeprecationWarning, match="Type kz.data.pixel_weights"):
        assert kz.data.weights is kz.data.pixel_weights
