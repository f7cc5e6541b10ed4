"""Tuning of decision rules: what it promises is what predicting with the rule gives, image by image."""

import csv
import json
from dataclasses import asdict, fields

import keras
import numpy as np
import pytest
from scipy import ndimage
from support.data_fixtures import Arrays
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo.data.source import Source
from kerazoo.inference import DecisionRule, scores, tune
from kerazoo.inference.tuning import Search
from kerazoo.report import plots

IGNORED = 255


def problem(num_classes=1, *, seed=0, n=14, size=(24, 20), ignore=False):
    """Blurry blobs with noise and false alarms; a third of the images are empty."""
    rng = np.random.default_rng(seed)
    channels = max(1, num_classes - 1)
    signal = ndimage.gaussian_filter(rng.standard_normal((n, *size, channels)), (0, 3, 3, 0))
    signal = signal / signal.std() - 0.8
    masks = np.where(signal.max(axis=-1) > 0, 1 + signal.argmax(axis=-1), 0)
    masks[::3] = 0
    signal[::3] -= 0.7
    noisy = signal + 0.5 * ndimage.gaussian_filter(rng.standard_normal(signal.shape), (0, 1, 1, 0)) / 0.28
    images = np.uint8(np.clip(128 + 40 * noisy, 0, 255))
    if ignore:
        masks[rng.random(masks.shape) < 0.1] = IGNORED
        masks[-1] = IGNORED
    images = images if channels == 1 else np.concatenate([images, images[..., :1]], axis=-1)[..., :3]
    kinds = {"num_classes": num_classes, "ignore_class": IGNORED if ignore else None}
    return Source(Arrays(images=images, masks=masks.astype("uint8"), **kinds))


def model_of(num_classes, *, label=False):
    """Logits of the foreground classes from the channels; too low, as of a model trained on mostly empty images."""
    image = keras.Input((None, None, 1 if num_classes == 1 else 3))
    logits = keras.layers.Rescaling(1 / 30, offset=-128 / 30 - 1.5, dtype="float32")(image)
    if num_classes > 1:
        mix = keras.layers.Conv2D(num_classes, 1, use_bias=False, dtype="float32")
        logits = mix(logits)
        kernel = np.zeros((1, 1, 3, num_classes), "float32")
        kernel[0, 0, : num_classes - 1, 1:] = np.eye(num_classes - 1)
        mix.set_weights([kernel])
    outputs = logits
    if label:
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32")(logits)
        outputs = {"mask": logits, "label": keras.layers.Rescaling(2.0, offset=3.0, dtype="float32")(pooled)}
    return keras.Model(image, outputs)


def applied(model, source, rule, **options):
    """Counts of really predicting with a rule."""
    predictions = kz.inference.predict(model, source, rule=rule, **options)
    form = {"num_classes": source.num_classes, "ignore_class": source.ignore_class}
    counted = [scores.count(source.mask(i)[None], p.mask[None], **form) for i, p in enumerate(predictions)]
    return scores.concatenate(counted)


def value(counts, metric="per_image_dice"):
    return scores.metrics(counts, ["some"] * counts.true.shape[1])[metric]


def rule_of(row):
    return DecisionRule(**{field.name: row[field.name] for field in fields(DecisionRule)})


EVERY = ("pixel_threshold", "image_threshold", "min_area", "rank", "per_component")


def compare(num_classes, seed, *, rows, ignore=False, metric="per_image_dice", over=None, **running):
    """Tune, and predict with the rule that was found and with some of those that were looked at."""
    source = problem(num_classes, seed=seed, ignore=ignore)
    model = model_of(num_classes, label="score" in (over or ()))
    tuned = tune(model, source, metric=metric, **({"over": over} if over else {}), **running)
    assert value(applied(model, source, tuned.rule, **running), metric) == pytest.approx(tuned.value, abs=1e-12)
    start = value(applied(model, source, DecisionRule(), **running), metric)
    assert start == pytest.approx(tuned.start_value, abs=1e-12, nan_ok=True)
    assert tuned.value > tuned.start_value
    assert tuned.value == np.nanmax([row["value"] for row in tuned.surface])
    chosen = np.random.default_rng(seed).permutation(len(tuned.surface))[:rows]
    for row in [tuned.surface[i] for i in chosen]:
        real = value(applied(model, source, rule_of(row), **running), metric)
        assert real == pytest.approx(row["value"], abs=1e-12, nan_ok=True), row


@on_one_backend
@pytest.mark.backends
@pytest.mark.parametrize(
    ("num_classes", "seed", "options"),
    [
        (1, 0, {}),
        (1, 1, {"ignore": True, "metric": "dice", "image_size": (16, 16)}),
        (2, 2, {"ignore": True, "tta": "flip"}),
        (4, 3, {"ignore": True, "metric": "iou"}),
    ],
)
def test_the_value_is_what_applying_the_rule_gives(num_classes, seed, options):
    compare(num_classes, seed, rows=20, **options)


@on_one_backend
@pytest.mark.parametrize(
    ("num_classes", "seed", "options"),
    [
        (1, 4, {"ignore": True, "over": EVERY}),
        (3, 6, {"over": ("min_area", "per_component", "score"), "image_size": (15, 31)}),
        pytest.param(3, 5, {"over": (*EVERY, "score"), "image_size": (15, 31)}, marks=pytest.mark.slow),
    ],
)
def test_so_it_is_for_components_ranks_and_labels(num_classes, seed, options):
    compare(num_classes, seed, rows=12, **options)


@on_one_backend
@pytest.mark.parametrize("num_classes", [1, 3])
def test_every_count_of_the_evidence_is_real(num_classes):
    """Thresholds beside the grid, on pixels that lie on a threshold: as the rule rounds, to the pixel."""
    source, model = problem(num_classes, ignore=True), model_of(num_classes)
    (prediction, *_) = kz.inference.predict(model, source)
    own = float(prediction.probability[3, 4, 0 if num_classes == 1 else 1])
    rules = [
        DecisionRule(pixel_threshold=own, min_area=7, image_threshold=0.4, rank=3),
        DecisionRule(pixel_threshold=own, min_area=7, per_component=True),
        DecisionRule(min_area=3, per_component=True),
        DecisionRule(pixel_threshold=0.005, rank=1000),
        DecisionRule(pixel_threshold=0.995),
    ]
    search = Search(source)
    search.evidence = kz.inference.evidence.Evidence(num_classes, ignore_class=IGNORED, rules=rules)
    predictor = kz.inference.Predictor(model, batch_size=4, image_size=(20, 24))
    for output in predictor.probabilities(source):
        search.add(output.id, source.mask(len(search.evidence)), output.small, output.full)
    for rule in rules:
        real, found = applied(model, source, rule, image_size=(20, 24)), search.evidence.counts(rule)
        for field in fields(scores.Counts):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(real, field.name), err_msg=str(rule))


@pytest.mark.backends
def test_thresholds_round_as_the_rule_rounds_them():
    """Shares that lie on a threshold but for the last bit, where a quotient and the products of the rule disagree."""
    rng = np.random.default_rng(0)
    thresholds = np.repeat(np.arange(1, 200) / 200, 16)
    scale = rng.uniform(0.05, 0.99, thresholds.shape)
    best, background = np.float32(thresholds * scale), np.float32((1 - thresholds) * scale)
    best = np.where(rng.random(best.shape) < 0.3, np.nextafter(best, np.float32(1)), best)
    other = np.minimum(best / 2, 1 - best - background)
    probability = np.stack([background, other, best], axis=-1)[None]
    search = Search(Source(Arrays(images=np.zeros((1, 1, 1, 1), "uint8"), masks=np.zeros((1, 1, 1)), num_classes=3)))
    search.add("0", np.zeros(probability.shape[:2], int), probability, probability)
    found = [search.evidence.counts(DecisionRule(pixel_threshold=i / 200)).predicted.sum() for i in range(1, 200)]
    real = []
    for i in range(1, 200):
        mask, _ = DecisionRule(pixel_threshold=i / 200)(keras.ops.convert_to_tensor(probability[None]))
        real.append(np.count_nonzero(keras.ops.convert_to_numpy(mask)))
    assert found == real


@on_one_backend
def test_no_rule_is_found_that_is_better():
    source, model = problem(seed=7), model_of(1)
    tuned = tune(model, source)
    rng = np.random.default_rng(0)
    for _ in range(60):
        rule = DecisionRule(
            pixel_threshold=float(rng.uniform()),
            image_threshold=rng.choice([None, float(rng.uniform())]),
            min_area=int(rng.integers(0, 120)),
        )
        assert value(applied(model, source, rule)) <= tuned.value + 0.005, rule


def searched(probabilities, masks, **options):
    """Tune on probabilities `(n, H, W)` of one class."""
    images = np.zeros((*masks.shape, 1), "uint8")
    search = Search(Source(Arrays(images=images, masks=masks.astype("uint8"))), **options)
    for i, (probability, mask) in enumerate(zip(probabilities, masks, strict=True)):
        small = probability[..., None].astype("float32")
        search.add(str(i), mask, small, small)
    return search.result()


def test_ties_prefer_the_defaults_and_then_the_middle():
    masks = np.zeros((4, 8, 8), int)
    masks[:2, 2:6, 2:6] = 1
    sure = np.where(masks > 0, 0.9, 0.1)
    tuned = searched(sure, masks)
    assert (tuned.rule, tuned.value) == (DecisionRule(), 1.0)
    low = np.where(masks > 0, 0.4, 0.2)  # any threshold from 0.2 to below 0.4 is right
    tuned = searched(low, masks)
    assert tuned.rule == DecisionRule(pixel_threshold=0.295)  # 0.2, 0.205, …, 0.395: the lower of the two in the middle
    specks = low.copy()
    specks[2:, 0, :3] = 0.45  # three false pixels, brighter than what is there
    tuned = searched(specks, masks)
    assert tuned.value == 1.0
    assert tuned.rule.image_threshold is None
    assert 3 < tuned.rule.min_area <= 16
    start = DecisionRule(pixel_threshold=0.31, min_area=5)
    assert searched(specks, masks, start=start).rule == start


def test_image_threshold_separates_what_area_cannot():
    masks = np.zeros((6, 8, 8), int)
    masks[:3, 2:4, 2:4] = 1
    found = np.full(masks.shape, 0.05)
    found[:3, 2:4, 2:4] = 0.6
    found[0, 2, 2] = found[1, 3, 3] = found[2, 2, 3] = 0.95
    found[3:, 1:5, 1:5] = 0.7  # as large and no brighter than the rest of what is there
    tuned = searched(found, masks)
    assert tuned.value == 1.0
    assert 0.7 <= tuned.rule.image_threshold < 0.95
    assert len(str(tuned.rule.image_threshold)) <= 4
    without = searched(found, masks, over=("pixel_threshold", "min_area"))
    assert without.rule.image_threshold is None
    assert without.value < 1.0


def test_components_are_chosen_where_they_help():
    masks = np.zeros((3, 16, 16), int)
    masks[:, 8:14, 8:14] = 1
    found = np.where(masks > 0, 0.8, 0.1)
    found[:, ::4, 0:8:4] = 0.8  # single false pixels
    tuned = searched(found, masks, over=("min_area", "per_component"))
    assert tuned.rule.per_component
    assert tuned.value == 1.0
    assert tuned.start_value < 1.0


def test_any_function_of_counts_is_a_metric():
    masks = np.zeros((2, 8, 8), int)
    masks[:, :4] = 1
    found = np.where(masks > 0, 0.3, 0.1)

    def recall(counts):
        return counts.overlap.sum() / counts.true.sum()

    tuned = searched(found, masks, metric=recall)
    assert (tuned.metric, tuned.value) == ("recall", 1.0)

    def nothing(counts):
        return float("nan")

    with pytest.raises(ValueError, match="'nothing' is defined for no rule on these 2 images"):
        searched(found, masks, metric=nothing)


def test_memory_does_not_grow_with_the_images():
    search = Search(problem(), over=EVERY)
    size = {}
    for side in (16, 96):
        probability = np.random.default_rng(0).random((side, side, 1)).astype("float32")
        search.add("a", np.zeros((side, side), int), probability, probability)
        size[side] = sum(array.nbytes for array in search.evidence._rows[-1].values())
    assert size[16] == size[96] < 12_000
    plain = Search(problem())
    plain.add("a", np.zeros((16, 16), int), probability[:16, :16], probability[:16, :16])
    assert sum(array.nbytes for array in plain.evidence._rows[0].values()) < 2_500


def test_a_start_without_a_value_is_saved_as_json_and_drawn(tmp_path):
    """Precision, where the rule before predicts nothing."""
    start = DecisionRule(pixel_threshold=0.9999)
    tuned = tune(model_of(1), problem(), metric="precision", start=start, split="val")
    assert np.isnan(tuned.start_value)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    rule, surface = tmp_path / "rule.json", tuned.save(tmp_path / "surface.csv")
    tuned.save_rule(rule, start=asdict(start))
    assert json.loads(rule.read_text(), parse_constant=refuse)["start_value"] is None
    assert plots.rule_surface(surface, rule, tmp_path / "surface.png").is_file()


def test_what_is_saved_says_where_it_comes_from(tmp_path):
    tuned = tune(model_of(1), problem(), metric="dice", split="val")
    tuned.save_rule(tmp_path / "rule.json", checkpoint="best")
    saved = json.loads((tmp_path / "rule.json").read_text())
    assert (saved["metric"], saved["split"], saved["checkpoint"], saved["images"]) == ("dice", "val", "best", 14)
    assert saved["value"] == tuned.value > saved["start_value"]
    assert DecisionRule.load(tmp_path / "rule.json") == tuned.rule
    with tuned.save(tmp_path / "surface.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(tuned.surface) > 1000
    assert {row["metric"] for row in rows} == {"dice"}
    assert {row["split"] for row in rows} == {"val"}
    best = max(rows, key=lambda row: float(row["value"]))
    assert float(best["value"]) == tuned.value
    assert {row["image_threshold"] for row in rows} > {""}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"metric": "per_image_dise"},
            "`metric` must be one of iou, .*'per_image_dise'. Did you mean 'per_image_dice'",
        ),
        ({"metric": "empty_false_positive_pixels"}, "is best where nothing is ever predicted"),
        ({"over": ("threshold",)}, r"`over` must name some of pixel_threshold, .* received \('threshold',\)"),
        ({"over": ()}, "`over` must name some of"),
        ({"split": "test"}, "A rule is tuned on the validation split"),
        ({"over": ("score",)}, "needs a model with a label head"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tune(model_of(1), problem(), **options)


def test_wrong_data_are_named():
    with pytest.raises(ValueError, match="`model` gives 1 classes, and `source` has 3"):
        tune(model_of(1), problem(3))
    with pytest.raises(TypeError, match="`source` must be a Source, images with masks; received list"):
        tune(model_of(1), [])
    with pytest.raises(ValueError, match="The mask of '0' is \\(8, 4\\), and what the model gives is \\(4, 8\\)"):
        searched(np.zeros((1, 4, 8)), np.zeros((1, 8, 4), int))
    with pytest.raises(ValueError, match="no finite probability for image '0'"):
        searched(np.full((1, 4, 4), np.nan), np.zeros((1, 4, 4), int))
