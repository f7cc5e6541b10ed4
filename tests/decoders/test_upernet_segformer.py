"""FPN, SemanticFPN, UPerNet and SegFormer, and the layer that fuses maps of several sizes."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase
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

from kerazoo.decoders import FPN, SegFormer, SemanticFPN, UPerNet
from kerazoo.layers import ResizedConcatConv
from kerazoo.layers.resize import Resize

SMALL = ((4, 3), (8, 5), (16, 7))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [
        ("fpn", {"width": 32, "interpolation": "nearest", "dropout": 0.2}),
        ("fpn_concat", {"width": 64, "fuse": "concat"}),
    ],
)
def test_semantic_fpn_equals_smp(golden, arguments):
    part = SemanticFPN(pyramid_width=12, smooth=False, align_corners=True, **arguments)
    assert_equals_smp(golden, "FPN", part)


@pytest.mark.parametrize(
    ("golden", "arguments", "pyramid"), [("upernet", {}, PYRAMID), ("upernet_no_norm", {"norm": None}, PYRAMID[:3])]
)
def test_upernet_equals_smp(golden, arguments, pyramid):
    assert_equals_smp(golden, "UPerNet", UPerNet(width=10, layer_norm=True, **arguments), pyramid)


def test_segformer_equals_smp():
    assert_equals_smp("segformer", "Segformer", SegFormer(width=10, finest_stride=2))


def test_parameters_of_semantic_fpn():
    part = SemanticFPN(pyramid_width=4, width=32)
    lateral = (3 + 5 + 7) * 4 + 3 * 4
    smooth = 3 * (9 * 4 * 4 + 4)
    # one convolution with group norm at strides 4 and 8, two at stride 16
    assemble = 3 * (9 * 4 * 32 + 64) + (9 * 32 * 32 + 64)
    assert decoder_model(part, SMALL).count_params() == lateral + smooth + assemble
    plain = SemanticFPN(pyramid_width=4, width=32, smooth=False)
    assert decoder_model(plain, SMALL).count_params() == lateral + assemble


def test_parameters_of_upernet():
    pool = 2 * (7 * 4 + 16) + 9 * (7 + 2 * 4) * 4 + 16
    finer = (3 + 5) * 4 + 2 * 16 + 2 * (9 * 4 * 4 + 16)
    fuse = 9 * (3 * 4) * 4 + 16
    assert decoder_model(UPerNet(width=4, pools=(1, 2)), SMALL).count_params() == pool + finer + fuse
    normalized = UPerNet(width=4, pools=(1, 2), layer_norm=True)
    assert decoder_model(normalized, SMALL).count_params() == pool + finer + fuse + 2 * (3 + 5 + 7)


def test_parameters_of_segformer():
    projections = (3 + 5 + 7) * 6 + 3 * 6
    fuse = 3 * 6 * 6 + 4 * 6
    assert decoder_model(SegFormer(width=6), SMALL).count_params() == projections + fuse


@pytest.mark.parametrize(
    ("part", "pyramid", "strides"),
    [
        (FPN(), DILATED, [4, 8, 16, 16]),
        (SemanticFPN(), PYRAMID, [4]),
        (SemanticFPN(finest_stride=1), PYRAMID, [2]),
        (SemanticFPN(), ((4, 3), (8, 4), (8, 5), (8, 6)), [4]),
        (SemanticFPN(), ((8, 3), (8, 4)), [8]),
        (SemanticFPN(), ((7, 5),), [7]),
        (UPerNet(), DILATED, [4]),
        (UPerNet(), ((7, 5),), [7]),
        (SegFormer(), PYRAMID, [4]),
        (SegFormer(finest_stride=2), PYRAMID, [4]),
        (SegFormer(finest_stride=2, stride=2), PYRAMID, [2]),
        (SegFormer(stride=8), DILATED, [8]),
        (SegFormer(), ((7, 5),), [7]),
    ],
)
def test_strides_of_the_decoded_levels(part, pyramid, strides):
    assert strides_of(part, pyramid) == strides


def test_repeated_strides_are_convolved_once_per_resolution():
    """Three levels at stride 8 take one step each to stride 4, not three, two and one."""
    model = decoder_model(SemanticFPN(), ((4, 3), (8, 4), (8, 5), (8, 6)))
    assembled = sorted(layer.name for layer in model.layers if layer.name.endswith("_conv"))
    assert assembled == ["d4_assemble1_conv", "d8_1_assemble1_conv", "d8_2_assemble1_conv", "d8_assemble1_conv"]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_fpn_is_the_semantic_one_without_assembly(interpolation):
    """The pyramid is one and the same: with equal weights the finest level's convolution sees equal maps."""
    fpn = decoder_model(FPN(width=12, interpolation=interpolation), PYRAMID)
    semantic = decoder_model(SemanticFPN(pyramid_width=12, width=32, interpolation=interpolation), PYRAMID)
    for layer in fpn.layers:
        if layer.weights:
            semantic.get_layer(layer.name).set_weights(layer.get_weights())
    inner = keras.Model(semantic.inputs, semantic.get_layer("d4_out").output)
    np.testing.assert_allclose(run(inner, arrays())[0], run(fpn, arrays())[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "part",
    [SemanticFPN(width=32, align_corners=True), UPerNet(width=8, layer_norm=True), SegFormer(width=8, finest_stride=2)],
    ids=lambda part: type(part).__name__,
)
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_time_sizes_and_xla(part, jit):
    assert_compiled_equals_eager(part, PYRAMID[:4], jit=jit)


@pytest.mark.parametrize("part", [SemanticFPN(width=64, dropout=0.5), SegFormer(width=64, dropout=0.5)])
def test_dropout_leaves_out_whole_channels_in_training_only(part):
    model = decoder_model(part, PYRAMID[1:3])
    inputs = arrays(PYRAMID[1:3])
    trained = keras.ops.convert_to_numpy(model(inputs, training=True))
    left_out = (trained == 0).all((0, 1, 2)).mean()
    assert 0.2 < left_out < 0.8
    assert (run(model, inputs)[0] == 0).all((0, 1, 2)).mean() < 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemanticFPN(width=48), "SemanticFPN's `width` must be a multiple of 32, .*received 48"),
        (lambda: SemanticFPN(fuse="add"), r"SemanticFPN's `fuse` must be one of \('sum', 'concat'\), received 'add'"),
        (lambda: SemanticFPN(dropout=1.0), "SemanticFPN's `dropout` must be at least 0 and less than 1, received 1.0"),
        (lambda: strides_of(SemanticFPN(), PYRAMID[:1]), r"SemanticFPN with finest_stride=4 leaves none .*\[2\]"),
        (lambda: UPerNet(pools=()), r"UPerNet's `pools` must be a tuple of whole numbers, .* received \(\)"),
        (lambda: UPerNet(pools=(1, 0)), "UPerNet's `pools` must be a whole number of at least 1, received 0"),
        (lambda: UPerNet(norm="layer"), "UPerNet's `norm` must be one of .*received 'layer'"),
        (lambda: strides_of(UPerNet(), PYRAMID[:1]), r"UPerNet with finest_stride=4 leaves none .*\[2\]"),
        (lambda: SegFormer(dropout="no"), "SegFormer's `dropout` must be at least 0 and less than 1, received 'no'"),
        (lambda: strides_of(SegFormer(stride=64), PYRAMID), r"SegFormer's `stride` .*\[4, 8, 16, 32\], .*stride=64"),
        (lambda: ResizedConcatConv(0), "`filters` must be at least 1, received 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.backends
@pytest.mark.parametrize("align_corners", [False, True])
def test_fusing_equals_concatenating_first(align_corners):
    maps = [numbers(2, 3, 4, 5), numbers(2, 6, 7, 2, seed=1), numbers(2, 11, 13, 3, seed=2)]
    layer = ResizedConcatConv(4, align_corners=align_corners)
    fused = keras.ops.convert_to_numpy(layer(maps))
    resize = Resize(size=(11, 13), align_corners=align_corners)
    concatenated = np.concatenate([keras.ops.convert_to_numpy(resize(x)) for x in maps], axis=-1)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    assert kernel.shape == (1, 1, 10, 4)
    np.testing.assert_allclose(fused, concatenated @ kernel[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.backends
class TestKerasHarness(TestCase):
    """Keras's own checks of a layer: configuration, symbolic and eager calls, a training step, mixed precision."""

    def test_resized_concat_conv(self):
        self.run_layer_test(
            ResizedConcatConv,
            {"filters": 4, "align_corners": True},
            input_shape=((2, 2, 3, 5), (2, 4, 6, 3)),
            expected_output_shape=(2, 4, 6, 4),
            expected_num_trainable_weights=1,
            expected_num_non_trainable_weights=0,
            supports_masking=False,
        )
