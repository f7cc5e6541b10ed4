"""PAN, BiFPN and FaPN: effdet's outputs, the papers' equations in NumPy, EfficientDet's scaling, all sizes."""

import dataclasses
import re

import keras
import numpy as np
import pytest
from reference.convolutions import convolution, deformable_convolution
from support.golden_rule import fill, image
from support.pyramids import DILATED, PYRAMID, arrays, assert_compiled_equals_eager, decoder_model, run, strides_of
from support.source_tree import REPOSITORY

import kerazoo as kz
from kerazoo.checkpoints.tensors import assign, places
from kerazoo.decoders import FPN, PAN, BiFPN, FaPN
from kerazoo.encoders.resnet import basic_block
from kerazoo.layers import DeformableConv2D, FastNormalizedFusion, Resize

GOLDEN = REPOSITORY / "tests" / "golden" / "effdet_bifpn_d0.npz"
B0_LEVELS = ((8, 40), (16, 112), (32, 320))
"""Stride and channels of the levels of EfficientNet-B0 that EfficientDet-D0 reads."""

TWO = ((4, 5), (8, 6))
SMALL = {
    "pan": PAN(width=8),
    "bifpn": BiFPN(width=8, repeats=2),
    "fapn": FaPN(width=8, offset_groups=2),
}


def effdet_module(path):
    """effdet's module of a layer of BiFPN on three levels, with two more."""
    if match := re.fullmatch(r"d64_extra_project_(conv|bn)", path):
        return f"resample.3.conv.{match[1]}"
    stride, block, way, rest = re.fullmatch(r"d(\d+)_block(\d)_(topdown|bottomup)_(\w+)", path).groups()
    level = [8, 16, 32, 64, 128].index(int(stride))
    node = f"cell.{int(block) - 1}.fnode.{3 - level if way == 'topdown' else 3 + level}"
    if match := re.fullmatch(r"0_project_(conv|bn)", rest):
        return f"{node}.combine.resample.{level}.conv.{match[1]}"
    return (
        node
        + {
            "1_project_conv": f".combine.resample.{level + 1}.conv.conv",
            "1_project_bn": f".combine.resample.{level + 1}.conv.bn",
            "fuse": ".combine",
            "depthwise": ".after_combine.conv.conv_dw",
            "pointwise": ".after_combine.conv.conv_pw",
            "bn": ".after_combine.conv.bn",
        }[rest]
    )


@pytest.mark.backends
def test_bifpn_equals_effdet():
    model = decoder_model(BiFPN(), B0_LEVELS)
    tensors = {name: fill(name, shape) for name, shape in places(model, effdet_module).items()}
    assign(model, tensors, effdet_module)
    shapes = ((1, 16, 16, 40), (1, 8, 8, 112), (1, 4, 4, 320))
    decoded = run(model, [image(20 + i, shape) - 0.5 for i, shape in enumerate(shapes)])
    with np.load(GOLDEN) as golden:
        for level, output in zip(("p3", "p4", "p5", "p6", "p7"), decoded, strict=True):
            reference = golden[level]
            assert output.shape == reference.shape
            assert np.abs(output - reference).max() < 1e-4 * np.abs(reference).max(), level


def with_random_weights(model):
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.5, weight.shape) for weight in model.weights])
    return {path: keras.ops.convert_to_numpy(w) for w in model.weights for path in [w.path]}


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.backends
def test_pan_takes_the_pyramid_back_down():
    model = decoder_model(PAN(width=4), TWO)
    weights = with_random_weights(model)
    pyramid = decoder_model(FPN(width=4), TWO)
    for weight in pyramid.weights:
        weight.assign(weights[weight.path])
    levels = arrays(TWO, (28, 20))
    (p2, p3), (n2, n3) = run(pyramid, levels), run(model, levels)
    np.testing.assert_array_equal(n2, p2)
    down = relu(convolution(p2[0], weights["d8_down_conv/kernel"], weights["d8_down_conv/bias"], strides=2))
    expected = convolution(p3[0] + down, weights["d8_aggregated_conv/kernel"], weights["d8_aggregated_conv/bias"])
    np.testing.assert_allclose(n3[0], relu(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.backends
def test_fapn_selects_aligns_and_adds():
    model = decoder_model(FaPN(width=4, offset_groups=2), TWO)
    weights = with_random_weights(model)
    fine, coarse = (level[0] for level in arrays(TWO, (20, 28)))
    received_fine, received_coarse = run(model, [fine[None], coarse[None]])

    def conv(x, name):
        return convolution(x, weights[f"{name}/kernel"], weights.get(f"{name}/bias", 0.0))

    top = conv(coarse, "d8_lateral")
    np.testing.assert_allclose(received_coarse[0], top, rtol=1e-4, atol=1e-4)
    gate = sigmoid(conv(fine.mean((0, 1), keepdims=True), "d4_select_gate"))
    selected = conv(fine + fine * gate, "d4_select_project")
    grown = keras.ops.convert_to_numpy(Resize()(top[None].astype("float32"), like=selected[None]))[0]
    difference = conv(np.concatenate([selected, 2 * grown], axis=-1), "d4_align_difference")
    offsets = conv(difference, "d4_align_offsets")
    modulation = sigmoid(conv(difference, "d4_align_modulation"))
    aligned = weights["d4_align_deform/bias"] + deformable_convolution(
        grown, offsets, modulation, weights["d4_align_deform/kernel"], strides=1, dilation=1, groups=1, offset_groups=2
    )
    np.testing.assert_allclose(received_fine[0], conv(relu(aligned) + selected, "d4_out"), rtol=1e-3, atol=1e-3)


def test_fapn_moves_nothing_at_first():
    """Offsets start at 0 and modulation at sigmoid(0): a convolution of half the weights."""
    model = decoder_model(FaPN(width=8), TWO)
    grown = model.get_layer("d4_align_up").output
    deform = model.get_layer("d4_align_deform")
    grown, deformed = run(keras.Model(model.inputs, [grown, deform.output]), arrays(TWO))
    expected = convolution(grown[0], keras.ops.convert_to_numpy(deform.kernel) / 2)
    np.testing.assert_allclose(deformed[0], expected, rtol=1e-4, atol=1e-5)
    assert deform.offset_groups == 8


def test_parameters_of_pan():
    """Levels of 5 and 6 channels: 1x1 laterals, 3x3 outputs, two 3x3 convolutions back; all with biases."""
    expected = (5 + 1) * 8 + (6 + 1) * 8 + 2 * (9 * 8 * 8 + 8) + 2 * (9 * 8 * 8 + 8)
    assert decoder_model(PAN(width=8), TWO).count_params() == expected


def test_parameters_of_fapn():
    select = 5 * 5 + 5 * 8  # gate and projection without biases
    points = 9 * 2
    align = 2 * 8 * 8 + (9 * 8 + 1) * 3 * points + (9 * 8 * 8 + 8)  # difference, offsets and modulation, deformable
    expected = (6 + 1) * 8 + select + align + (9 * 8 * 8 + 8)
    assert decoder_model(FaPN(width=8, offset_groups=2), TWO).count_params() == expected


def bifpn_parameters(width, repeats, channels, *, extra="project", fusion="fast"):
    """Five levels, three of them the encoder's, of other widths than the decoder's."""
    p3, p4, p5 = channels

    def project(n):
        return n * width + 4 * width

    # P4 and P5 are read on the way down and on the way back, P3 and the levels beyond P5 on fewer.
    projections = project(p3) + 2 * project(p4) + 2 * project(p5)
    projections += project(p5) if extra == "project" else 2 * project(p5) + 2 * project(p5)  # P6 and P7, twice each
    nodes = 8 * (9 * width + width * width + 4 * width)
    edges = 4 * 2 + 3 * 3 + 2 if fusion == "fast" else 0
    return projections + repeats * (nodes + edges)


@pytest.mark.parametrize("options", [{}, {"extra": "pool"}, {"fusion": "sum"}], ids=str)
def test_parameters_of_bifpn(options):
    model = decoder_model(BiFPN(width=16, repeats=2, **options), B0_LEVELS)
    assert model.count_params() == bifpn_parameters(16, 2, (40, 112, 320), **options)


def test_scaling_of_efficientdet():
    """Table 1 of the paper; its D7 is D6 on larger images, so that ours takes the encoder of D7x."""
    widths, repeats = (64, 88, 112, 160, 224, 288, 384, 384), (3, 4, 5, 6, 7, 7, 8, 8)
    assert kz.pairs.list("efficientdet*") == [f"efficientdet_d{i}" for i in range(8)]
    for i, (width, repeat) in enumerate(zip(widths, repeats, strict=True)):
        encoder, decoder = kz.pairs.create(f"efficientdet_d{i}")
        assert encoder.arch == f"efficientnetb{i}"  # so that its weights are found
        assert decoder == BiFPN(width=width, repeats=repeat, fusion="fast" if i < 6 else "sum")
    assert kz.pairs.create("efficientdet_d2", finest_stride=4).decoder.finest_stride == 4
    with pytest.raises(ValueError, match="Unknown pair 'efficientdet_d8'. Did you mean"):
        kz.pairs.create("efficientdet_d8")
    with pytest.raises(TypeError, match="pair 'efficientdet_d0': .*'wide'"):
        kz.pairs.create("efficientdet_d0", wide=3)


def test_efficientdet_d0():
    """B0 has 4 049 564 parameters to its 1280 features; 320 * 1280 + 4 * 1280 of them widen the last 320."""
    model = kz.segmenter(*kz.pairs.create("efficientdet_d0"), "mlf", num_classes=1)
    decoder = model.get_layer("decoder")
    assert [x.shape[-1] for x in decoder.inputs] == [16, 24, 40, 112, 320]
    assert [x.shape[-1] for x in decoder.outputs] == [64] * 5
    assert model.get_layer("encoder").count_params() == 4_049_564 - 320 * 1280 - 4 * 1280
    assert decoder.count_params() == bifpn_parameters(64, 3, (40, 112, 320))
    assert model.predict_on_batch(np.zeros((1, 70, 45, 3), "uint8")).shape == (1, 70, 45, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", kz.pairs.list("efficientdet*")[1:])
def test_every_efficientdet_builds(name):
    encoder, decoder = kz.pairs.create(name)
    model = kz.segmenter(encoder, decoder, "mlf", num_classes=3)
    part = model.get_layer("decoder")
    channels = [x.shape[-1] for x in part.inputs[2:]]
    assert part.count_params() == bifpn_parameters(decoder.width, decoder.repeats, channels, fusion=decoder.fusion)


def test_taps_name_layers_of_the_encoder():
    encoder = dataclasses.replace(kz.encoders.ENCODERS["mobilenetv2"], taps="stem_.*")
    with pytest.raises(ValueError, match=r"No layer of MobileNetV2 that could be a level matches taps='stem_\.\*'"):
        encoder(keras.Input((32, 32, 3)))


@pytest.mark.parametrize("part", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("pyramid", [PYRAMID, DILATED], ids=["strided", "dilated"])
def test_odd_sizes(part, pyramid):
    """Levels beyond the encoder's have ceil(H / stride) rows too, whatever the padding of the encoder."""
    model = decoder_model(part, pyramid)
    for size in ((45, 67), (1, 1)):
        for stride, level in zip(strides_of(part, pyramid), run(model, arrays(pyramid, size)), strict=True):
            assert level.shape[1:3] == tuple(-(-n // stride) for n in size)
            assert np.isfinite(level).all()


@pytest.mark.parametrize("jit", [False, True], ids=["unknown", "xla"])
@pytest.mark.parametrize("part", [SMALL["bifpn"], SMALL["fapn"]], ids=["bifpn", "fapn"])
def test_unknown_sizes_and_xla(part, jit):
    assert_compiled_equals_eager(part, jit=jit)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "fapn")) for name in SMALL])
def test_export(name, tmp_path):
    """A SavedModel of any size, which `saved_model` compares with the model."""
    encoder = kz.encoders.ResNet(
        block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8
    )
    model = kz.segmenter(encoder, SMALL[name], kz.heads.MLF(width=8), num_classes=2)
    kz.export.saved_model(model, tmp_path / "model", verbose=False)


def test_levels():
    assert strides_of(PAN(), PYRAMID) == [4, 8, 16, 32]
    assert strides_of(FaPN(), PYRAMID) == [4, 8, 16, 32]
    assert strides_of(BiFPN(), PYRAMID) == [8, 16, 32, 64, 128]
    assert strides_of(BiFPN(finest_stride=4, extra_levels=0), PYRAMID) == [4, 8, 16, 32]
    assert strides_of(BiFPN(finest_stride=4), ((7, 16),)) == [7, 14, 28]


def test_layers_of_the_papers():
    fusions = [x for x in decoder_model(BiFPN(), PYRAMID).layers if isinstance(x, FastNormalizedFusion)]
    assert len(fusions) == 3 * 8  # five levels: no node where there is one input only
    deformable = [x for x in decoder_model(FaPN(), PYRAMID).layers if isinstance(x, DeformableConv2D)]
    assert len(deformable) == 3  # the coarsest level has nothing to be aligned to


@pytest.mark.parametrize(
    ("part", "pyramid", "message"),
    [
        (PAN(), ((4, 8),), r"PAN exchanges features between levels and needs at least two, received strides \[4\]"),
        (BiFPN(extra_levels=0), ((8, 8),), r"BiFPN exchanges .* received strides \[8\]"),
        (
            PAN(),
            ((2, 8),),
            r"PAN with finest_stride=4 leaves none of the strides \[2\]\. Lower `finest_stride`, or give",
        ),
        (PAN(), ((4, 8), (6, 8)), "PAN goes from stride 4 to stride 6 by a whole factor, and there is none"),
        (BiFPN(finest_stride=64), PYRAMID, "BiFPN with finest_stride=64 leaves none of the strides"),
    ],
)
def test_pyramids_that_make_no_sense_are_refused(part, pyramid, message):
    with pytest.raises(ValueError, match=message):
        strides_of(part, pyramid)


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (PAN, {"width": 0}, "`width` must be a whole number of at least 1, received 0"),
        (BiFPN, {"fusion": "softmax"}, r"BiFPN's `fusion` must be one of \('fast', 'sum'\), received 'softmax'"),
        (PAN, {"width": 0}, "PAN's `width` must be a whole number of at least 1, received 0"),
        (BiFPN, {"extra": "conv"}, r"BiFPN's `extra` must be one of"),
        (BiFPN, {"extra_levels": -1}, "`extra_levels` must be a whole number of at least 0, received -1"),
        (FaPN, {"width": 100}, "FaPN's `width` must be a multiple of `offset_groups`, received 100 and 8"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(part, options, message):
    with pytest.raises(ValueError, match=message):
        part(**options)
