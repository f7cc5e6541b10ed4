"""docs/empty_images.csv holds what losses and metrics say about empty images, and what the page says of it is true."""

import importlib.util
import math

import numpy as np
import pytest
from support import empty_record
from support.tiers import thorough

import kerazoo as kz


@pytest.fixture(scope="module")
def measured():
    return list(empty_record.our_rows())


def key(row):
    return tuple(row[name] for name in ("kind", "name", "truth", "prediction"))


def number(text, near_zero=1e-6):
    return pytest.approx(float(text), rel=2e-4, abs=near_zero, nan_ok=True)


@thorough
def test_the_record_is_what_is_measured(measured):
    recorded = empty_record.read()
    advice = "if that is meant, run: PYTHONPATH=tests python -m support.empty_record, then make docs-tables"
    assert [key(row) for row in recorded] == [key(row) for row in measured], advice
    for old, new in zip(recorded, measured, strict=True):
        assert float(new["value"]) == number(old["value"]), f"{key(new)}; {advice}"
        if new["kind"] == "loss":
            assert float(new["gradient_norm"]) == number(old["gradient_norm"], near_zero=1e-12), f"{key(new)}; {advice}"
            assert new["gradient_direction"] == old["gradient_direction"], f"{key(new)}; {advice}"


def test_every_loss_and_metric_is_in_the_record():
    """By the registries, and every one of them with every policy that its signature names."""
    names = {(row["kind"], row["name"].partition("(")[0]) for row in empty_record.read()}
    assert names >= {("loss", name) for name in kz.losses.list()} | {("metric", name) for name in kz.metrics.list()}
    assert {name for _, name in names} >= {"boundary_iou", "hausdorff_distance"}
    labels = {row["name"] for row in empty_record.read()}
    for name in ("focal_tversky", "generalized_dice", "jaccard", "lovasz", "mcc", "soft_dice", "tversky"):
        assert labels >= {f'{name}(empty="{policy}")' for policy in ("skip", "one", "penalize")}
    for name in ("per_image_dice", "boundary_iou", "hausdorff_distance"):
        assert labels >= {f'{name}(empty="{policy}")' for policy in ("skip", "one", "penalize")}
    for name in ("iou", "dice"):
        assert labels >= {f'{name}(images="all", empty="{policy}")' for policy in ("skip", "one", "penalize")}


class Measured(dict):
    """Rows of a name by truth and prediction."""

    def __init__(self, rows, kind, name):
        super().__init__({(r["truth"], r["prediction"]): r for r in rows if (r["kind"], r["name"]) == (kind, name)})

    def value(self, truth, prediction):
        return float(self[truth, prediction]["value"])


@thorough
@pytest.mark.parametrize(
    "name", ["focal_tversky", "generalized_dice", "jaccard", "lovasz", "mcc", "soft_dice", "tversky"]
)
def test_policies_mean_the_same_for_every_overlap_loss(measured, name):
    """skip: no value, no gradient. penalize: one curve of the area for all, gradient down. Objects: all equal."""
    skip, one, penalize = (Measured(measured, "loss", f'{name}(empty="{p}")') for p in ("skip", "one", "penalize"))
    pixels = empty_record.SIZE**2
    for prediction, area in {"nothing": 0, "p = 0.01": 0.01 * pixels, "64 px": 64, "everything": pixels}.items():
        assert skip.value("empty", prediction) == 0
        assert skip["empty", prediction]["gradient_direction"] == "none"
        expected = math.log1p(area) / math.log1p(pixels)
        assert penalize.value("empty", prediction) == pytest.approx(expected, rel=1e-4)
    for prediction in ("p = 0.01", "p = 0.5"):
        assert penalize["empty", prediction]["gradient_direction"] == "down"
    for prediction in ("nothing", "p = 0.01", "half", "the object", "everything"):
        if name != "generalized_dice":  # of which "one" is another formula, not another value of 0/0
            assert one.value("object", prediction) == skip.value("object", prediction)
        assert penalize.value("object", prediction) == skip.value("object", prediction)
    assert penalize.value("object; empty", "the object; 64 px") > penalize.value("object; empty", "the object; nothing")
    assert skip.value("object; empty", "the object; 64 px") == skip.value("object; empty", "the object; nothing")


@thorough
@pytest.mark.parametrize("name", ["iou", "dice"])
def test_policies_of_metrics(measured, name):
    """A correct empty image: nothing to count, or one. A false positive on it is seen where all images take part.

    There "penalize" is the complement of the loss for certain predictions.
    """

    def of(images, empty):
        return Measured(measured, "metric", f'{name}(images="{images}", empty="{empty}")')

    for images in ("non_empty", "all"):
        assert of(images, "skip").value("empty", "nothing") == 0
        assert of(images, "one").value("empty", "nothing") == 1
        assert of(images, "one").value("empty", "64 px") == (0 if images == "all" else 1)
        assert of(images, "penalize").value("empty", "nothing") == 1
        for prediction in ("64 px", "everything"):
            penalty = Measured(measured, "loss", 'soft_dice(empty="penalize")').value("empty", prediction)
            expected = 1 - penalty if images == "all" else 1
            assert of(images, "penalize").value("empty", prediction) == pytest.approx(expected, abs=1e-5)
    alone, marred = "the object; nothing", "the object; 64 px"
    assert of("all", "skip").value("object; empty", marred) < of("all", "skip").value("object; empty", alone) == 1
    assert of("non_empty", "skip").value("object; empty", marred) == 1


def test_the_picture_shows_the_derivation():
    spec = importlib.util.spec_from_file_location("penalty", empty_record.PATH.with_name("penalty.py"))
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    areas, pixels = np.array([0.5, 20.0, 30_000.0]), picture.SIDE**2
    values, slopes = picture.curve(picture.LOSSES['SoftDice(empty="penalize")'][0], areas)
    np.testing.assert_allclose(values, np.log1p(areas) / math.log1p(pixels), rtol=1e-5)
    np.testing.assert_allclose(slopes, 1 / ((1 + areas) * math.log1p(pixels)), rtol=5e-3)
    assert picture.PATH.exists()
