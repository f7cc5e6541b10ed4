"""What is a number and what a whole number, for every argument of the package."""

import math
import re

import numpy as np
import pytest

from kerazoo import arguments

WHOLE = (0, 3, -2, 10**30, np.int64(3), np.uint8(3), np.int32(-1))
BROKEN = (0.5, 1e-300, np.float32(0.25), np.float64(2.5))
AS_WHOLE = (3.0, np.float32(3.0), np.float64(3.0))
NO_NUMBER = (math.nan, math.inf, -math.inf, np.float32("nan"), True, np.True_, "3", "", None, [3], np.array([3]), 3j)


def test_a_float_is_no_whole_number_and_an_integer_of_numpy_is():
    for values, number, whole in ((WHOLE, True, True), ((*BROKEN, *AS_WHOLE), True, False), (NO_NUMBER, False, False)):
        for value in values:
            assert (arguments.is_number(value), arguments.is_whole(value)) == (number, whole), repr(value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_are_accepted(value):
    arguments.check_whole("UNet", "width", value)
    arguments.check_odd("UNet", "width", value)
    assert arguments.check_wholes("UNet", "widths", [value, 1]) == (3, 1)
    assert {type(number) for number in arguments.check_wholes("UNet", "widths", np.array([3, 1]))} == {int}


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (3.0, ", received 3.0: write 3."),
        (np.float32(3.0), r", received np.float32(3.0): write 3."),
        (0, ", received 0."),
        (np.int64(-1), ", received np.int64(-1)."),
        *((value, f", received {value!r}.") for value in (0.0, *BROKEN, *NO_NUMBER)),
    ],
    ids=repr,
)
def test_other_values_are_refused_in_words(value, end):
    message = re.escape(f"UNet's `width` must be a whole number of at least 1{end}") + "$"
    for check in (arguments.check_whole, arguments.check_odd):
        with pytest.raises(ValueError, match=message):
            check("UNet", "width", value)
    with pytest.raises(ValueError, match=message):
        arguments.check_wholes("UNet", "width", [2, value])


@pytest.mark.parametrize("values", [(), "33", None, 3, []], ids=repr)
def test_a_tuple_of_whole_numbers_is_one(values):
    with pytest.raises(ValueError, match="UNet's `widths` must be a tuple of whole numbers, at least one of them"):
        arguments.check_wholes("UNet", "widths", values)


def test_ranges_and_choices():
    arguments.check_whole("MLF", "convolutions", 0, least=0)
    with pytest.raises(ValueError, match="of at least 0, received -1"):
        arguments.check_whole("MLF", "convolutions", -1, least=0)
    with pytest.raises(ValueError, match="must be odd, received 4: an even kernel shifts the map"):
        arguments.check_odd("Smooth", "kernel_size", 4)
    for rate in (0, 0.5, np.float32(0.25)):
        arguments.check_fraction("FCN", "dropout", rate)
    for rate in (1, -0.1, *NO_NUMBER):
        with pytest.raises(ValueError, match="FCN's `dropout` must be at least 0 and less than 1, received"):
            arguments.check_fraction("FCN", "dropout", rate)
    arguments.check_choice("UNet", "skip", None, ("sum", None))
    with pytest.raises(ValueError, match=r"UNet's `skip` must be one of \('sum', None\), received 'add'"):
        arguments.check_choice("UNet", "skip", "add", ("sum", None))


def test_did_you_mean():
    known = ("unet", "unet_plus_plus", "fpn", "linknet")
    assert arguments.did_you_mean("unett", known) == " Did you mean 'unet' or 'linknet'?"
    assert arguments.did_you_mean("pan", iter(known)) == " Did you mean 'fpn'?"
    assert arguments.did_you_mean("lunet", known) == " Did you mean 'unet' or 'linknet'?"
    assert arguments.did_you_mean(7, known) == arguments.did_you_mean("zzz", known) == ""
