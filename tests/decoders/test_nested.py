"""UNet's options, and UNetPlusPlus."""

import numpy as np
import pytest
from support.pyramids import (
    DILATED,
    PYRAMID,
    arrays,
    assert_compiled_equals_eager,
    assert_equals_smp,
    decoder_model,
    run,
    strides_of,
)

from kerazoo.decoders import UNet, UNetPlusPlus
from kerazoo.layers.blocks import ATTENTIONS, NORMS

WIDTHS = (24, 20, 16, 16, 16)
THREE = ((2, 3), (4, 5), (8, 7))


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [
        ("unet_scse", {"attention": "scse"}),
        ("unet_instance", {"upsampling": "nearest", "norm": "instance"}),
        ("unet_no_norm", {"upsampling": "nearest", "norm": None}),
    ],
)
def test_unet_equals_smp(golden, arguments):
    assert_equals_smp(golden, "Unet", UNet(widths=WIDTHS, skip="concat", **arguments))


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [("unet_plus_plus", {"upsampling": "nearest"}), ("unet_plus_plus_scse", {"attention": "scse"})],
)
def test_unet_plus_plus_equals_smp(golden, arguments):
    assert_equals_smp(golden, "UnetPlusPlus", UNetPlusPlus(widths=WIDTHS, **arguments))


def test_parameters_of_unet_plus_plus():
    def node(channels, width):
        return 9 * channels * width + 4 * width + 9 * width * width + 4 * width

    x_0_0 = node(7 + 5, 6)  # the coarsest level and the skip at stride 4
    x_1_1 = node(5 + 3, 3)  # that skip and the one at stride 2; inside nodes have their skip's width
    x_0_1 = node(6 + 3 + 3, 5)  # x_0_0, x_1_1 and the skip
    x_0_2 = node(5, 4)  # beyond the finest skip
    model = decoder_model(UNetPlusPlus(widths=(6, 5, 4)), THREE)
    assert model.count_params() == x_0_0 + x_1_1 + x_0_1 + x_0_2


def test_every_node_reads_its_whole_row():
    """The paper's figure: node (d, l) reads the nodes d + 1 to l of its row, the skip, and the node below."""
    model = decoder_model(UNetPlusPlus(), PYRAMID)
    for row, stride in enumerate((16, 8, 4, 2)):
        for path in range(row + 1):
            merge = model.get_layer(f"d{stride}_x_{path}_{row}_merge")
            below, *beside = [tensor._keras_history.operation.name for tensor in merge.input]
            assert below == f"d{stride}_x_{path}_{row}_up"
            expected = [f"d{stride}_x_{other}_{row}_fuse2_relu" for other in range(path + 1, row + 1)]
            assert beside == [*expected, f"in{3 - row}"]


def test_transposed_convolutions_grow_to_the_width_of_the_node():
    model = decoder_model(UNetPlusPlus(widths=(6, 5, 4), upsampling="transpose"), THREE)
    assert model.get_layer("d4_x_0_0_up").filters == 6
    assert model.get_layer("d2_x_1_1_up").filters == 3
    levels = run(model, arrays(THREE, (32, 48)))
    assert [level.shape for level in levels] == [(1, 32, 48, 4), (1, 16, 24, 5), (1, 8, 12, 6)]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_unet_with_every_attention(attention):
    """Where the names say: before and after the convolutions of a merge, and after those of the last step."""
    model = decoder_model(UNet(widths=(16, 16, 16), skip="concat", attention=attention), THREE)
    names = [layer.name for layer in model.layers if "attend" in layer.name]
    assert names == ["d4_attend1", "d4_attend2", "d2_attend1", "d2_attend2", "d1_attend2"]
    assert all(np.isfinite(level).all() for level in run(model, arrays(THREE, (16, 24))))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("part", [UNet, UNetPlusPlus])
def test_norms(part, norm):
    """Only batch norm has moving statistics, and only without a norm is there a bias."""
    three = ((2, 32), (4, 32), (8, 32))  # multiples of the groups
    model = decoder_model(part(widths=(32, 32), norm=norm), three)
    found = {type(layer).__name__ for layer in model.layers if "fuse" in layer.name}
    kinds = {"batch": "BatchNormalization", "group": "GroupNormalization", "instance": "GroupNormalization"}
    assert found - {"Conv2D", "ReLU"} == ({kinds[norm]} if norm else set())
    convolutions = [layer for layer in model.layers if layer.name.endswith(("fuse1_conv", "fuse2_conv"))]
    assert convolutions
    assert all(layer.use_bias == (norm is None) for layer in convolutions)


@pytest.mark.parametrize(
    ("pyramid", "strides"),
    [
        (PYRAMID, [1, 2, 4, 8, 16]),
        (DILATED, [1, 2, 4, 8, 16]),
        (((2, 3), (4, 4), (8, 5), (8, 6), (8, 7)), [1, 2, 4, 8, 8]),
        (PYRAMID[1:], [4, 8, 16]),
        (((4, 3), (16, 4), (32, 5)), [4, 16]),
        (((1, 3), (2, 4)), [1]),
    ],
)
@pytest.mark.parametrize("part", [UNet(), UNetPlusPlus()], ids=["unet", "unet_plus_plus"])
def test_strides_of_the_decoded_levels(part, pyramid, strides):
    assert strides_of(part, pyramid) == strides


@pytest.mark.parametrize(
    "part", [UNetPlusPlus(widths=(8, 8, 8)), UNet(widths=(8, 8, 8), skip="concat", norm="instance", attention="scse")]
)
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_time_sizes_and_xla(part, jit):
    assert_compiled_equals_eager(part, THREE, jit=jit)


@pytest.mark.parametrize("part", [UNet, UNetPlusPlus])
@pytest.mark.parametrize(
    ("arguments", "pyramid", "message"),
    [
        ({"norm": "layer"}, PYRAMID, "`norm` must be one of .*'instance', None.*received 'layer'"),
        ({"attention": "self"}, PYRAMID, "`attention` must be one of .*'scse'.*received 'self'"),
        ({"upsampling": "cubic"}, PYRAMID, "`upsampling` must be one of .*'transpose'.*received 'cubic'"),
        ({"widths": (8, 8.5)}, PYRAMID, "`widths` must be a whole number of at least 1, received 8.5"),
        ({}, ((7, 5),), r"needs at least two levels, received strides \[7\]"),
        ({"widths": (8, 8)}, PYRAMID, r"strides \[2, 4, 8, 16, 32\] have 4 skips, received widths=\(8, 8\)"),
        ({"widths": (8, 8)}, ((1, 3), (2, 4)), "finest level is at full resolution already: give 1 widths, not 2"),
    ],
)
def test_what_makes_no_sense_is_refused(part, arguments, pyramid, message):
    with pytest.raises(ValueError, match=message) as refusal:
        strides_of(part(**arguments), pyramid)
    assert part.__name__ in str(refusal.value)


def test_widths_given_as_a_list_are_kept_as_a_tuple():
    assert hash(UNetPlusPlus(widths=[8, 4])) == hash(UNetPlusPlus(widths=(8, 4)))  # as a recipe reads them from YAML
