"""Phases: what they freeze and at which rates they train, what recipes may say of them, and what a run leaves."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from rich.console import Console
from support.source_tree import REPOSITORY
from support.tiny import FIVE_LEVELS, TWO_PHASES, tiny

import kerazoo as kz
from kerazoo.training import Phase, build, callbacks, fit_phases, train
from kerazoo.training.phases import Schedule, set_up
from kerazoo.training.rates import current_rates, groups, make_optimizer, over_time
from kerazoo.training.run import load_model


def tiny_model():
    return build.build_model(tiny(*FIVE_LEVELS), num_classes=1, channels=1)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def values(variables):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in variables}


def changed(before, after):
    return {path for path in before if (before[path] != after[path]).any()}


def test_flags_of_phases(model):
    encoder = model.get_layer("encoder")
    flags = {
        name: {layer.name for layer in encoder.layers if layer.weights and layer.trainable}
        for name, phase in {
            "all": Phase(epochs=1),
            "none": Phase(epochs=1, freeze="encoder"),
            "norms": Phase(epochs=1, freeze="encoder", batchnorm="train"),
            "others": Phase(epochs=1, batchnorm="frozen"),
            "coarse": Phase(epochs=1, freeze={"part": "encoder", "up_to_stride": 8}),
            "both": Phase(epochs=1, freeze={"part": "encoder", "up_to_stride": 8}, batchnorm="frozen"),
            "again": Phase(epochs=1),
        }.items()
        if set_up(model, phase)
    }
    norms = {name for name in flags["all"] if "bn" in name}
    assert flags["again"] == flags["all"] == {layer.name for layer in encoder.layers if layer.weights}
    assert flags["none"] == set()
    assert flags["norms"] == norms
    assert flags["others"] == flags["all"] - norms
    assert flags["coarse"] == {name for name in flags["all"] if name.startswith(("layer3", "layer4"))}
    assert flags["both"] == flags["coarse"] - norms
    assert all(layer.trainable for layer in model.get_layer("decoder").layers), "other parts have nothing to do with it"


def test_freeze_up_to_a_stride_leaves_what_is_coarser(model, capsys):
    set_up(model, Phase(epochs=1))
    kz.freeze(model, "encoder", up_to_stride=32)
    assert kz.trainable_table(model).rows[0].trainable == 0
    kz.unfreeze(model, "encoder")
    kz.freeze(model, "encoder", up_to_stride=16)
    names = {layer.name for layer in model.get_layer("encoder").layers if layer.weights and layer.trainable}
    assert names
    assert all(name.startswith("layer4") for name in names)
    with pytest.raises(ValueError, match=r"has a stride of at most 1: there are \[2, 4, 8, 16, 32\]"):
        kz.freeze(model, "encoder", up_to_stride=1)


def test_nothing_to_train_is_an_error():
    image = keras.Input((8, 8, 3))
    encoder = keras.Model(image, keras.layers.Conv2D(1, 1)(image), name="encoder")
    outer = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="Nothing trains in the phase of 1 epoch, encoder frozen"):
        set_up(keras.Model(outer, encoder(outer)), Phase(epochs=1, freeze="encoder"))


def whole(**fields):
    return Phase(**{"epochs": 2, **fields}).completed(0.5, Schedule())


def test_groups_have_the_rates_of_their_parts(model):
    set_up(model, Phase(epochs=1))
    (one,) = groups(model, whole())
    assert (one.name, one.rate, len(one.paths)) == ("rest", 0.5, len(model.trainable_variables))
    encoder, rest = groups(model, whole(learning_rate={"encoder": 0.25, "rest": 0.5}))
    assert (encoder.name, encoder.rate, rest.rate) == ("encoder", 0.25, 0.5)
    assert encoder.paths == tuple(v.path for v in model.get_layer("encoder").trainable_variables)
    set_up(model, Phase(epochs=1, freeze="encoder"))
    assert [group.name for group in groups(model, whole(learning_rate={"encoder": 0.25, "rest": 0.5}))] == ["rest"]
    with pytest.raises(ValueError, match=r"has no part 'enocder'\. Did you mean 'encoder' or"):
        groups(model, whole(learning_rate={"enocder": 0.25, "rest": 0.5}))


@pytest.mark.parametrize(("rates", "first"), [(0.5, 0.25), ({"encoder": 0.25, "rest": 0.5}, 0.125)])
def test_layer_decay_falls_from_the_coarsest_stage_to_the_stem(model, rates, first):
    set_up(model, Phase(epochs=1))
    *found, rest = groups(model, whole(learning_rate=rates, layer_decay=0.5))
    assert [group.name for group in found] == [f"encoder_stride_{stride}" for stride in (2, 4, 8, 16, 32)]
    assert [group.rate for group in found] == [first / 2**k for k in (4, 3, 2, 1, 0)]
    assert rest.rate == 0.5
    assert {path.split("_")[0] for path in found[-1].paths} == {"layer4"}
    assert {path.split("_")[0] for path in found[1].paths} == {"layer1"}
    assert sum(len(group.paths) for group in found) == len(model.get_layer("encoder").trainable_variables)


def test_every_variable_gets_its_optimizer_and_rates_fall_alike(model):
    set_up(model, Phase(epochs=1))
    phase = whole(learning_rate={"encoder": 0.25, "rest": 0.5}, schedule=Schedule(name="cosine", final=0.1))
    optimizer = make_optimizer(model, phase, keras.optimizers.SGD, steps_per_epoch=5)
    assert current_rates(optimizer) == pytest.approx({"learning_rate_encoder": 0.25, "learning_rate": 0.5})
    before = values(model.weights)
    optimizer.apply([keras.ops.ones_like(v) for v in model.trainable_variables], model.trainable_variables)
    encoder = {variable.path for variable in model.get_layer("encoder").trainable_variables}
    for variable in model.trainable_variables:
        step = before[variable.path] - keras.ops.convert_to_numpy(variable)
        assert step == pytest.approx(0.25 if variable.path in encoder else 0.5, abs=1e-5), variable.path
    for one in optimizer.optimizers:
        one.iterations.assign(10)
    assert current_rates(optimizer) == pytest.approx({"learning_rate_encoder": 0.05, "learning_rate": 0.1})


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Schedule(), [0.5, 0.5, 0.5]),
        (Schedule(warmup_epochs=1), [0.0, 0.5, 0.5]),
        (Schedule(name="poly", power=2), [0.5, 0.125, 0.0]),
        (Schedule(name="poly", power=1, final=0.1), [0.5, 0.3, 0.1]),
        (Schedule(name="poly", power=1, warmup_epochs=1), [0.0, 0.5, 0.0]),
        (Schedule(name="poly", power=1, warmup_epochs=0.5), [0.0, 0.5 * 2 / 3, 0.0]),
        (Schedule(name="cosine", final=0.1), [0.5, 0.3, 0.1]),
    ],
)
def test_schedules_over_two_epochs_of_ten_steps(schedule, rates):
    rate = over_time(0.5, schedule, epochs=2, steps_per_epoch=10)
    found = [rate if isinstance(rate, float) else float(rate(step)) for step in (0, 10, 20)]
    assert found == pytest.approx(rates, abs=1e-6)
    if not isinstance(rate, float):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
        assert [float(again(step)) for step in (0, 5, 10)] == [float(rate(step)) for step in (0, 5, 10)]


def test_a_recipe_without_phases_is_one():
    (phase,) = tiny("training.freeze=encoder").phases
    assert (phase.epochs, phase.freeze.part, phase.batchnorm, phase.rates) == (4, "encoder", "frozen", {"rest": 1e-2})
    assert phase.over_time == Schedule(name="cosine", final=1e-5)
    first, second = tiny(*TWO_PHASES).phases
    assert (first.rates, second.rates) == ({"rest": 1e-2}, {"encoder": 1e-3, "rest": 1e-2})
    assert second.over_time.final == 1e-5


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["training.epochs=null"], r"training: give `epochs`, or `phases` .*; received epochs=None"),
        ([*TWO_PHASES, "training.epochs=3"], r"training: give `epochs`, or `phases` .*; received epochs=3"),
        ([*TWO_PHASES, "training.freeze=encoder"], r"training: with `phases` each of them says what it freezes"),
        ([*TWO_PHASES, "training.phases.0.epoch=3"], r"training\.phases\.0\.epoch: unknown field\. .*'epochs'"),
        ([*TWO_PHASES, "training.phases.0.freeze=stem"], r"training\.phases\.0\.freeze\.part: .*'encoder'.*'stem'"),
        ([*TWO_PHASES, "training.phases.1.learning_rate={encoder: 1}"], r"phases\.1\.learning_rate: .*'rest'"),
        ([*TWO_PHASES, "training.phases.1.learning_rate=-1"], r"phases\.1\.learning_rate\.rest: .*greater than 0"),
        ([*TWO_PHASES, "training.phases.1.schedule={final: 0.1}"], r"phases\.1: schedule\.final=0\.1 is above"),
        (["model.start=runs/a", "model.weights=imagenet"], r"model\.start: it replaces model\.weights"),
    ],
)
def test_bad_phases_are_named(assignments, message):
    with pytest.raises(ValueError, match=message):
        tiny(*assignments)


def test_bad_arguments_of_fit_phases(model):
    data = kz.data.pipeline(kz.data.sources.synthetic(4, image_size=(32, 32)), image_size=(32, 32), batch_size=2)
    with pytest.raises(ValueError, match="`phases` must have at least one phase"):
        fit_phases(model, data, phases=[])
    with pytest.raises(ValueError, match=r"phases\[0\] is not a valid phase:\n  epoch: unknown field. Did you mean"):
        fit_phases(model, data, phases=[{"epochs": 1, "epoch": 3}])
    with pytest.raises(ValueError, match="`data` must be a dataset of batches, or .* received ndarray"):
        fit_phases(model, (np.zeros((2, 32, 32, 1)), np.zeros((2, 32, 32))), phases=[{"epochs": 1}])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run in two phases, what it printed, and the encoder's weights whenever the model was compiled."""
    run, text, encoders = tmp_path_factory.mktemp("runs") / "finished", io.StringIO(), []

    def compile_model(recipe, model, *args, **options):
        encoders.append(values(model.get_layer("encoder").weights))
        build.compile_model(recipe, model, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["kerazoo.training.train"], "compile_model", compile_model)
        train(tiny(*TWO_PHASES), run, console=Console(file=text, width=200))
    return run, text.getvalue(), encoders


def test_frozen_is_frozen_and_batch_norm_stays_so(finished):
    """The encoder after the first phase, and its batch norm after the second: moving statistics too, to the bit."""
    run, _, encoders = finished
    start, _, second = encoders  # of the model as it is built, and of the phases before they train
    assert len(start) == 30
    assert not changed(start, second)
    last = values(load_model(run, "last").get_layer("encoder").weights)
    assert changed(start, last) == {path for path in start if "bn" not in path}


def test_a_run_in_phases_keeps_what_trained(finished):
    run, text, encoders = finished
    first, second = json.loads((run / "phases.json").read_text())["phases"]
    assert (first["phase"], first["learning_rates"]) == ("2 epochs, encoder frozen", {"rest": 1e-2})
    assert first["parts"][0] == {"part": "encoder", "trainable": 0, "total": sum(map(np.size, encoders[0].values()))}
    assert second["learning_rates"] == {"encoder": 1e-3, "rest": 1e-2}
    assert second["schedule"] == "cosine to 1e-05"
    report = (run / "report.html").read_text()
    assert "1: 2 epochs, encoder frozen" in report
    assert "encoder 0.001\nrest 0.01" in report
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["learning_rate_encoder"] == "" for row in rows] == [True, True, False, False]
    assert "phase 2 of 2: 2 epochs, the encoder's batch norm frozen" in text
    assert text.index("encoder             0 of") < text.index("phase 2 of 2")
    assert "epoch 3/4" in text


def test_averaged_weights_are_judged_and_the_others_kept(finished):
    """The model of a checkpoint has the averages, validation was of them, and what was trained lies beside."""
    run, _, _ = finished
    model = keras.saving.load_model(run / "checkpoints" / "last.keras")
    judged = values(model.trainable_variables)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    assert not changed(judged, values(model.trainable_variables))
    callbacks.put_in(model, callbacks.read_trained(run / "checkpoints" / "last.keras"))
    assert changed(judged, values(model.trainable_variables)) == set(judged)
    model = load_model(run, "last")
    assert not changed(judged, values(model.trainable_variables))
    source = kz.data.sources.synthetic(**tiny().data.source.options)
    build.compile_model(tiny(*TWO_PHASES), model, source, steps_per_epoch=1)
    split = source.load_split(run / "split.csv")
    batches = build.make_batches(tiny(), split["val"], channels=1, train=False)
    logs = model.evaluate(batches, return_dict=True, verbose=0)
    with (run / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert logs["loss"] == pytest.approx(float(last["val_loss"]), rel=1e-4)


def test_a_finished_run_in_phases_resumes_to_itself(finished):
    run, _, _ = finished
    before = (run / "checkpoints" / "last.keras").stat().st_mtime_ns
    train(tiny(*TWO_PHASES), run, resume=True, console=Console(file=io.StringIO()))
    assert (run / "checkpoints" / "last.keras").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_run_begins_from_a_run(finished, tmp_path):
    """One class at 32 pixels and one channel, then three classes at 48 with three channels."""
    first, text = shutil.copytree(finished[0], tmp_path / "first"), io.StringIO()
    recipe = tiny(
        "training.jit_compile=false", "training.epochs=1", "training.freeze=encoder", "training.doctor=false",
        "evaluation={bootstrap: 0, gallery: 0}", f"model.start={first}", "data.channels=3", "data.image_size=48",
        "data.source.num_classes=3",
    )  # fmt: skip
    train(recipe, tmp_path / "second", console=Console(file=text, width=200))
    taken, mine = (values(load_model(run).get_layer("encoder").weights) for run in (first, tmp_path / "second"))
    stem = next(iter(mine))
    assert not changed({path: value for path, value in taken.items() if path != stem}, mine), "frozen as it was taken"
    assert mine[stem].shape[2] == 3
    kept = json.loads((tmp_path / "second" / "start.json").read_text())
    assert kept["source"] == str(first)
    assert [row["part"] for row in kept["rows"]] == ["encoder", "decoder", "head"]
    assert kept["new_layers"]
    assert "begins from" in text.getvalue()
    report = (tmp_path / "second" / "report.html").read_text()
    assert "Began from …/first. New layers: " in report
    (first / "recipe.yaml").unlink()
    train(recipe, tmp_path / "second", resume=True, console=Console(file=text))  # the weights are its own by now


RUN = """
import os, signal, sys
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
sys.path.insert(0, sys.argv[1])
from support.tiny import TWO_PHASES, tiny
from kerazoo.training import callbacks, train

run, kill_in_epoch = sys.argv[2], int(sys.argv[3])

def die(guard, batch, logs=None):
    if guard.epoch == kill_in_epoch and batch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.StopOnNaN.on_train_batch_end = die
train(tiny(*TWO_PHASES), run, resume=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_in_each_phase_and_between_them_equals_uninterrupted(tmp_path):
    """SIGKILL amid epochs 1 and 2 (phase 1), 3 (before phase 2 has a checkpoint) and 4 (phase 2); equal to the bit."""

    def start(run, kill_in_epoch=-1):
        command = [sys.executable, "-c", RUN, str(REPOSITORY / "tests"), str(tmp_path / run), str(kill_in_epoch)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    for epoch in (0, 1, 2, 3):
        assert start("killed", epoch).returncode == -signal.SIGKILL
    for run in ("killed", "whole"):
        ended = start(run)
        assert ended.returncode == 0, ended.stderr[-3000:]
    killed, whole = (
        keras.saving.load_model(tmp_path / run / "checkpoints" / "last.keras") for run in ("killed", "whole")
    )
    assert len(killed.weights) > 50
    for mine, other in zip(killed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy(), err_msg=mine.path)
    for mine, other in zip(killed.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy(), err_msg=mine.path)
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
