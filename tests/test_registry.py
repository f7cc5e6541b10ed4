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
    with pytest.raises(ValueError, match=r"Unknown colour 'gren'\. Did you mean 'green' .*kerazoo\.colours\.list\(\)"):
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


def test_plurals_are_those_of_the_packages():
    with pytest.raises(ValueError, match=r"kerazoo\.losses\.list\(\)"):
        kz.losses.create("dise")
