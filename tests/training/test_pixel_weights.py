"""Weights of pixels in a recipe: which batches carry them, what the loss makes of them, and what is refused."""

import io
import math
import sys

import numpy as np
import pytest
from rich.console import Console
from support.tiers import thorough
from support.tiny import tiny

from kerazoo.data.batches.pixel_weights import Boundary
from kerazoo.training import Recipe, build, train
from kerazoo.training.run import open_source

U_NET = ("loss=[boundary_weighted]", "training.pixel_weights={name: boundary, w0: 4.0, sigma: 3.0}")
SMALL = ("training.epochs=1", "evaluation={bootstrap: 0, gallery: 0}")


def test_batches_carry_the_weights_of_the_recipe():
    recipe = tiny(*U_NET)
    source = open_source(recipe, None)
    for train_split in (True, False):
        batches = build.make_batches(recipe, source, channels=1, train=train_split, weigh=True)
        _, masks, weights = next(iter(batches))
        expected = np.stack([Boundary(w0=4.0, sigma=3.0)(mask) for mask in np.asarray(masks)])
        np.testing.assert_array_equal(weights, expected)
    assert len(build.make_batches(recipe, source, channels=1, train=False).element_spec) == 2, "evaluation has none"
    assert len(build.make_batches(tiny(), source, channels=1, train=True, weigh=True).element_spec) == 2


@thorough
@pytest.mark.parametrize(
    ("assignments", "parts"),
    [
        ((*U_NET, "training.augment=[]"), (3, 3)),  # the loss needs them, on validation images too
        (("loss=[cross_entropy]", "training.pixel_weights=random_mask"), (3, 2)),  # a random loss would judge nothing
        (("loss=[cross_entropy]",), (2, 2)),
    ],
)
def test_training_weighs_the_splits_that_need_it(monkeypatch, tmp_path, assignments, parts):
    seen = {}

    def stop(recipe, run, model, source, batches, console):
        seen.update({name: len(dataset.element_spec) for name, dataset in batches.items()})
        raise FloatingPointError("seen enough")

    monkeypatch.setattr(sys.modules["kerazoo.training.train"], "_fit", stop)
    with pytest.raises(FloatingPointError, match="seen enough"):
        train(tiny(*assignments, *SMALL), tmp_path / "run", console=Console(file=io.StringIO()))
    assert (seen["train"], seen["val"]) == parts


@pytest.mark.slow
def test_a_recipe_with_weights_trains_every_map_of_a_model(tmp_path):
    loss = "loss=[boundary_weighted, {name: foreground_dice, weight: 0.1, weighted: false}]"
    recipe = tiny(*U_NET, loss, *SMALL, "model.aux=true", "model.depth=3", "model.decoder.widths=[8, 8, 8]")
    result = train(recipe, tmp_path / "run", console=Console(file=io.StringIO()))
    assert math.isfinite(result["metrics"]["iou"]["value"])


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("loss=[boundary_weighted]",), "training: the loss 'boundary_weighted' needs weights of the pixels, received"),
        (
            ("training.pixel_weights=boundary",),
            r"'foreground_dice' has one value per image. Write {name: foreground_dice, weighted: false}",
        ),
        (("training.pixel_weights=bondary",), "Did you mean 'boundary'"),
        (("training.pixel_weights={name: boundary, w1: 2}",), "pixel weight 'boundary' has no hyper-parameter 'w1'"),
    ],
)
def test_what_does_not_fit_is_said_when_the_recipe_is_read(assignments, message):
    with pytest.raises(ValueError, match=message):
        tiny(*assignments)


def test_recipes_with_the_former_name_load(tmp_path):
    recipe = tiny(*U_NET)
    recipe.dump(tmp_path / "recipe.yaml")
    text = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "former.yaml").write_text(text.replace("  pixel_weights:", "  weights:"))
    with pytest.warns(DeprecationWarning, match="training.weights is called training.pixel_weights now"):
        former = Recipe.load(tmp_path / "former.yaml")
    assert former == recipe
    plain = tiny()
    plain.dump(tmp_path / "recipe.yaml")
    text = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "former.yaml").write_text(text.replace("  pixel_weights: null", "  weights: null"))
    assert Recipe.load(tmp_path / "former.yaml") == plain, "a run spells out this default too: no warning"
    with pytest.raises(ValueError, match="give `pixel_weights` alone"):
        tiny("training.weights=boundary", "training.pixel_weights=boundary")
