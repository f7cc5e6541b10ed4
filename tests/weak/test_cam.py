"""Segmentation from labels: what CAM-α and CAM-β compute, poolings, maps, thresholds and pseudo-masks."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.testing import TestCase

import kerazoo as kz
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source
from kerazoo.layers import GlobalLogSumExpPooling2D, GlobalWeightedRankPooling2D
from kerazoo.weak import (
    POOLINGS,
    Threshold,
    cam_alpha,
    cam_beta,
    choose_threshold,
    class_maps,
    pseudo_masks,
    segmenter_of,
)
from kerazoo.weak.pseudo_masks import mask_of

pytestmark = pytest.mark.backends
PATCHES = kz.encoders.ConvMixer(width=8, blocks=2, kernel_size=3, patch_size=4, pointwise_residual=True)
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 16, 24, 3)).astype("float32")


def tiny(head="linear", num_classes=2, **options):
    return kz.segmenter(PATCHES, kz.decoders.Patch(width=6), head, num_classes=num_classes, **options)


@pytest.fixture(scope="module")
def segmenter():
    keras.utils.set_random_seed(1)
    return tiny()


class NoMasks(Reader):
    """Images with labels whose masks must not be opened: squares that are brighter than what is around them."""

    num_classes, class_names = 2, ("background", "square")

    def __init__(self, n=12, size=16, masks=False):
        self.ids = [f"image-{i}" for i in range(n)]
        rng = np.random.default_rng(3)
        self.masks = np.zeros((n, size, size), np.uint8)
        for i in range(0, n, 2):
            row, column = rng.integers(0, size - 8, 2)
            self.masks[i, row : row + 8, column : column + 8] = 1
        self.images = rng.integers(0, 60, (n, size, size, 1)) + 150 * self.masks[..., None]
        shown = self.masks.any((1, 2))
        self.facts = Facts(np.stack([~shown, shown], 1), np.full((n, 3), (size, size, 1)))
        self.may_open_masks = masks

    def image(self, index):
        return self.images[index].astype(np.uint8)

    def mask(self, index):
        assert self.may_open_masks, "a weak path opened a mask"
        return self.masks[index]

    def fingerprint(self, index):
        return str(index)


# What CAM-α and CAM-β are


@pytest.mark.parametrize("build", [cam_alpha, cam_beta])
def test_they_add_no_weight_and_train_the_segmenter(segmenter, build):
    weak = build(segmenter)
    assert [id(w) for w in weak.weights] == [id(w) for w in segmenter.weights]
    assert weak.output_shape == (None, 2)
    other = tiny()
    other.set_weights(weak.get_weights())
    np.testing.assert_allclose(other.predict_on_batch(IMAGES), segmenter.predict_on_batch(IMAGES), atol=1e-5)


def test_with_average_pooling_they_are_the_same_function(segmenter):
    labels = [build(segmenter, pooling="gap").predict_on_batch(IMAGES) for build in (cam_alpha, cam_beta)]
    np.testing.assert_allclose(*labels, atol=1e-5)


def test_with_max_pooling_they_differ_as_equation_6_1_says(segmenter):
    """y_p,α = Σ_k max_ij(x_ijk) w_kp, y_p,β = max_ij(Σ_k x_ijk w_kp), from x itself."""
    decoder, head = (segmenter.get_layer(name) for name in ("decoder", "head"))
    normalized = (IMAGES / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    levels = segmenter.get_layer("encoder")(ops.convert_to_tensor(normalized.astype("float32")), training=False)
    x = ops.convert_to_numpy(ops.reshape(decoder(levels, training=False), (3, 16, 24, 6)))
    kernel, bias = (ops.convert_to_numpy(w) for w in head.get_layer("h_logits").weights)
    alpha = x.max((1, 2)) @ kernel[0, 0] + bias
    beta = (x @ kernel[0, 0] + bias).max((1, 2))
    np.testing.assert_allclose(cam_alpha(segmenter).predict_on_batch(IMAGES), alpha, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(cam_beta(segmenter).predict_on_batch(IMAGES), beta, rtol=1e-4, atol=1e-4)
    assert np.abs(alpha - beta).max() > 0.1


@pytest.mark.parametrize("build", [cam_alpha, cam_beta])
def test_a_saved_model_still_knows_its_maps(build, tmp_path):
    weak = build(tiny(kz.heads.Smooth(sigma=2.0)), pooling="gwrp")
    weak.save(tmp_path / "weak.keras")
    loaded = keras.models.load_model(tmp_path / "weak.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(IMAGES), weak.predict_on_batch(IMAGES), atol=1e-5)
    maps = [segmenter_of(model).predict_on_batch(IMAGES) for model in (loaded, weak)]
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_any_segmenter_will_do():
    resnet = kz.encoders.ResNet(
        block=kz.encoders.resnet.basic_block, depths=(1, 1), widths=(8, 8), expansion=1, stem_width=8
    )
    model = kz.segmenter(resnet, kz.decoders.UNet(widths=(8, 8, 8)), "mlf", num_classes=3, label_head=True)
    mask_only = keras.Model(model.input, model.output["mask"])
    for build in (cam_alpha, cam_beta):
        weak = build(model)
        assert [id(w) for w in weak.weights] == [id(w) for w in mask_only.weights], "without the label head"
        assert weak.predict_on_batch(IMAGES).shape == (3, 3)
        (out, *_) = class_maps(weak, IMAGES[:1])
        assert out.maps.shape == (16, 24, 3)
    image = keras.Input((None, None, 3))
    outside = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    assert cam_beta(outside).predict_on_batch(IMAGES).shape == (3, 1)
    with pytest.raises(ValueError, match="no sub-model 'head'"):
        cam_alpha(outside)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cam_beta(kz.classifier(PATCHES, num_classes=2)), "must be a segmenter"),
        (lambda: cam_beta(tiny(), pooling="max"), "Unknown pooling 'max'"),
        (lambda: cam_beta(tiny(), pooling=keras.layers.Flatten()), "one number per channel"),
        (lambda: cam_alpha(tiny(kz.heads.Linear(kernel_size=3))), "1x1 convolution"),
        (lambda: GlobalWeightedRankPooling2D(decay=1.5), r"`decay` must be in \[0, 1\], received 1.5"),
        (lambda: GlobalLogSumExpPooling2D(sharpness=0), "`sharpness` must be above 0"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Poolings


def test_rank_pooling_is_the_weighted_mean_of_the_sorted_values():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    ordered = -np.sort(-x.reshape(2, 35, 3), axis=1)
    weights = 0.9 ** np.arange(35)
    expected = (ordered * weights[None, :, None]).sum(1) / weights.sum()
    pool = GlobalWeightedRankPooling2D(decay=0.9)
    np.testing.assert_allclose(ops.convert_to_numpy(pool(x)), expected, rtol=1e-5)


@pytest.mark.parametrize("pool", [GlobalWeightedRankPooling2D(decay=0.9), GlobalLogSumExpPooling2D()])
def test_poolings_of_maps_of_any_size(pool):
    unknown = keras.Input((None, None, 3))
    model = keras.Model(unknown, pool(unknown))
    for size in ((5, 7), (6, 4), (3, 3)):  # from the second size on, TensorFlow compiles for unknown sizes
        x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
        np.testing.assert_allclose(model.predict_on_batch(x), ops.convert_to_numpy(pool(x)), rtol=1e-5)


@pytest.mark.parametrize(
    ("pool", "limit"),
    [
        (GlobalWeightedRankPooling2D(decay=0.0), "max"),
        (GlobalWeightedRankPooling2D(decay=1e-6), "max"),
        (GlobalWeightedRankPooling2D(decay=1.0), "mean"),
        (GlobalWeightedRankPooling2D(decay=1 - 1e-7), "mean"),
        (GlobalLogSumExpPooling2D(sharpness=1e4), "max"),
        (GlobalLogSumExpPooling2D(sharpness=1e-3), "mean"),
    ],
)
def test_limits_of_the_poolings(pool, limit):
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
    np.testing.assert_allclose(ops.convert_to_numpy(pool(x)), getattr(x, limit)((1, 2)), atol=6e-3)


def test_log_sum_exp_is_finite_for_large_logits():
    x = np.array([1e4, -1e4, 0, 1e4], "float32").reshape(1, 2, 2, 1)
    pooled = ops.convert_to_numpy(GlobalLogSumExpPooling2D()(x))
    np.testing.assert_allclose(pooled, [[1e4 + np.log(0.5) / 5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "options"),
    [(GlobalWeightedRankPooling2D, {"decay": 0.8}), (GlobalLogSumExpPooling2D, {"sharpness": 2.0})],
)
def test_poolings_pass_the_harness_of_keras(layer, options):
    TestCase().run_layer_test(
        layer,
        init_kwargs=options,
        input_shape=(2, 4, 6, 3),
        expected_output_shape=(2, 3),
        expected_num_trainable_weights=0,
        run_training_check=False,
    )


# Maps


def test_maps_are_the_logits_stretched(segmenter):
    logits = segmenter.predict_on_batch(IMAGES)
    for model in (segmenter, cam_beta(segmenter)):
        plain = np.stack([out.maps for out in class_maps(model, IMAGES, normalize=None)])
        np.testing.assert_allclose(plain, logits, atol=1e-4)
    for out, expected in zip(class_maps(segmenter, IMAGES), logits, strict=True):
        low, high = expected.min((0, 1)), expected.max((0, 1))
        np.testing.assert_allclose(out.maps, (expected - low) / (high - low), atol=1e-4)


def test_a_constant_map_is_zero_and_probabilities_are_probabilities():
    image = keras.Input((None, None, 3))
    flat = keras.Model(image, keras.layers.Conv2D(2, 1, kernel_initializer="zeros")(image))
    (out, *_) = class_maps(flat, IMAGES[:1])
    np.testing.assert_array_equal(out.maps, 0)
    (out, *_) = class_maps(flat, IMAGES[:1], normalize="sigmoid")
    np.testing.assert_allclose(out.maps, 0.5)
    (out, *_) = class_maps(flat, IMAGES[:1], normalize="softmax")
    np.testing.assert_allclose(out.maps.sum(-1), 1, rtol=1e-6)


def test_scales_and_flips_are_averaged(segmenter):
    image = IMAGES[:1]
    half = kz.layers.Resize(factor=0.5)(image)
    parts = [segmenter.predict_on_batch(image)]
    parts.append(ops.convert_to_numpy(kz.layers.Resize(size=(16, 24))(segmenter.predict_on_batch(half))))
    (out,) = class_maps(segmenter, image, normalize=None, scales=(1.0, 0.5))
    np.testing.assert_allclose(out.maps, np.mean(parts, axis=0)[0], atol=1e-4)
    mirrored = segmenter.predict_on_batch(image[:, :, ::-1])[:, :, ::-1]
    (out,) = class_maps(segmenter, image, normalize=None, tta="flip")
    np.testing.assert_allclose(out.maps, (parts[0] + mirrored)[0] / 2, atol=1e-4)
    with pytest.raises(ValueError, match="for images of any size"):
        class_maps(tiny(image_shape=(16, 24, 3)), image, scales=(0.5,))
    with pytest.raises(ValueError, match="`normalize` must be one of"):
        class_maps(segmenter, image, normalize="max")


# Thresholds and pseudo-masks


@pytest.fixture(scope="module")
def finder():
    """A segmenter that sees brightness: logit of the square 10 at 180, -10 at 60, with a wobble in between."""
    inputs = keras.Input((None, None, 1))
    logits = keras.layers.Conv2D(2, 1, name="scores")(inputs)
    model = keras.Model(inputs, logits)
    model.set_weights([np.array([[[[-0.1, 0.1]]]], "float32"), np.array([11.0, -11.0], "float32")])
    return model


def test_no_weak_path_opens_a_mask(finder, tmp_path):
    source = Source(NoMasks())
    weak = cam_beta(finder)
    threshold = choose_threshold(weak, source)
    assert (threshold.using, threshold.score, threshold.images) == ("image_labels", 1.0, 12)
    for labels in ("given", "predicted"):
        pseudo = pseudo_masks(weak, source, threshold=threshold, labels=labels)
        np.testing.assert_array_equal(pseudo.labels, source.labels)
    pseudo_masks(weak, source, threshold=choose_threshold(weak, source, using="maximum"), to=tmp_path / "new")
    with pytest.raises(AssertionError, match="opened a mask"):
        choose_threshold(weak, source, using="masks")


def test_pseudo_masks_find_the_squares_and_train_a_segmenter(finder, tmp_path):
    reader = NoMasks(masks=True)
    source = Source(reader)
    threshold = choose_threshold(finder, source, using="masks")
    assert threshold.using == "masks"
    assert threshold.score == pytest.approx(1.0)
    pseudo = pseudo_masks(finder, source, threshold=threshold, to=tmp_path / "files")
    for i in range(len(source)):
        np.testing.assert_array_equal(pseudo[i].mask, reader.masks[i])
        np.testing.assert_array_equal(pseudo[i].image, source[i].image)
    files = kz.data.sources.folder(tmp_path / "files", mask_suffix="_mask.png", num_classes=2)
    assert len(files) == 12
    np.testing.assert_array_equal(files[0].mask, reader.masks[0])
    assert '"using": "masks"' in (tmp_path / "files" / "pseudo_masks.json").read_text()
    with pytest.raises(FileExistsError, match="has files in it"):
        pseudo_masks(finder, source, threshold=0.5, to=tmp_path / "files")


def test_a_threshold_by_labels_is_the_best_of_all(finder):
    """Against every candidate, by the definition of the correlation, where maps do not separate the images."""
    reader = NoMasks(n=20)
    reader.images = reader.images * np.random.default_rng(0).uniform(0.3, 1.0, (20, 1, 1, 1))
    reader.facts.labels[[0, 3, 4]] = ~reader.facts.labels[[0, 3, 4]]
    source = Source(reader)
    threshold = choose_threshold(finder, source)
    maxima = np.array([out.maps[..., 1].max() for out in class_maps(finder, source, normalize="sigmoid")])
    shown = source.labels[:, 1]

    def correlation(value):
        found = maxima > value
        return 0.0 if found.all() or not found.any() else float(np.corrcoef(found, shown)[0, 1])

    best = max(correlation(value) for value in [0.0, *(maxima - 1e-7), *(maxima + 1e-7)])
    assert 0 < best < 1
    assert threshold.score == pytest.approx(best)
    assert correlation(threshold.value) == pytest.approx(best)


def test_masks_from_maps():
    maps = np.zeros((2, 3, 2), "float32")
    maps[0, :, 0] = (0.9, 0.6, 0.2)
    maps[0, :, 1] = (0.7, 0.8, 0.1)
    assert mask_of(maps, 0.5).tolist() == [[1, 2, 0], [0, 0, 0]]
    assert mask_of(maps, 0.5, np.array([False, True])).tolist() == [[2, 2, 0], [0, 0, 0]]
    assert mask_of(maps, 0.5, np.array([False, False])).sum() == 0
    assert mask_of(maps, 0.95, np.array([True, False])).tolist() == [[1, 0, 0], [0, 0, 0]], "known to be there"
    maps[0, 0, 0] = 0.65
    assert mask_of(maps, 0.68, np.array([True, True])).tolist() == [[1, 2, 0], [0, 0, 0]], "where class 2 is higher"


@pytest.mark.parametrize("use", [choose_threshold, functools.partial(pseudo_masks, threshold=0.5)])
def test_a_model_of_other_classes_is_refused(finder, use):
    reader = NoMasks()
    reader.num_classes, reader.class_names = 1, ("square",)
    reader.facts = Facts(reader.facts.labels[:, 1:], reader.facts.shapes)
    with pytest.raises(ValueError, match=r"gives 2 maps, and `source` has num_classes=1, \('square',\)"):
        use(finder, Source(reader))


def test_files_that_would_lose_something_are_refused(finder, tmp_path):
    reader = NoMasks()
    reader.ids[:2] = "a", "a_mask"
    with pytest.raises(ValueError, match="Two files would get the same name"):
        pseudo_masks(finder, Source(reader), threshold=0.5, to=tmp_path / "names")
    for dtype in ("int16", "float32"):
        reader = NoMasks()
        reader.image = lambda index, reader=reader, dtype=dtype: reader.images[index].astype(dtype)
        with pytest.raises(ValueError, match=f"'image-0' is {dtype} with 1 channels"):
            pseudo_masks(finder, Source(reader), threshold=0.5, to=tmp_path / dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"using": "guess"}, "`using` must be one of"),
        ({"normalize": "minmax"}, "`normalize` must be 'sigmoid' or 'softmax'"),
        ({"using": "maximum", "fraction": 1.0}, "`fraction` of the maximum"),
    ],
)
def test_threshold_refusals(finder, arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(finder, Source(NoMasks()), **arguments)


def test_labels_that_are_all_the_same_are_refused(finder):
    source = Source(NoMasks())
    with pytest.raises(ValueError, match="cannot tell thresholds apart: 6 of 6 images are of class 'square'"):
        choose_threshold(finder, source.subset(source.foreground))
    with pytest.raises(ValueError, match=r"`threshold` must be in \[0, 1\], received 2.0"):
        pseudo_masks(finder, source, threshold=2)
    assert float(Threshold(value=0.25, normalize="sigmoid", using="argument")) == 0.25


def test_every_pooling_trains(segmenter):
    for name in POOLINGS:
        weak = cam_beta(segmenter, pooling=name)
        weak.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
        assert np.isfinite(weak.train_on_batch(IMAGES, np.array([[0, 1], [1, 0], [0, 1]], "float32")))
