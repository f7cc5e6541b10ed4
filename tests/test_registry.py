"""Registries: near matches, refusals, outside parts."""

import pytest

import kerazoo as kz
from kerazoo.registry import Registry

pytestmark = pytest.mark.backends


@pytest.fixture
def colours():
    return Registry("colour", {"red": dict, "green": dict}, refused={"ultraviolet": "nobody sees it"})


def test_names_match_patterns_in_order(colours):
    assert colours.list() == ["green", "red"]
    assert colours.list("r*") == ["red"]


def test_unknown_names_have_near_matches(colours):
    with pytest.raises(ValueError, match=r"Unknown colour 'gren'\. Did you mean 'green' .*They are green, red\."):
        colours["gren"]


def test_refused_names_say_why(colours):
    with pytest.raises(ValueError, match=r"There is no colour 'ultraviolet': nobody sees it\."):
        colours["ultraviolet"]
    for name in ("nasnetmobile", "NASNetMobile"):
        with pytest.raises(ValueError, match=rf"There is no encoder '{name}': its cells read the two cells"):
            kz.encoders.create(name)


def test_outside_parts_can_be_registered_once(colours):
    assert colours.register("blue", dict) is dict
    assert colours.create("blue", depth=3) == {"depth": 3}
    with pytest.raises(ValueError, match=r"colour 'blue' is registered already.*another name"):
        colours.register("blue", list)


def test_a_few_names_are_listed_and_of_many_the_place_is_said():
    with pytest.raises(ValueError, match=r"Unknown loss 'nothing'\. They are balanced_cross_entropy, .*tversky\."):
        kz.losses.create("nothing")
    with pytest.raises(ValueError, match=r"kerazoo\.decoders\.list\(\) names all \d+ of them"):
        kz.decoders.create("nothing")
