"""The DeepLabs: against smp and torchvision, their papers' arithmetic, run-time sizes, and what they refuse."""

import keras
import numpy as np
import pytest
from support.decoder_alone import error_to_golden, parameters, pyramid, wired
from support.pyramids import assert_compiled_equals_eager, run

import kerazoo as kz
from kerazoo.convert.smp_decoders import DECODERS as SMP
from kerazoo.convert.smp_decoders import aspp_module
from kerazoo.decoders._context import aspp_rates
from kerazoo.encoders.resnet import basic_block

TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)
SMP_V3_PLUS = {
    "separable": True,
    "context_convolutions": 1,
    "convolutions": 1,
    "dropout": 0.5,
    "align_corners": True,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [("", {"rates": (1, 2, 4)}), ("_separable", {"rates": (2, 3, 9), "separable": True})],
)
def test_deeplab_v3_equals_smp(name, options):
    decoder = kz.decoders.DeepLabV3(width=6, convolutions=1, **options)
    assert error_to_golden(decoder, f"deeplab_v3{name}", lambda path: SMP["DeepLabV3"](path, 4)) < 1e-5


@pytest.mark.parametrize(
    ("name", "separable_aspp"), [pytest.param("", True, marks=pytest.mark.backends), ("_dense", False)]
)
def test_deeplab_v3_plus_equals_smp(name, separable_aspp):
    decoder = kz.decoders.DeepLabV3Plus(width=6, rates=(1, 2, 4), separable_aspp=separable_aspp, **SMP_V3_PLUS)
    assert error_to_golden(decoder, f"deeplab_v3_plus{name}", lambda path: SMP["DeepLabV3Plus"](path, 4)) < 1e-5


def test_deeplab_v3_equals_torchvision():
    """Four rates, 256 channels, and the linear head as the last module of torchvision's DeepLabHead."""
    part, head = kz.decoders.DeepLabV3(rates=(1, 2, 3, 5), convolutions=1), kz.heads.Linear()

    def decoder(features):
        return (head(part(features), num_classes=3),)

    def state_dict_name(path):
        if path.startswith("d_aspp/"):
            return f"0.{aspp_module(path.removeprefix('d_aspp/'))}"
        return {"d_conv1_conv": "1", "d_conv1_bn": "2", "h_logits": "4"}[path]

    assert error_to_golden(decoder, "torchvision", state_dict_name) < 1e-5


def impulse_response(decoder, size, *, channels=2):
    """Rows and columns, relative to the middle, that a pixel there reaches; all weights are 1."""
    model, _ = wired(decoder, (8,), (channels,))
    for weight in model.weights:
        weight.assign(np.ones(weight.shape) if weight.path.endswith("kernel") else np.zeros(weight.shape))
    x = np.zeros((1, *size, channels), "float32")
    x[:, size[0] // 2, size[1] // 2] = 1
    (y,) = run(model, [x])
    _, rows, columns, _ = np.nonzero(y)
    return {int(row) - size[0] // 2 for row in rows}, {int(column) - size[1] // 2 for column in columns}


def test_large_fov_steps_over_eleven_pixels():
    reached = {-12, 0, 12}
    assert impulse_response(kz.decoders.DeepLabV1(width=3), (27, 31)) == (reached, reached)
    assert impulse_response(kz.decoders.DeepLabV1(width=3, kernel_size=7, rate=4), (27, 31))[0] == {
        -12, -8, -4, 0, 4, 8, 12
    }  # fmt: skip


@pytest.mark.parametrize("branches", ["convolution", "fully_connected"])
def test_branches_of_v2_look_at_every_rate(branches):
    reached = {sign * rate for rate in (0, 6, 12, 18, 24) for sign in (-1, 1)}
    assert impulse_response(kz.decoders.DeepLabV2(width=3, branches=branches), (51, 49)) == (reached, reached)


@pytest.mark.parametrize("branches", ["convolution", "fully_connected"])
def test_v2_with_the_linear_head_sums_the_scores_of_its_branches(branches):
    """The paper's branches end in the classes; here each branch of the decoder is scored by its share of the head."""
    rates = (1, 2)
    part = kz.decoders.DeepLabV2(width=6, rates=rates, branches=branches)
    head = kz.heads.Linear()
    model, _ = wired(lambda features: (head(part(features), num_classes=2),), (8,), (4,))
    rng = np.random.default_rng(0)
    model.set_weights([0.3 * rng.normal(size=weight.shape) for weight in model.weights])
    x = rng.normal(size=(1, 9, 11, 4)).astype("float32")
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in model.get_layer("h_logits").weights)

    def convolved(y, layer):
        kernel, bias = layer.weights
        y = keras.ops.conv(y, kernel, padding="same", dilation_rate=layer.dilation_rate)
        return keras.ops.convert_to_numpy(y) + keras.ops.convert_to_numpy(bias)

    scores = bias
    for i in range(len(rates)):
        if branches == "convolution":
            y, share = convolved(x, model.get_layer(f"d_branch{i}")), kernel[0, 0]
        else:
            y = np.maximum(convolved(x, model.get_layer(f"d_branch{i}_fc6")), 0)
            y = np.maximum(convolved(y, model.get_layer(f"d_branch{i}_fc7")), 0)
            share = kernel[0, 0, 6 * i : 6 * (i + 1)]
        scores = scores + y @ share
    np.testing.assert_allclose(run(model, [x])[0], scores, rtol=1e-4, atol=1e-5)


def test_dilations_follow_the_stride():
    """Section 4.2 of v3: the rates are doubled at stride 8."""
    assert aspp_rates(16) == (6, 12, 18)
    assert aspp_rates(8) == (12, 24, 36)
    assert aspp_rates(32) == (3, 6, 9)
    assert aspp_rates(256) == (1, 1, 1)
    for part in (kz.decoders.DeepLabV3(width=4), kz.decoders.DeepLabV3Plus(width=4)):
        model, _ = wired(part, (4, 8), (4, 6))
        assert model.get_layer("d_aspp").rates == (12, 24, 36)


@pytest.mark.parametrize(("stride", "expected"), [(16, (4, 8, 16)), (8, (8, 16, 32))])
def test_cascade_continues_the_resnet(stride, expected):
    """block5 would be at stride 64: at stride 16 its dilation is 4, that of its middle unit twice as much."""
    model, decoded = wired(kz.decoders.DeepLabV3(context="cascade"), (4, stride), (4, 16))
    assert decoded == [stride]
    for block, dilation in enumerate(expected, start=5):
        rates = [model.get_layer(f"d_block{block}_{unit}_dilated_conv").dilation_rate[0] for unit in range(3)]
        assert rates == [dilation, 2 * dilation, dilation]


def test_parameters_of_deeplab_v1_and_v2():
    assert parameters(kz.decoders.DeepLabV1(width=10)) == 9 * 28 * 10 + 10 + 10 * 10 + 10
    assert parameters(kz.decoders.DeepLabV2(width=10)) == 4 * (9 * 28 * 10 + 10)
    decoder = kz.decoders.DeepLabV2(width=10, branches="fully_connected")
    assert parameters(decoder) == 4 * (9 * 28 * 10 + 10 + 10 * 10 + 10)


def test_large_fov_has_the_parameters_of_its_paper():
    """Table 2 of v1: 20.5 million, over VGG-16 for 20 classes and the background."""
    model = kz.segmenter("vgg16", "deeplab_v1", "linear", num_classes=21)
    assert round(model.count_params() / 1e6, 1) == 20.5


def test_parameters_of_deeplab_v3():
    norm = 4 * 6
    aspp = 2 * (28 * 6 + norm) + 3 * (9 * 28 * 6 + norm) + 5 * 6 * 6 + norm  # 1x1 and image, three rates, projection
    assert parameters(kz.decoders.DeepLabV3(width=6)) == aspp
    assert parameters(kz.decoders.DeepLabV3(width=6, convolutions=2)) == aspp + 2 * (9 * 6 * 6 + norm)
    separable = aspp - 3 * 9 * 28 * 6 + 3 * (9 * 28 + 28 * 6)
    assert parameters(kz.decoders.DeepLabV3(width=6, separable=True)) == separable
    unit = 28 * 7 + 4 * 7 + 9 * 7 * 7 + 4 * 7 + 7 * 28 + 4 * 28
    assert parameters(kz.decoders.DeepLabV3(context="cascade", blocks=2, multi_grid=(1, 2))) == 4 * unit


def test_parameters_of_deeplab_v3_plus():
    aspp = parameters(kz.decoders.DeepLabV3(width=6))
    low = 20 * 48 + 4 * 48  # from the level at stride 4
    fused = 9 * 54 * 6 + 4 * 6 + 9 * 6 * 6 + 4 * 6
    assert parameters(kz.decoders.DeepLabV3Plus(width=6)) == aspp + low + fused
    separable = 9 * 54 + 54 * 6 + 4 * 6 + 9 * 6 + 6 * 6 + 4 * 6
    assert parameters(kz.decoders.DeepLabV3Plus(width=6, separable=True)) == aspp + low + separable


@pytest.mark.parametrize(
    ("strides", "expected"), [((2, 4, 8, 16), [4, 16]), ((2, 8, 16, 32), [8, 32]), ((4, 8, 8, 8), [4, 8])]
)
def test_v3_plus_refines_by_the_finest_level_of_at_least_stride_4(strides, expected):
    model, decoded = wired(kz.decoders.DeepLabV3Plus(width=6), strides)
    assert decoded == expected
    size = (45, 67)
    shapes = [level.shape for level in run(model, pyramid(size, strides))]
    assert shapes == [(1, -(-size[0] // stride), -(-size[1] // stride), 6) for stride in expected]


def test_dropout_is_for_training_alone():
    decoder = kz.decoders.DeepLabV3(width=6, dropout=0.5)
    model, _ = wired(decoder, (8,), (4,))
    x = pyramid((64, 64), (8,), (4,), batch=2)
    np.testing.assert_array_equal(run(model, x)[0], run(model, x)[0])
    kept = keras.ops.convert_to_numpy(model(x, training=True)[0]) != 0
    model.get_layer("d_aspp").drop.rate = 0.0
    whole = keras.ops.convert_to_numpy(model(x, training=True)[0]) != 0
    assert 0.35 < kept[whole].mean() < 0.65


PARTS = pytest.mark.parametrize(
    "part",
    [
        kz.decoders.DeepLabV1(width=4),
        kz.decoders.DeepLabV2(width=4),
        kz.decoders.DeepLabV3(width=4, encoder_levels=True),
        kz.decoders.DeepLabV3(context="cascade", blocks=1),
        kz.decoders.DeepLabV3Plus(width=4, separable_aspp=True, **SMP_V3_PLUS),
    ],
    ids=["v1", "v2", "v3", "cascade", "v3_plus"],
)


@PARTS
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_time_sizes_and_xla(part, jit):
    assert_compiled_equals_eager(part, jit=jit)


@PARTS
def test_the_height_alone_may_vary(part):
    """TensorFlow then takes the width as known and the height not, and its graph optimizer has been seen to fail."""
    model, _ = wired(part)
    for height in (48, 112, 80):
        inputs = pyramid((height, 80), batch=2)
        compiled = model.predict_on_batch(inputs)
        compiled = compiled if isinstance(compiled, list) else [compiled]
        for level, expected in zip(compiled, run(model, inputs), strict=True):
            np.testing.assert_allclose(level, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["deeplab_v1", "deeplab_v2", "deeplab_v3", "deeplab_v3_plus"])
def test_segmenter_of_any_size(name):
    model = kz.segmenter(TINY, kz.decoders.create(name, width=8), "linear", num_classes=5, image_shape=(None, None, 1))
    measured = kz.encoders.strides(model.get_layer("encoder"))
    assert measured[-1] == kz.decoders.DECODERS[name].output_stride
    for size in ((45, 67), (64, 32)):
        assert model.predict_on_batch(np.zeros((2, *size, 1), "uint8")).shape == (2, *size, 5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deeplab_v1", {"kernel_size": 4}, "DeepLabV1's `kernel_size` must be odd, received 4"),
        ("deeplab_v1", {"rate": 0}, "DeepLabV1's `rate` must be a whole number of at least 1, received 0"),
        ("deeplab_v2", {"branches": "fc"}, r"DeepLabV2's `branches` must be one of \('convolution', .*received 'fc'"),
        ("deeplab_v2", {"rates": (6, 0)}, "DeepLabV2's `rates` must be a whole number of at least 1, received 0"),
        ("deeplab_v3", {"context": "none"}, r"DeepLabV3's `context` must be one of \('aspp', 'cascade'\), received"),
        (
            "deeplab_v3",
            {"rates": ()},
            r"DeepLabV3's `rates` must be a tuple of whole numbers, at least one of them; received \(\)",
        ),
        ("deeplab_v3", {"multi_grid": (0,)}, "DeepLabV3's `multi_grid` must be a whole number of at least 1"),
        ("deeplab_v3", {"dropout": -0.1}, "DeepLabV3's `dropout` must be at least 0 and less than 1, received -0.1"),
        ("deeplab_v3_plus", {"low_level_width": 0}, "DeepLabV3Plus's `low_level_width` must be a whole number"),
        ("deeplab_v3_plus", {"convolutions": -1}, "`convolutions` must be a whole number of at least 0, received -1"),
    ],
)
def test_wrong_arguments_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        kz.decoders.create(name, **options)


def test_v3_plus_needs_a_fine_level():
    for strides in ((2, 16), (16,)):
        with pytest.raises(ValueError, match=rf"needs a level of stride 4 .* strides \[{strides[0]}.*low_level_stride"):
            wired(kz.decoders.DeepLabV3Plus(), strides, (4,) * len(strides))
