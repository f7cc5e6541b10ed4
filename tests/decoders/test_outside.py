"""Who adds a decoder: a file of their own, one row in the table, and the contract that says what is wrong with it."""

import copy
import importlib.util
import pickle
import sys

import keras
import numpy as np
import pytest
from support.source_tree import PACKAGE, REPOSITORY
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo import testing
from kerazoo.encoders.resnet import basic_block
from kerazoo.types import Decoder, Level, complete

TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)


def imported(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def registry(monkeypatch):
    """The table of decoders, with whatever is added to it taken out again."""
    monkeypatch.setattr(kz.decoders.DECODERS, "_table", dict(kz.decoders.DECODERS))
    return kz.decoders.DECODERS


@pytest.fixture
def throw_away(tmp_path, registry):
    """A copy of decoders/fpn.py whose body is another: the maximum instead of the sum, and narrow."""
    source = (PACKAGE / "decoders" / "fpn.py").read_text()
    for old, new in {
        "Feature pyramid network: a": "Greatest-value pyramid: a",
        "FPN": "MaxPyramid",
        "layers.Add": "layers.Maximum",
        "width: int = 256": "width: int = 8",
    }.items():
        assert old in source
        source = source.replace(old, new)
    path = tmp_path / "max_pyramid.py"
    path.write_text(source)
    part = imported(path).MaxPyramid
    yield registry.register("max_pyramid", part)
    del sys.modules["max_pyramid"]


@on_one_backend
def test_a_decoder_from_outside_passes_the_contract_and_is_used_by_name(throw_away, tmp_path):
    cases = [case for case in testing.contract_cases("decoder") if case.name == "max_pyramid"]
    assert len(cases) == len(testing.CHECKS["decoder"][1]) >= 5
    for case in cases:
        case.check(case.part)

    image = np.zeros((1, 45, 67, 3), "uint8")
    for decoder in ("max_pyramid", throw_away(width=4, finest_stride=2)):
        model = kz.segmenter(TINY, decoder, "linear", num_classes=1)
        assert "d4_merge" in [layer.name for layer in model.get_layer("decoder").layers]
        assert model.predict_on_batch(image).shape == (1, 45, 67, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(image), model.predict_on_batch(image), atol=1e-6)


def test_the_tables_of_the_documentation_pick_it_up(throw_away):
    """And the test of these tables names the line that is missing until `make docs-tables`."""
    tables = imported(REPOSITORY / "docs" / "tables.py")
    row = "| `max_pyramid` | Greatest-value pyramid: a top-down path that adds coarse features to fine ones |"
    assert row in tables.render("<!-- table: decoders -->\n<!-- end of table -->\n")


def test_names_are_taken_once_and_misspelt_ones_are_suggested(throw_away):
    with pytest.raises(ValueError, match="decoder 'unet' is registered already, .* Choose another name"):
        kz.decoders.DECODERS.register("unet", throw_away)
    with pytest.raises(ValueError, match="Unknown decoder 'max_pyramids'. Did you mean 'max_pyramid'"):
        kz.segmenter(TINY, "max_pyramids", "linear", num_classes=1)


class Halves(keras.layers.Layer):
    """A layer that its author forgot to register."""

    def call(self, inputs):
        return inputs / 2


@keras.saving.register_keras_serializable("outside")
class Scale(keras.layers.Layer):
    """A layer whose configuration lacks its argument."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {"name": self.name}


@keras.saving.register_keras_serializable("outside")
class Shift(keras.layers.Layer):
    """A layer that cannot be built from its configuration."""

    def __init__(self, offset, **kwargs):
        super().__init__(**kwargs)
        self.offset = offset

    def call(self, inputs):
        return inputs + self.offset

    def get_config(self):
        return {"name": self.name}


def broken(change, *, name="d_broken"):
    """A decoder that convolves each level and then does `change(level, name)`."""

    class Broken:
        def __call__(self, features):
            decoded = []
            for i, (stride, x) in enumerate(features):
                x = keras.layers.Conv2D(4, 1, name=f"d{i}_conv")(x)
                decoded.append(change(Level(stride, x), f"{name}{i}"))
            return tuple(decoded)

    return Broken


def applied(layer, **arguments):
    return lambda level, name: Level(level.stride, layer(name=name, **arguments)(level.tensor))


class Backwards:
    def __call__(self, features):
        return tuple(reversed(broken(lambda level, _: level)()(features)))


class Idle:
    """Convolves, and multiplies the result by zero."""

    def __call__(self, features):
        decoded = []
        for i, (stride, x) in enumerate(features):
            convolved = keras.layers.Conv2D(x.shape[-1], 1, use_bias=False, name=f"d{i}_conv")(x)
            nothing = keras.layers.Rescaling(0.0, name=f"d{i}_zero")(convolved)
            decoded.append(Level(stride, keras.layers.Add(name=f"d{i}_add")([x, nothing])))
        return tuple(decoded)


FAULTS = {
    "a map of another size": (
        testing.check_decoder_levels,
        broken(applied(keras.layers.MaxPooling2D, padding="same")),
        r"stride 2 of \(64, 32\): \(16, 8\), expected \(32, 16\)",
    ),
    "a stride that is not the map's": (
        testing.check_decoder_levels,
        broken(lambda level, _: Level(2 * level.stride, level.tensor)),
        r"stride 4 of \(64, 32\): \(32, 16\), expected \(16, 8\)",
    ),
    "coarse to fine": (
        testing.check_decoder_levels,
        Backwards,
        r"decoded strides are not fine to coarse: \(32, 16, 8, 4, 2\)",
    ),
    "a name that heads may have": (
        testing.check_decoder_names,
        broken(applied(keras.layers.ReLU), name="relu"),
        r"names do not start with 'd': \['relu0', 'relu1'",
    ),
    "a weight that does nothing": (testing.check_decoder_names, Idle, "d0_conv/kernel has no gradient"),
    "a layer with a precision of its own": (
        testing.check_decoder_precision,
        broken(applied(keras.layers.ReLU, dtype="float32")),
        "mixed_bfloat16: an output is float32",
    ),
    "values beyond float16": (
        testing.check_decoder_precision,
        broken(applied(keras.layers.Rescaling, scale=1e6)),
        "mixed_float16: not finite",
    ),
    "a layer that is not registered": (
        testing.check_decoder_reload,
        broken(applied(Halves)),
        r"\['Halves'\] .*register_keras_serializable",
    ),
    "a configuration that is not whole": (
        testing.check_decoder_reload,
        broken(applied(Scale, factor=3.0)),
        r"other outputs than the model that was saved.*get_config\(\)",
    ),
    "a layer that cannot be built again": (
        testing.check_decoder_reload,
        broken(applied(Shift, offset=1.0)),
        r"cannot be read back.*Shift",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_decoder_is_told_what_is_wrong(fault):
    check, decoder, message = FAULTS[fault]
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check(decoder)


def test_a_refusal_without_a_reason_is_noticed():
    class Curt:
        def __call__(self, features):
            if len(features) < 5:
                raise ValueError("no")
            return features[:1]

    with pytest.raises(AssertionError, match="the error does not say why: no"):
        testing.check_decoder_subsets(Curt)


class Plain:
    """A decoder that derives from nothing."""

    def __call__(self, features):
        return features


def test_a_part_with_its_defaults_is_copied_and_pickled():
    part = complete(Plain(), Decoder)
    for copied in (copy.copy(part), copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert (copied.margin, copied([1])) == (0, [1])
