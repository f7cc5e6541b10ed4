"""The tuned rule of a run: from `kerazoo evaluate --tune-rule` to what predict, export and the report do with it."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.tiers import thorough
from support.tiny import tiny
from typer.testing import CliRunner

import kerazoo as kz
from kerazoo.cli import app
from kerazoo.inference import DecisionRule
from kerazoo.training import evaluate, rules, train


def call(*arguments):
    """Exit code and text of a command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was tuned, and what the command said."""
    run = tmp_path_factory.mktemp("runs") / "tuned"
    train(tiny("training.epochs=3"), run)
    plain = json.loads((run / "evaluation.json").read_text())
    code, text = call("evaluate", run, "--tune-rule", "--metric", "dice")
    assert code == 0, text
    return run, text, plain


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


@thorough
def test_tuning_leaves_the_rule_its_surface_and_a_section_of_the_report(trained):
    run, text, plain = trained
    rule, saved = DecisionRule.load(run / "rule.json"), json.loads((run / "rule.json").read_text())
    result = json.loads((run / "evaluation.json").read_text())
    assert DecisionRule(**result["rule"]) == rule != DecisionRule(pixel_threshold=0.2)
    assert (result["split"], result["tuned_by"], plain["tuned_by"]) == ("test", "dice", None)
    assert DecisionRule(**plain["rule"]) == DecisionRule(pixel_threshold=0.2)
    expected = {"metric": "dice", "split": "val", "images": 8, "checkpoint": "best", "image_size": [32, 32]}
    assert {name: saved[name] for name in expected} == expected
    assert saved["epoch"] == result["epoch"]
    assert saved["value"] > saved["start_value"]
    assert f"rule: {rule} (dice {saved['start_value']:.3f} before, {saved['value']:.3f} with it, on the 8 val" in text
    with (run / "rule_surface.csv").open(newline="") as file:
        assert max(float(row["value"]) for row in csv.DictReader(file)) == saved["value"]
    page = (run / "report.html").read_text()
    assert "tuned by dice on the 8 images of the val split" in page
    assert f"; {rule}." in page, "the numbers at the top are by this rule"
    with Image.open(run / "plots" / "rule_surface.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.slow
def test_what_tuning_promised_evaluation_finds(run):
    saved = json.loads((run / "rule.json").read_text())
    result = evaluate(run, "val")
    assert DecisionRule(**result["rule"]) == DecisionRule.load(run / "rule.json")
    assert result["metrics"]["dice"]["value"] == pytest.approx(saved["value"], abs=1e-12)
    asked = evaluate(run, "val", threshold=0.2)
    assert (asked["threshold"], asked["tuned_by"]) == (0.2, None)
    assert asked["metrics"]["dice"]["value"] == pytest.approx(saved["start_value"], abs=1e-12)


@pytest.mark.slow
def test_predict_and_export_take_the_rule_and_say_so(run, tmp_path):
    (tmp_path / "images").mkdir()
    source = kz.data.sources.synthetic(4, empty_fraction=0.0, image_size=(64, 64), seed=5)
    for sample in source:
        Image.fromarray(sample.image[..., 0]).save(tmp_path / "images" / f"{sample.id}.png")
    facts = json.loads((run / "rule.json").read_text())
    rule = DecisionRule(pixel_threshold=0.01, image_threshold=0.02, min_area=1000, per_component=True)
    rule.save(run / "rule.json", **{name: value for name, value in facts.items() if name != "rule"})
    code, text = call("predict", run, tmp_path / "images", "--to", tmp_path / "a", "--threshold", 0.01)
    assert (code, "rule:" in text, "4 with foreground" in text) == (0, False, True), text
    code, text = call("predict", run, tmp_path / "images", "--to", tmp_path / "b")
    assert code == 0, text
    assert f"rule: {rule} (rule.json, tuned on val by dice)" in text
    model = kz.training.run.load_model(run)
    for prediction in kz.inference.predict(model, source, rule=rule, image_size=(32, 32)):
        with Image.open(tmp_path / "b" / f"{prediction.id}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), prediction.mask)
    code, text = call("predict", run, tmp_path / "images", "--to", tmp_path / "c", "--tile", 64)
    assert "with tiles its 1000 pixels are those of the image" in text
    code, text = call("export", run, "--to", tmp_path / "served")
    assert (code, f"rule: {rule} (rule.json" in text) == (0, True), text
    assert DecisionRule.load(tmp_path / "served" / "parity.json") == rule
    assert "A connected component with fewer pixels" in (tmp_path / "served" / "card.md").read_text()


@thorough
def test_a_rule_of_another_epoch_is_not_used(run):
    recipe = kz.training.run.read_run(run)[0]
    assert rules.choose(run, recipe).tuned_by == "dice"
    other = rules.choose(run, recipe, "last")
    facts = json.loads((run / "rule.json").read_text())
    (run / "rule.json").write_text(json.dumps(facts | {"epoch": 77}))
    later = rules.choose(run, recipe)
    for choice, told in ((other, "this is the last epoch, 3"), (later, "was tuned for the best epoch, 77")):
        assert choice.rule == DecisionRule(pixel_threshold=0.2)
        assert choice.tuned_by is None
        assert told in choice.note
        assert "Tune anew with kerazoo evaluate --tune-rule" in choice.note
    (run / "rule.json").write_text("{}")
    with pytest.raises(ValueError, match=r"rule\.json does not hold a decision rule"):
        rules.choose(run, recipe)


@pytest.mark.slow
def test_compare_takes_together_what_was_tuned_alike(run, tmp_path):
    runs = []
    for seed, threshold in ((0, 0.3), (1, 0.6)):
        copy = tmp_path / f"s{seed}"
        copy.mkdir()
        shutil.copy(run / "run.json", copy)
        tiny(f"training.seed={seed}").dump(copy / "recipe.yaml")
        evaluation = {"split": "test", "metrics": {"iou": {"value": threshold}}, "threshold": threshold}
        (copy / "evaluation.json").write_text(json.dumps(evaluation | {"tuned_by": "dice"}))
        runs.append(copy)
    code, text = call("compare", *runs)
    assert (code, "0.450 ± 0.212" in text) == (0, True), text
    (copy / "evaluation.json").write_text(json.dumps(evaluation | {"tuned_by": None}))
    code, text = call("compare", *runs)
    assert (code, "evaluated with different values of tuned_by" in text) == (2, True), text


@thorough
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--tune-rule", "--split", "val"), "A rule is tuned on the split 'val', measured on another"),
        (("--tune-rule", "--threshold", "0.3"), "chooses its own threshold; received split='test', threshold=0.3"),
        (("--tune-rule", "--metric", "dise"), "`metric` must be one of iou, dice,"),
        (("--metric", "dice"), "`metric` is what the rule is tuned by: give tune_rule with it"),
    ],
)
def test_wrong_wishes_are_named(run, arguments, told):
    before = (run / "rule.json").read_bytes()
    code, text = call("evaluate", run, *arguments)
    assert (code, told in text) == (2, True), text
    assert (run / "rule.json").read_bytes() == before
