"""Deep supervision where TensorFlow is needed: the pipeline's targets, recipes, and exports."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from support.tiers import thorough
from support.tiny import tiny

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block
from kerazoo.export.precision import in_float32
from kerazoo.training.callbacks import plain_names
from kerazoo.training.run import load_model

SMALL = (
    "model.depth=3",
    "model.decoder.widths=[8, 8, 8]",
    "model.head=linear",
    "training.epochs=1",
    "evaluation={bootstrap: 0, gallery: 0}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the tiny recipe with supervision of every level."""
    directory = tmp_path_factory.mktemp("aux") / "run"
    with (directory.parent / "console.txt").open("w") as file:
        console = Console(file=file, width=200)
        recipe = tiny(*SMALL, "model.aux=true", "training.aux_weight=0.5")
        kz.training.train(recipe, directory, console=console)
    return directory


@thorough
def test_pipeline_gives_every_output_of_a_model_its_target(run):
    source = kz.data.sources.synthetic(4, image_size=(32, 32), seed=0)
    model = load_model(run)
    (_, targets) = next(iter(kz.data.pipeline(source, image_size=(32, 32), batch_size=4, outputs=model)))
    assert set(targets) == set(model.output) == {"mask", "aux_1", "aux_2", "aux_4"}
    for target in targets.values():
        assert target.dtype == tf.int32
        np.testing.assert_array_equal(target, targets["mask"])
    plain = kz.inference.without_aux(model)
    (_, target) = next(iter(kz.data.pipeline(source, image_size=(32, 32), batch_size=4, outputs=plain)))
    np.testing.assert_array_equal(target, targets["mask"])
    named = kz.data.pipeline(source, image_size=(32, 32), batch_size=4, outputs=("aux_4", "label"))
    assert set(named.element_spec[1]) == {"aux_4", "label"}
    with pytest.raises(ValueError, match=r"`outputs` must be .*, or a model with such outputs; received outputs=\('b'"):
        kz.data.pipeline(source, image_size=(32, 32), batch_size=4, outputs=("b", "mask"))


@thorough
def test_a_recipe_trains_with_aux_and_logs_the_metrics_of_the_mask_as_without(run):
    (row,) = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    parts = {name: float(value) for name, value in row.items() if name.startswith("aux_")}
    assert set(parts) == {"aux_1_loss", "aux_2_loss", "aux_4_loss"}
    assert float(row["loss"]) == pytest.approx(float(row["mask_loss"]) + sum(parts.values()), rel=1e-4)
    assert {"iou", "val_iou", "val_image_balanced_accuracy", "val_loss"} <= set(row)
    assert not [name for name in row if "mask_iou" in name]
    printed = (run.parent / "console.txt").read_text()
    assert "val_iou" in printed
    assert "aux_" not in printed
    assert (run / "checkpoints" / "best.keras").is_file()


@thorough
def test_a_run_with_aux_is_evaluated_by_its_mask(run):
    result = json.loads((run / "evaluation.json").read_text())
    assert result["images"] == 8
    recipe = kz.training.Recipe.load(run / "recipe.yaml")
    assert (recipe.model.aux, recipe.training.aux_weight) == (True, 0.5)


@thorough
def test_an_export_has_no_aux(run, tmp_path):
    model = load_model(run)
    kz.export.saved_model(model, tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    signature = served.signatures["serving_default"]
    assert set(signature.structured_outputs) == {"mask", "probability", "score"}
    names = {variable.name for variable in served.variables}
    shapes = sorted(tuple(variable.shape) for variable in served.variables)
    bare = kz.inference.without_aux(model)
    assert shapes == sorted(tuple(variable.shape) for variable in bare.variables), names
    assert len(bare.variables) == len(model.variables) - 3 * 2


def test_an_export_of_a_mixed_model_keeps_the_label_head():
    keras.config.set_dtype_policy("mixed_bfloat16")
    encoder = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), expansion=1, stem_width=8)
    options = {"num_classes": 3, "aux": True, "label_head": True, "depth": 2}
    model = kz.segmenter(encoder, kz.decoders.UNet(widths=(8,)), "linear", **options)
    exported = in_float32(kz.inference.without_aux(model))
    assert set(exported.output) == {"mask", "label"}
    assert exported.count_params() == model.count_params() - model.get_layer("aux_head").count_params()


def test_metrics_of_the_mask_lose_their_prefix_and_losses_keep_it():
    logs = {"loss": 1, "mask_loss": 2, "val_mask_loss": 3, "mask_iou": 4, "val_mask_iou": 5, "aux_8_loss": 6}
    assert list(plain_names(logs)) == ["loss", "mask_loss", "val_mask_loss", "iou", "val_iou", "aux_8_loss"]
