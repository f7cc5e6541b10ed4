"""Registries: near matches, refusals, outside parts."""

import pytest

import kerazoo as kz
from kerazoo.registry import Registry

pytestmark = pytest.mark.backends


@pytest.fixture
def colors():
    return Registry("color", {"red": dict, "green": dict}, refused={"ultraviolet": "nobody sees it"})


def test_names_match_patterns_in_order(colors):
    assert colors.list() == ["green", "red"]
    assert colors.list("r*") == ["red"]


def test_unknown_names_have_near_matches(colors):
    with pytest.raises(ValueError, match=r"Unknown color 'gren'\. Did you mean 'green' .*They are green, red\."):
        colors["gren"]


def test_refused_names_say_why(colors):
    with pytest.raises(ValueError, match=r"There is no color 'ultraviolet': nobody sees it\."):
        colors["ultraviolet"]
    for name in ("nasnetmobile", "NASNetMobile"):
        with pytest.raises(ValueError, match=rf"There is no encoder '{name}': its cells read the two cells"):
            kz.encoders.create(name)


def test_outside_parts_can_be_registered_once(colors):
    assert colors.register("blue", dict) is dict
    assert colors.create("blue", depth=3) == {"depth": 3}
    with pytest.raises(ValueError, match=r"color 'blue' is registered already.*another name"):
        colors.register("blue", list)


def test_a_few_names_are_listed_and_of_many_the_place_is_said():
    with pytest.raises(ValueError, match=r"Unknown loss 'nothing'\. They are balanced_cross_entropy, .*tversky\."):
        kz.losses.create("nothing")
    with pytest.raises(ValueError, match=r"kerazoo\.decoders\.list\(\) names all \d+ of them"):
        kz.decoders.create("nothing")
