"""Recipes: what is read is checked, errors name the field, and every recipe that we ship builds."""

import math

import keras
import pytest
import yaml
from support.source_tree import REPOSITORY

from kerazoo.training import build
from kerazoo.training.rates import over_time
from kerazoo.training.recipe import MONITORS, Recipe
from kerazoo.training.run import open_source

ROOT = REPOSITORY
SHIPPED = [*sorted((ROOT / "recipes").glob("*.yaml")), *sorted((ROOT / "kerazoo" / "training").glob("*.yaml"))]

MINIMAL = """
data: {source: {name: synthetic, n: 8}, image_size: 32}
model: {encoder: resnet18, decoder: unet, head: {name: mlf, stride: 2}}
loss: [cross_entropy, {name: foreground_dice, weight: 0.1}]
optimizer: {name: radam, learning_rate: 1e-3, schedule: {name: cosine, final: 1e-6}}
training: {epochs: 4, batch_size: 4}
"""


@pytest.fixture
def minimal(tmp_path):
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def test_recipes_are_shipped():
    names = {path.name for path in SHIPPED}
    assert {"magnetic_tile_binary.yaml", "magnetic_tile_binary_unet.yaml", "magnetic_tile_classes.yaml"} <= names
    assert "synthetic_demo.yaml" in names


def shipped():
    """Recipes of the tables take seconds to build, which tests/training/test_ablation_recipes.py does as well."""
    for path in SHIPPED:
        slow = path.stem.startswith(("siim_", "bikecar_"))
        yield pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("path", [*shipped()])
def test_shipped_recipe_validates_and_builds(path):
    recipe = Recipe.load(path, ["model.weights=null"])  # nothing is downloaded here
    assert recipe.name == path.stem
    header = path.read_text().split("data:")[0]
    for entry in ("Command", "Hardware", "Time", "Score"):
        assert f"# {entry}" in header, f"the header of {path.name} must say {entry}"
    classes = 1 + len(recipe.data.source.options.get("classes", ()))
    model = build.build_model(recipe, num_classes=classes, channels=1)
    assert model.output_shape == (None, None, None, classes)
    assert isinstance(build.make_loss(recipe), keras.losses.Loss)


def test_dump_keeps_everything(minimal, tmp_path):
    recipe = Recipe.load(minimal, ["data.source.num_classes=3", "model.decoder.widths=[8, 8, 8, 8, 8]"])
    recipe.dump(tmp_path / "out.yaml")
    assert Recipe.load(tmp_path / "out.yaml") == recipe
    assert recipe.model.decoder.options == {"widths": (8, 8, 8, 8, 8)}
    assert yaml.safe_load((tmp_path / "out.yaml").read_text())["training"]["sampler"] == "natural"


def test_integer_keys_survive(minimal, tmp_path):
    """`mask_values: {255: 1}` must not come back as {'255': 1}."""
    recipe = Recipe.load(minimal, ["data.source={name: folder, mask_values: {0: 0, 255: 1}}"])
    recipe.dump(tmp_path / "out.yaml")
    assert Recipe.load(tmp_path / "out.yaml").data.source.options == {"mask_values": {0: 0, 255: 1}}


def test_a_name_is_a_part_and_a_size_is_a_square(minimal):
    recipe = Recipe.load(minimal)
    assert recipe.model.encoder.name == "resnet18"
    assert recipe.model.encoder.options == {}
    assert recipe.data.image_size == (32, 32)
    assert recipe.optimizer.learning_rate == 1e-3, "1e-3 is a number here, unlike in YAML 1.1"


def test_overrides(minimal):
    recipe = Recipe.load(minimal, ["training.epochs=2", "loss.1.weight=0.5", "model.decoder.skip=concat"])
    assert recipe.training.epochs == 2
    assert recipe.loss[1].weight == 0.5
    assert recipe.model.decoder.options == {"skip": "concat"}
    assert recipe.override("training.freeze=encoder").training.freeze.batchnorm == "frozen"
    assert recipe.training.freeze is None, "a recipe is immutable"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epoch=2", r"training\.epoch: unknown field\. Did you mean 'epochs'\?"),
        ("trainin.epochs=2", r"trainin: unknown field\. Did you mean 'training'\?"),
        ("training.epochs=0", r"training\.epochs: .*greater than 0, received 0"),
        ("training.precision=half", r"training\.precision: .*'mixed_bfloat16'.*received 'half'"),
        ("model.encoder=resnet19", r"model\.encoder: Unknown encoder 'resnet19'\. Did you mean 'resnet18'"),
        ("model.decoder.name=unett", r"model\.decoder: Unknown decoder 'unett'\. Did you mean 'unet'"),
        ("model.decoder.skp=sum", r"model\.decoder: decoder 'unet' has no hyper-parameter 'skp'\. Did you mean 'skip'"),
        ("model.decoder.skip=mean", r"model\.decoder: decoder 'unet': .*'mean'"),
        ("model.encoder.widht=[8]", r"model\.encoder: encoder 'resnet18' has no hyper-parameter 'widht'"),
        ("loss.0.name=cros_entropy", r"loss\.0: Unknown loss 'cros_entropy'\. Did you mean 'cross_entropy'"),
        ("loss=[]", r"loss: List should have at least 1 item"),
        ("optimizer.name=radamm", r"optimizer: Unknown optimizer 'radamm'\. Did you mean 'radam'"),
        ("optimizer.beta_1=2", r"optimizer: optimizer 'radam': .*`beta_1`.*2"),
        ("optimizer.schedule.final=1", r"optimizer: schedule\.final=1 is above learning_rate=0\.001"),
        ("data.split.train_fraction=0", r"data\.split\.train_fraction: .*greater than 0, received 0"),
        ("data.source.name=foldr", r"data\.source: Unknown source 'foldr'\. Did you mean 'folder'"),
        ("data.source.nn=3", r"data\.source: source 'synthetic' has no hyper-parameter 'nn'"),
        ("data.source.root=x", r"data\.source: the place of the data is no part of a recipe; .*--data PATH"),
        ("data.split.fractions=[0.5, 0.2, 0.2]", r"data\.split\.fractions: .*must sum to 1, received a sum of 0\.9"),
        ("training.augment=[flipp]", r"training\.augment\.0: Unknown augmentation 'flipp'\. Did you mean 'flip'"),
        ("training.monitor=val_io", r"training\.monitor: 'val_io' is not measured\. Did you mean 'val_iou'"),
        ("data.image_size=[1, 2, 3]", r"data\.image_size: List should have at most 2 items"),
        ("data.source=3", r"data\.source: this is a mapping of fields .*received 3"),
        ("loss.7.name=focal", r"'loss\.7\.name=focal' finds no '7' in a list of 2"),
        ("training.epochs", r"An override reads section\.field=value"),
    ],
)
def test_bad_override_names_the_field(minimal, assignment, message):
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.load(minimal, [assignment])
    assert "pydantic" not in str(caught.value)


def test_what_is_monitored_says_whether_more_is_better(minimal):
    assert Recipe.load(minimal).training.mode == "max"
    assert Recipe.load(minimal, ["training.monitor=val_loss"]).training.mode == "min"


def test_every_monitor_is_measured(minimal):
    """The names that a recipe may monitor are those of the compiled metrics."""
    recipe = Recipe.load(minimal)
    model = build.build_model(recipe, num_classes=1, channels=1)
    source = open_source(recipe, None)
    build.compile_model(recipe, model, source, steps_per_epoch=1)
    logs = model.evaluate(build.make_batches(recipe, source, channels=1, train=False), return_dict=True, verbose=0)
    assert set(logs) == set(MONITORS)


def test_errors_name_the_file_and_every_field(minimal):
    minimal.write_text(MINIMAL.replace("epochs: 4", "epochs: -1").replace("decoder: unet", "decoder: unett"))
    with pytest.raises(ValueError, match=r"minimal\.yaml is not a valid recipe") as caught:
        Recipe.load(minimal)
    assert "model.decoder" in str(caught.value)
    assert "training.epochs" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"not valid YAML"),
        ("training: {epochs: 1, epochs: 2}", r"epochs is given twice"),
        ("- a", r"must be a mapping with the sections name, data, model"),
        ("data: {}", r"model: this field is required"),
    ],
)
def test_bad_file(minimal, text, message):
    minimal.write_text(text)
    with pytest.raises(ValueError, match=message):
        Recipe.load(minimal)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no recipe .*nowhere\.yaml"):
        Recipe.load(tmp_path / "nowhere.yaml")


def rate_of(recipe):
    """The learning rate of the only phase, over 10 steps in each epoch."""
    (phase,) = recipe.phases
    return over_time(phase.rates["rest"], phase.over_time, epochs=phase.epochs, steps_per_epoch=10)


def test_cosine_runs_over_the_whole_run(minimal):
    schedule = rate_of(Recipe.load(minimal))
    assert [float(schedule(step)) for step in (0, 20, 40)] == pytest.approx([1e-3, (1e-3 + 1e-6) / 2, 1e-6], rel=1e-5)


def test_warmup_comes_before_the_cosine(minimal):
    schedule = rate_of(Recipe.load(minimal, ["optimizer.schedule.warmup_epochs=1"]))
    assert [float(schedule(step)) for step in (0, 5, 10, 40)] == pytest.approx([0, 5e-4, 1e-3, 1e-6], rel=1e-5)


def test_constant_schedule_is_a_number(minimal):
    assert rate_of(Recipe.load(minimal, ["optimizer.schedule={name: constant}"])) == pytest.approx(1e-3)


def test_loss_is_the_weighted_sum(minimal):
    import numpy as np

    import kerazoo as kz

    recipe = Recipe.load(minimal, ["loss.1.weight=0.25"])
    truth = np.zeros((2, 8, 8), "int32")
    truth[0, :4] = 1
    logits = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    expected = float(kz.losses.CrossEntropy()(truth, logits)) + 0.25 * float(kz.losses.ForegroundDice()(truth, logits))
    assert math.isclose(float(build.make_loss(recipe)(truth, logits)), expected, rel_tol=1e-5)


def test_ignore_class_of_the_data_reaches_the_loss(minimal):
    import numpy as np

    truth = np.zeros((1, 4, 4), "int32")
    logits = np.zeros((1, 4, 4, 1), "float32")
    spoiled = truth.copy()
    spoiled[0, 0] = 255
    wrong = logits.copy()
    wrong[0, 0] = 50.0
    loss = build.make_loss(Recipe.load(minimal), ignore_class=255)
    assert float(loss(spoiled, wrong)) == pytest.approx(float(loss(truth, logits)), rel=1e-5)


def test_precision_holds_for_the_model_only(minimal):
    recipe = Recipe.load(minimal, ["training.precision=mixed_bfloat16"])
    model = build.build_model(recipe, num_classes=1, channels=1)
    assert keras.config.dtype_policy().name == "float32"
    assert model.get_layer("encoder").layers[2].compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"
