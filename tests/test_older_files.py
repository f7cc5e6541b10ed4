"""What version 0.1 wrote before the package was rearranged still loads: models, a run, a prepared data set."""

import zipfile

import keras
import numpy as np
import pytest
from support.source_tree import REPOSITORY
from support.tiers import thorough

import kerazoo as kz
from kerazoo.training import Recipe, evaluate, train

ARCHIVE = REPOSITORY / "tests" / "golden" / "before_house.zip"  # made by make_before_house.py beside it
MODELS = ("bifpn", "fapn", "fixed_size", "margin", "no_padding", "outputs", "switches", "unet_mlf")


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """Directory with what the archive holds."""
    root = tmp_path_factory.mktemp("older")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(root)
    return root


def image(shape):
    return (np.arange(np.prod(shape)) * 7 % 256).reshape(shape).astype(np.uint8)


def test_every_model_is_checked():
    with zipfile.ZipFile(ARCHIVE) as archive:
        models = {name.removesuffix(".keras") for name in archive.namelist() if "/" not in name and ".keras" in name}
    assert models == {*MODELS, "compiled"}


@pytest.mark.parametrize("name", MODELS)
def test_models_give_the_same_logits(older, name):
    model = keras.models.load_model(older / f"{name}.keras")
    shape = (1, *(n or m for n, m in zip(model.input_shape[1:], (37, 45, 3), strict=True)))
    outputs = model.predict(image(shape), verbose=0)
    with np.load(older / f"{name}.npz") as wanted:
        outputs = outputs if isinstance(outputs, dict) else {"mask": outputs}
        assert outputs.keys() == set(wanted.files)
        for key, logits in outputs.items():
            np.testing.assert_allclose(logits, wanted[key], rtol=1e-4, atol=1e-5)


@thorough
def test_a_compiled_model_is_scored_and_trained_on(older):
    model = keras.models.load_model(older / "compiled.keras")
    images, masks = image((2, 32, 32, 3)), (image((2, 32, 32, 1))[..., 0] > 128).astype(np.int32)
    scores = model.evaluate(images, masks, verbose=0, return_dict=True)
    with np.load(older / "compiled.npz") as wanted:
        assert scores == pytest.approx({name: float(wanted[name]) for name in wanted.files}, rel=1e-4)
    model.fit(images, masks, epochs=1, verbose=0)


@thorough
def test_a_run_is_evaluated_and_continued(older):
    run = older / "run"
    before = (run / "evaluation.json").read_bytes()
    recipe = Recipe.load(run / "recipe.yaml")
    train(recipe, run, resume=True)
    scores = evaluate(run, "val")
    assert before
    assert scores["split"] == "val"


def test_a_prepared_data_set_is_read(older):
    source = kz.data.sources.prepared(older / "prepared")
    assert len(source) == 8
    assert source.foreground.sum() == 4
    assert source[0].image.shape == (32, 32, 1)
