"""Beginning from an earlier training: what is taken, what is adapted, what is new, and what does not fit."""

import keras
import numpy as np
import pytest
from support.tiny import tiny

from kerazoo.encoders.stem import adapt_stem
from kerazoo.training import build
from kerazoo.training.recipe import Start
from kerazoo.training.start import begin, take_weights

SOFT = (
    "training.epochs=1",
    "training.jit_compile=false",
    "training.doctor=false",
    "evaluation={bootstrap: 0, gallery: 0}",
)


def make(*assignments, num_classes=1, channels=1, seed=0):
    keras.utils.set_random_seed(seed)
    return build.build_model(tiny(*assignments), num_classes=num_classes, channels=channels)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A model of one class and three channels, as a file."""
    model = make(channels=3, seed=1)
    for variable in model.weights:
        variable.assign(np.random.default_rng(len(variable.path)).normal(size=variable.shape))
    path = tmp_path_factory.mktemp("earlier") / "earlier.keras"
    model.save(path)
    return model, path


def same(first, second, part):
    pairs = zip(first.get_layer(part).weights, second.get_layer(part).weights, strict=True)
    return [mine.path for mine, other in pairs if mine.shape != other.shape or (mine.numpy() != other.numpy()).any()]


def test_a_file_gives_everything_to_the_same_model(earlier):
    model, path = earlier
    taken = make(channels=3)
    table = begin(taken, Start(path=str(path)))
    for part in ("encoder", "decoder", "head"):
        assert not same(taken, model, part)
    parts = ("encoder", "decoder", "head")
    assert [(row.part, row.adapted, row.new) for row in table.rows] == [(part, 0, 0) for part in parts]
    assert sum(row.taken for row in table.rows) == model.count_params()
    assert table.new_layers == table.left_out == ()
    assert str(table).startswith(f"begins from {path}\nencoder")


def test_other_channels_and_classes_adapt_the_stem_and_renew_what_depends_on_classes(earlier):
    model, path = earlier
    taken, fresh = make(num_classes=4, channels=1), make(num_classes=4, channels=1)
    table = begin(taken, Start(path=str(path)))
    (stem,) = same(taken, model, "encoder")
    kernel, own = model.get_layer("encoder").weights[0].numpy(), taken.get_layer("encoder").weights[0]
    assert own.path == stem
    np.testing.assert_array_equal(own.numpy(), adapt_stem(kernel, 1))
    assert not same(taken, model, "decoder")
    new = same(taken, model, "head")
    assert {path.rpartition("/")[0] for path in new} == set(table.new_layers)
    assert table.new_layers
    for mine, other in zip(taken.get_layer("head").weights, fresh.get_layer("head").weights, strict=True):
        assert (mine.numpy() == other.numpy()).all() == (mine.path in new), mine.path
    encoder, _, head = table.rows
    assert (encoder.adapted, encoder.new) == (own.numpy().size, 0)
    assert head.new == sum(np.prod(w.shape) for w in taken.get_layer("head").weights if w.path in new)
    assert "new layers: " in str(table)


def test_a_part_can_stay_new(earlier):
    model, path = earlier
    taken = make("model.decoder.widths=[4, 4, 4]", channels=3)
    with pytest.raises(ValueError, match=r"The decoder of .* is another one: .*model\.start\.new=\[decoder\]"):
        begin(taken, Start(path=str(path), new=("head",)))
    assert same(taken, model, "encoder"), "nothing was changed"
    table = begin(taken, Start(path=str(path), new=("decoder", "head")))
    assert not same(taken, model, "encoder")
    assert [row.taken > 0 for row in table.rows] == [True, False, False]
    assert table.left_out == ("decoder", "head")


def test_auxiliary_maps_come_and_go(earlier):
    model, path = earlier
    with_aux = make("model.aux=true", channels=3)
    table = begin(with_aux, Start(path=str(path)))
    assert not same(with_aux, model, "decoder")
    assert {row.part: row.taken > 0 for row in table.rows}["aux_head"] is False
    back = make(channels=3)
    assert take_weights(back, with_aux).left_out == ("aux_head",)


def test_what_is_no_start_is_named(earlier, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.start='nowhere': there is no such run directory"):
        begin(earlier[0], Start(path="nowhere"))
    with pytest.raises(FileNotFoundError, match=r"is not a run directory: it has no recipe\.yaml"):
        begin(earlier[0], Start(path=str(tmp_path)))
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="has none of the parts that are to be taken"):
        take_weights(earlier[0], other)
