"""Losses against each other, against hard masks and other libraries, and against numbers worked out in lectures."""

import math

import numpy as np
import pytest
from keras import ops
from sklearn.metrics import jaccard_score, matthews_corrcoef
from support.backend import value_and_gradient

import kerazoo as kz
from kerazoo.losses import (
    MCC,
    BalancedCrossEntropy,
    BoundaryWeighted,
    CrossEntropy,
    CrossEntropyTopK,
    FocalTversky,
    ForegroundDice,
    GeneralizedDice,
    Jaccard,
    Lovasz,
    SoftDice,
    Tversky,
)

CERTAIN = 40.0  # a logit whose sigmoid is 0 or 1 in float32


def value(loss, truth, logits, **kwargs):
    return float(ops.convert_to_numpy(loss(truth, logits, **kwargs)))


def batch(channels=1, size=(3, 6, 5), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, max(2, channels), size), rng.normal(0, 2, (*size, channels)).astype("float32")


def logit(probabilities) -> np.ndarray:
    p = np.clip(np.asarray(probabilities, "float64"), 1e-12, 1 - 1e-7)
    return np.log(p / (1 - p)).astype("float32")[None, ..., None]


def certain(mask):
    return np.where(mask[..., None] > 0, CERTAIN, -CERTAIN).astype("float32")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("empty", ["skip", "one", "penalize"])
def test_tversky_is_dice_and_jaccard_at_its_limits(channels, empty):
    truth, logits = batch(channels)
    truth[0] = 0
    dice, jaccard = SoftDice(empty=empty), Jaccard(empty=empty)
    np.testing.assert_allclose(
        value(Tversky(alpha=0.5, beta=0.5, empty=empty), truth, logits), value(dice, truth, logits), rtol=1e-6
    )
    np.testing.assert_allclose(
        value(Tversky(alpha=1, beta=1, empty=empty), truth, logits), value(jaccard, truth, logits), rtol=1e-6
    )
    tversky, focal = Tversky(empty=empty), FocalTversky(gamma=1.0, empty=empty)
    np.testing.assert_allclose(value(focal, truth, logits), value(tversky, truth, logits), rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["soft_dice", "jaccard", "tversky", "focal_tversky", "lovasz", "mcc", "foreground_dice"]
)
def test_class_weights_are_those_of_a_mean_over_the_classes_that_take_part(name):
    truth, logits = batch(3)
    truth[1] = 2  # has one class
    alone = [kz.losses.create(name, class_weights=weights) for weights in ((0, 1, 0), (0, 0, 1))]
    first, second = (
        ops.convert_to_numpy(type(loss)(**loss.get_config() | {"reduction": None})(truth, logits)) for loss in alone
    )
    weighted = kz.losses.create(name, class_weights=(9, 1, 3), reduction=None)
    each = ops.convert_to_numpy(weighted(truth, logits))
    np.testing.assert_allclose(each[[0, 2]], (first + 3 * second)[[0, 2]] / 4, rtol=1e-5)
    if name != "mcc":  # where the class fills the image it is 0/0
        np.testing.assert_allclose(each[1], second[1], rtol=1e-5)
        assert first[1] == 0
    plain = kz.losses.create(name)
    np.testing.assert_allclose(
        value(kz.losses.create(name, class_weights=(0, 5, 5)), truth, logits), value(plain, truth, logits), rtol=1e-5
    )
    np.testing.assert_allclose(value(alone[0], truth, logits), (first[0] + first[2]) / 2, rtol=1e-5)  # two images count
    with pytest.raises(ValueError, match=r"ids 0..2 \(3 weights, background first\), received 2"):
        kz.losses.create(name, class_weights=(1, 2))(truth, logits)


def test_beta_asks_for_recall():
    truth = np.zeros((1, 4, 4), int)
    truth[:, :2] = 1
    missed, false = certain(np.pad(truth[:, :1], ((0, 0), (0, 3), (0, 0)))), certain(np.ones_like(truth))
    careful, eager = Tversky(alpha=0.8, beta=0.2), Tversky(alpha=0.2, beta=0.8)
    assert value(careful, truth, missed) < value(careful, truth, false)
    assert value(eager, truth, missed) > value(eager, truth, false)


def test_losses_of_certain_masks_are_the_metrics_of_scikit_learn():
    truth, logits = batch()
    predicted = (logits[..., 0] > 0).astype(int)
    pairs = [(image.ravel(), mask.ravel()) for image, mask in zip(truth, predicted, strict=True)]
    jaccard = 1 - np.mean([jaccard_score(*pair) for pair in pairs])
    for loss in (Jaccard(), Lovasz()):
        np.testing.assert_allclose(value(loss, truth, certain(predicted)), jaccard, rtol=1e-5)
    correlation = 1 - np.mean([matthews_corrcoef(*pair) for pair in pairs])
    np.testing.assert_allclose(value(MCC(), truth, certain(predicted)), correlation, rtol=1e-5)


@pytest.mark.backends
def test_correlation_of_large_images_and_rare_pixels():
    """The product of the four counts of Matthews' formula leaves float32 here."""
    truth = np.zeros((1, 1024, 1024), "uint8")
    truth[:, :8, :8] = 1
    shifted = np.roll(truth, 4, axis=2)
    expected = 1 - matthews_corrcoef(truth.ravel(), shifted.ravel())
    np.testing.assert_allclose(value(MCC(), truth, certain(shifted)), expected, rtol=1e-4)
    _, gradient = value_and_gradient(lambda x: MCC()(truth, x), certain(shifted) / 10)
    assert np.isfinite(gradient).all()
    assert gradient.any()


@pytest.mark.backends
def test_lovasz_of_an_empty_image_is_its_largest_probability():
    truth, logits = np.zeros((1, 6, 5), int), batch(size=(1, 6, 5))[1]
    received, gradient = value_and_gradient(lambda x: Lovasz(empty="one")(truth, x), logits)
    np.testing.assert_allclose(received, 1 / (1 + math.exp(-logits.max())), rtol=1e-6)
    assert np.flatnonzero(gradient).tolist() == [logits.argmax()]


def test_generalized_dice_weighs_classes_by_their_size():
    """One pixel of class 1 counts as much as fifteen of class 2: half of the overlap is lost with either."""
    truth = np.full((1, 4, 4), 2)
    truth[0, 0, 0] = 1
    never_one = np.broadcast_to(np.array([-CERTAIN, -CERTAIN, CERTAIN], "float32"), (1, 4, 4, 3))
    # class 1: weight 1, overlap 0, sizes 1 + 0; class 2: weight 1/15², overlap 15, sizes 15 + 16; no background
    expected = 1 - 2 * (15 / 225) / (1 + 31 / 225)
    np.testing.assert_allclose(value(GeneralizedDice(), truth, never_one), expected, rtol=1e-5)
    assert value(SoftDice(), truth, never_one) < expected  # the mean over two classes


def test_all_pixels_are_the_cross_entropy():
    truth, logits = batch(3)
    everything = value(CrossEntropyTopK(fraction=1.0), truth, logits)
    np.testing.assert_allclose(everything, value(CrossEntropy(), truth, logits), rtol=1e-5)


@pytest.mark.backends
def test_only_the_hardest_pixels_have_a_gradient():
    truth, logits = batch()
    _, gradient = value_and_gradient(lambda x: CrossEntropyTopK(fraction=0.1)(truth, x), logits)
    each = ops.convert_to_numpy(CrossEntropy(reduction=None)(truth, logits)).reshape(3, -1)
    for costs, slopes in zip(each, gradient.reshape(3, -1), strict=True):
        assert set(np.flatnonzero(slopes)) == set(np.argsort(-costs)[:3])


def test_foreground_and_background_weigh_the_same():
    truth = np.zeros((1, 10, 10), int)
    truth[0, 0, :5] = 1
    undecided = np.zeros((1, 10, 10, 1), "float32")
    each = ops.convert_to_numpy(BalancedCrossEntropy(reduction=None)(truth, undecided))
    np.testing.assert_allclose(each[truth == 1].sum(), each[truth == 0].sum(), rtol=1e-5)
    np.testing.assert_allclose(each[0, 0, 0], 0.95 * math.log(2), rtol=1e-6)


def test_balanced_cross_entropy_of_an_empty_image():
    truth, logits = np.zeros((1, 6, 5), int), batch(size=(1, 6, 5))[1]
    plain, slope = value_and_gradient(lambda x: CrossEntropy()(truth, x), logits)
    penalized, gradient = value_and_gradient(lambda x: BalancedCrossEntropy()(truth, x), logits)
    np.testing.assert_allclose(penalized, plain / 2, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope / 2, rtol=1e-5)
    skipped, gradient = value_and_gradient(lambda x: BalancedCrossEntropy(empty="skip")(truth, x), logits)
    assert skipped == 0
    assert not gradient.any()


def test_false_positives_are_penalized_by_every_overlap_loss():
    """Under "penalize" an empty image pushes down every pixel, and costs from 0 for nothing to 1 for everything."""
    truth, logits = np.zeros((1, 6, 5), int), batch(size=(1, 6, 5))[1]
    for name in ("soft_dice", "jaccard", "tversky", "focal_tversky", "generalized_dice", "mcc", "lovasz"):
        loss = kz.losses.create(name, empty="penalize")
        received, gradient = value_and_gradient(lambda x, loss=loss: loss(truth, x), logits)
        assert (gradient > 0).all(), name
        area = (1 / (1 + np.exp(-logits))).sum()
        np.testing.assert_allclose(received, math.log(1 + area) / math.log(31), rtol=1e-5, err_msg=name)
        assert value(loss, truth, np.full_like(logits, -CERTAIN)) < 1e-6, name
        assert value(loss, truth, np.full_like(logits, CERTAIN)) > 0.999, name


def test_boundary_weights_are_asked_for():
    truth, logits = batch()
    with pytest.raises(ValueError, match=r"BoundaryWeighted needs `sample_weight`.*pixel_weights=\"boundary\""):
        BoundaryWeighted()(truth, logits)
    weights = np.random.default_rng(0).random(truth.shape).astype("float32")
    expected = value(CrossEntropy(), truth, logits, sample_weight=weights)
    np.testing.assert_allclose(value(BoundaryWeighted(), truth, logits, sample_weight=weights), expected, rtol=1e-6)
    total = BoundaryWeighted() + 0.1 * ForegroundDice(weighted=False)
    expected += 0.1 * value(ForegroundDice(), truth, logits)
    np.testing.assert_allclose(value(total, truth, logits, sample_weight=weights), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (Tversky, {"alpha": 0.0}, "Tversky takes `alpha` and `beta` above 0, received 0.0 and 0.7"),
        (FocalTversky, {"beta": -1.0}, "FocalTversky takes `alpha` and `beta` above 0"),
        (FocalTversky, {"gamma": 0.5}, "`gamma` of at least 1, received 0.5"),
        (Jaccard, {"empty": "zero"}, r"Jaccard takes `empty` one of \('skip', 'one', 'penalize'\), received 'zero'"),
        (Lovasz, {"empty": None}, "Lovasz takes `empty` one of"),
        (
            MCC,
            {"smooth": 1.0},
            "MCC takes no `smooth`. It takes class_weights, dtype, empty, ignore_class, name, reduction, weighted",
        ),
        (
            SoftDice,
            {"label_smoothing": 0.1},
            r"no `label_smoothing`.* CrossEntropy\(label_smoothing=…\) \+ SoftDice",
        ),
        (
            Lovasz,
            {"class_weights": (1, 0, 0)},
            r"Lovasz is a mean over foreground classes.*received class_weights=\(1, 0",
        ),
        (SoftDice, {"class_weights": (1, -2)}, "SoftDice takes `class_weights` of at least 0"),
        (
            BalancedCrossEntropy,
            {"class_weights": (1, 2)},
            r"own arguments say.* CrossEntropy\(class_weights=…\) \+ Bal.* It takes beta, dtype, empty",
        ),
        (CrossEntropy, {"from_logits": True}, "no `from_logits`. Every loss of kerazoo takes logits"),
        (Jaccard, {"ignore_index": 255}, "no `ignore_index`. The id of ignored pixels is `ignore_class`"),
        (GeneralizedDice, {"smooth": -1.0}, "GeneralizedDice takes `smooth` of at least 0"),
        (CrossEntropyTopK, {"fraction": 0.0}, r"`fraction` in \(0, 1\], received 0.0"),
        (BalancedCrossEntropy, {"beta": 1.0}, r"`beta` in \(0, 1\) or None, received 1.0"),
        (BalancedCrossEntropy, {"empty": "one"}, r"`empty` one of \('skip', 'penalize'\), received 'one'"),
    ],
)
def test_arguments_outside_their_range(loss, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        loss(**arguments)


# Numbers of the lectures ----------------------------------------------------------------------------------------------


def test_soft_dice_of_the_four_by_four_example():
    """Intersection 7.41, |A| 7.82 (not squared), |B| 8."""
    prediction = [
        [0.01, 0.03, 0.02, 0.02],
        [0.05, 0.12, 0.09, 0.07],
        [0.89, 0.85, 0.88, 0.91],
        [0.99, 0.97, 0.95, 0.97],
    ]
    truth = np.zeros((1, 4, 4), int)
    truth[:, 2:] = 1
    received = value(SoftDice(), truth, logit(prediction))
    np.testing.assert_allclose(received, 1 - 2 * 7.41 / (7.82 + 8), rtol=1e-5)


COLUMN = np.array([[[0, 1, 0]] * 3])


def test_cross_entropy_of_the_three_by_three_example():
    """The lecture prints the contributions 0.04, 0.69, 0.53 and 0.39, logarithms to base 10, and their sum as 1.69.

    They sum to 1.65 as printed and to 1.67 unrounded; its formula is a mean of natural logarithms, and that
    wins.
    """
    logits = logit([[0, 0.9, 0], [0, 1, 0.8], [0, 0.3, 0.6]])
    contributions = -np.log([0.9, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(contributions / math.log(10), [0.04, 0.69, 0.53, 0.39], atol=0.01)
    each = ops.convert_to_numpy(CrossEntropy(reduction=None)(COLUMN, logits))
    np.testing.assert_allclose(each[0][[0, 1, 2, 2], [1, 2, 1, 2]], contributions, rtol=1e-5)
    np.testing.assert_allclose(value(CrossEntropy(), COLUMN, logits), contributions.sum() / 9, rtol=1e-5)


def test_dice_of_the_three_by_three_example():
    """The lecture prints 0.38; its formula gives 1 - 2 · 2 / (3 + 4) = 0.43, and the formula wins."""
    prediction = np.array([[[0, 1, 0], [0, 1, 1], [0, 0, 1]]])
    np.testing.assert_allclose(value(SoftDice(), COLUMN, certain(prediction)), 3 / 7, rtol=1e-6)


def test_dice_and_cross_entropy_disagree_about_a_rare_class():
    """The pair of the transfer-learning lecture, dice 0.40 against 0.53, cross-entropy 0.9 against 0.5.

    Dice follows from the formula (0.391 and 0.538). 0.5 is -log10 0.3 = 0.52; 0.9 does not follow in any base (0.55 to
    base 10), the order does.
    """
    truth = np.zeros((1, 3, 3), int)
    truth[0, 2, 1] = 1
    bold, careful = logit([[0, 0.6, 0], [0] * 3, [0, 0.7, 0]]), logit([[0] * 3, [0] * 3, [0, 0.3, 0]])
    np.testing.assert_allclose(value(SoftDice(), truth, bold), 1 - 1.4 / 2.3, rtol=1e-5)
    np.testing.assert_allclose(value(SoftDice(), truth, careful), 1 - 0.6 / 1.3, rtol=1e-5)
    bold_entropy, careful_entropy = (value(CrossEntropy(reduction="sum"), truth, x) for x in (bold, careful))
    np.testing.assert_allclose(bold_entropy, -math.log(0.7) - math.log(0.4), rtol=1e-4)
    np.testing.assert_allclose(careful_entropy, -math.log(0.3), rtol=1e-4)
    assert bold_entropy > careful_entropy  # although dice prefers the bold one
