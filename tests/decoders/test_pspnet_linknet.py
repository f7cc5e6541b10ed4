"""LinkNet, PSPNet and no decoder: against smp, their own arithmetic, sizes, and what they refuse."""

import keras
import numpy as np
import pytest
from support.decoder_alone import error_to_golden, parameters, pyramid, wired
from support.pyramids import assert_compiled_equals_eager, run
from support.tiers import on_one_backend

import kerazoo as kz
from kerazoo.convert.smp_decoders import DECODERS as SMP
from kerazoo.encoders.resnet import basic_block

TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)
SMP_PSPNET = {
    "kernel_size": 1,
    "dropout": 0.2,
    "inputs_first": False,
    "normalize_global": False,
    "align_corners": True,
}


@pytest.mark.parametrize(("name", "norm"), [("", "batch"), ("_no_norm", None), ("_instance", "instance")])
def test_linknet_equals_smp(name, norm):
    decoder = kz.decoders.LinkNet(width=6, norm=norm)
    assert error_to_golden(decoder, f"linknet{name}", lambda path: SMP["Linknet"](path, 4), step=3) < 1e-5


@pytest.mark.parametrize(("name", "norm"), [("", "batch"), ("_no_norm", None)])
def test_pspnet_equals_smp(name, norm):
    decoder = kz.decoders.PSPNet(width=10, norm=norm, **SMP_PSPNET)
    assert error_to_golden(decoder, f"pspnet{name}", lambda path: SMP["PSPNet"](path, 4)) < 1e-5


def test_parameters_of_linknet():
    def block(channels, width, narrow):
        up = 4 * 4 * narrow * narrow + narrow + 4 * narrow  # the transposed convolution has a bias beside its norm
        return channels * narrow + 4 * narrow + up + narrow * width + 4 * width

    expected = block(28, 24, 7) + block(24, 20, 6) + block(20, 16, 5) + block(16, 6, 4)
    assert parameters(kz.decoders.LinkNet(width=6)) == expected
    # 8 channels by 4 are too few: 4 are left
    assert parameters(kz.decoders.LinkNet(width=6), strides=(2, 4), channels=(8, 20)) == block(20, 8, 5) + block(
        8, 6, 4
    )


def test_parameters_of_pspnet():
    pooled = 4 * (28 * 7 + 4 * 7)  # four maps share 28 channels; each a 1x1 convolution and four numbers per norm
    assert parameters(kz.decoders.PSPNet(width=10)) == pooled + 9 * 56 * 10 + 4 * 10
    smp = 28 * 7 + 7 + 3 * (28 * 7 + 4 * 7)
    assert parameters(kz.decoders.PSPNet(width=10, **SMP_PSPNET)) == smp + 56 * 10 + 4 * 10


@pytest.mark.parametrize("strides", [(2, 4, 8, 16), (4, 8, 16, 32), (1, 2, 8, 8), (2, 4, 16, 16), (7, 14, 28, 56)])
def test_linknet_reaches_the_image_from_any_pyramid(strides):
    """Levels that do not double, repeat, start at the image or start coarse."""
    model, decoded = wired(kz.decoders.LinkNet(width=6), strides)
    levels = run(model, pyramid((112, 56), strides))
    beyond = [(1, 6)] if strides[0] > 1 else []
    expected = [*beyond, *zip(strides[:-1], (16, 20, 24), strict=True)]
    assert decoded == [stride for stride, _ in expected]
    for level, (stride, width) in zip(levels, expected, strict=True):
        assert level.shape == (1, -(-112 // stride), -(-56 // stride), width)


@pytest.mark.parametrize(
    "part",
    [kz.decoders.LinkNet(width=6), kz.decoders.PSPNet(width=6, align_corners=True), kz.decoders.Identity()],
    ids=["linknet", "pspnet", "identity"],
)
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_time_sizes_and_xla(part, jit):
    assert_compiled_equals_eager(part, jit=jit)


@pytest.mark.backends
def test_linknet_grows_about_the_same_center():
    """A constant map stays constant inside, and a symmetric one symmetric: no shift by half a pixel."""
    model, _ = wired(kz.decoders.LinkNet(width=6, norm=None), (2, 4), (16, 20))
    for weight in model.weights:
        kernel = weight.path.endswith("kernel")
        weight.assign(np.full(weight.shape, 0.1 if kernel else 0.0))  # the same tap everywhere
    row = np.array([1.0, 2.0, 4.0, 2.0, 1.0], "float32")
    coarse = np.broadcast_to((row[:, None] * row)[None, :, :, None], (1, 5, 5, 20))
    fine = model.predict_on_batch([np.zeros((1, 10, 10, 16), "float32"), np.ascontiguousarray(coarse)])[-1]
    np.testing.assert_allclose(fine, fine[:, ::-1, ::-1], rtol=1e-5)


def test_pspnet_sees_the_whole_image():
    """A pixel in one corner changes the opposite corner by the mean over the image alone."""
    decoder = kz.decoders.PSPNet(width=10, kernel_size=1, sizes=(1,), norm=None)
    model, _ = wired(decoder, (8,), (4,))
    kernel = np.zeros((1, 1, 8, 10), "float32")
    kernel[0, 0, 4] = 1  # the first channel of the pooled map, after the four of the level
    projection = np.eye(4, dtype="float32")[None, None]
    model.set_weights([projection, np.zeros(4), kernel, np.zeros(10)])
    x = np.zeros((1, 5, 7, 4), "float32")
    x[0, 0, 0, 0] = 70
    np.testing.assert_allclose(run(model, [x])[0], np.full((1, 5, 7, 10), 70 / 35), rtol=1e-6)


@pytest.mark.parametrize("name", ["pspnet", "deeplab_v1", "deeplab_v2", "deeplab_v3"])
def test_the_encoders_levels_are_handed_on_where_asked(name):
    plain, decoded = wired(kz.decoders.create(name, width=6))
    assert decoded == [16]
    model, decoded = wired(kz.decoders.create(name, width=6, encoder_levels=True))
    assert decoded == [2, 4, 8, 16]
    model.set_weights(plain.get_weights())
    inputs = pyramid((33, 47))
    levels = run(model, inputs)
    for level, expected in zip(levels, [*inputs[:-1], *run(plain, inputs)], strict=True):
        np.testing.assert_allclose(level, expected, rtol=1e-5, atol=1e-6)


@on_one_backend
@pytest.mark.parametrize("head", ["hypercolumn", "mlf"])
def test_heads_that_read_all_levels_work_without_a_decoder(head):
    """Four levels finer than the coarsest one, and the map of the decoder, each projected to the width of the head."""
    decoder = kz.decoders.DeepLabV3(width=8, encoder_levels=True)
    for part, channels in ((decoder, (8, 8, 8, 12, 8)), ("identity", (8, 8, 8, 12, 16))):
        model = kz.segmenter(TINY, part, kz.heads.create(head, width=4), num_classes=2, output_stride=8)
        head_model = model.get_layer("head")
        kernels = [head_model.get_layer(f"h{i}_project").kernel.shape for i in range(5)]
        assert kernels == [(1, 1, n, 4) for n in channels]
        assert model.predict_on_batch(np.zeros((1, 41, 50, 3), "uint8")).shape == (1, 41, 50, 2)


def test_identity_changes_nothing():
    model, decoded = wired(kz.decoders.Identity())
    assert decoded == [2, 4, 8, 16]
    assert not model.weights
    for level, expected in zip(run(model, pyramid()), pyramid(), strict=True):
        np.testing.assert_array_equal(level, expected)


def test_freezing_reaches_the_layers_inside_layers():
    """Batch norm in the branches of the pyramid pooling neither trains nor moves its statistics."""
    decoder = kz.decoders.PSPNet(width=6, sizes=(1, 2))
    model = kz.segmenter(TINY, decoder, "linear", num_classes=1, image_shape=(64, 64, 3), depth=3)
    inputs = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")

    def moved():
        before = [keras.ops.convert_to_numpy(weight) for weight in model.get_layer("decoder").weights]
        model.compile("sgd", "mse")
        model.train_on_batch(inputs, np.ones((2, 64, 64, 1), "float32"))
        after = model.get_layer("decoder").weights
        return {w.path for w, old in zip(after, before, strict=True) if (keras.ops.convert_to_numpy(w) != old).any()}

    assert "d_pyramid/branch1/bn/moving_mean" in moved()
    kz.freeze(model, "decoder")
    assert moved() == set()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linknet", {"width": 0}, "LinkNet's `width` must be a whole number of at least 1, received 0"),
        ("linknet", {"norm": "layer"}, r"LinkNet's `norm` must be one of \('batch', .*received 'layer'"),
        ("pspnet", {"kernel_size": 2}, "PSPNet's `kernel_size` must be odd, received 2"),
        ("pspnet", {"sizes": (1, 0)}, "PSPNet's `sizes` must be a whole number of at least 1, received 0"),
        (
            "pspnet",
            {"sizes": ()},
            r"PSPNet's `sizes` must be a tuple of whole numbers, at least one of them; received \(\)",
        ),
        ("pspnet", {"dropout": 1}, "PSPNet's `dropout` must be at least 0 and less than 1, received 1"),
    ],
)
def test_wrong_arguments_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        kz.decoders.create(name, **options)


def test_pyramids_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"LinkNet needs at least two levels.*received the strides \[8\].*`depth`"):
        wired(kz.decoders.LinkNet(), (8,), (4,))
    with pytest.raises(ValueError, match="3 channels cannot be shared by 4 `sizes`"):
        wired(kz.decoders.PSPNet(), (8,), (3,))
