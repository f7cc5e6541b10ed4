"""Heads over everything: every attention and fusion, classic and inverted hypercolumns, networks without a decoder."""

import keras
import numpy as np
import pytest
from support.backend import SLOW_ON_JAX

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block
from kerazoo.layers import Resize
from kerazoo.layers.blocks import ATTENTIONS
from kerazoo.types import Level

pytestmark = pytest.mark.backends
TINY = kz.encoders.ResNet(
    block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8
)  # every code path of a ResNet-18, built in a fraction of the time
PYRAMID = ((2, 3), (4, 5), (8, 6))
"""Stride and channels of the levels that heads are tested on alone."""


def head_model(head, pyramid=PYRAMID, num_classes=2):
    inputs = tuple(Level(stride, keras.Input((None, None, channels))) for stride, channels in pyramid)
    logits = head(inputs, num_classes=num_classes)
    return keras.Model([level.tensor for level in inputs], logits.tensor), logits.stride


def levels(size=(24, 40), pyramid=PYRAMID):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, size[0] // s, size[1] // s, c)).astype("float32") for s, c in pyramid]


def weights_of(model, name):
    return [keras.ops.convert_to_numpy(weight) for weight in model.get_layer(name).weights]


@pytest.mark.parametrize("fuse", ["sum", "concat"])
def test_hypercolumn_is_upsampled_columns_through_one_linear_map(fuse):
    """Eq. 6.1 as it is written, upsampling first: projecting first is the same, because both are linear."""
    model, stride = head_model(kz.heads.Hypercolumn(width=7, fuse=fuse))
    assert stride == 2
    maps = levels()
    resized = [keras.ops.convert_to_numpy(Resize(size=(12, 20))(x)) for x in maps]
    columns = [x @ weights_of(model, f"h{i}_project")[0][0, 0] for i, x in enumerate(resized)]
    fused = sum(columns) if fuse == "sum" else np.concatenate(columns, axis=-1)
    kernel, bias = weights_of(model, "h_logits")
    np.testing.assert_allclose(model.predict_on_batch(maps), fused @ kernel[0, 0] + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fuse", ["sum", pytest.param("concat", marks=SLOW_ON_JAX)])
@pytest.mark.parametrize("attention", [*ATTENTIONS, None])
def test_mlf_attends_before_and_after_its_convolutions(attention, fuse):
    """The order is fuse, attend, convolve, attend, classify; the first attention sees all columns of a concat."""
    head = kz.heads.MLF(width=8, attention=attention, fuse=fuse, convolutions=2)
    model, _ = head_model(head)
    names = [layer.name for layer in model.layers if layer.name.startswith(("h_", "h0"))]
    expected = ["h0_project", "h_fuse"]
    expected += ["h_before"] * (attention is not None)
    expected += [f"h_conv{i}_{part}" for i in (1, 2) for part in ("conv", "bn", "relu")]
    expected += ["h_after"] * (attention is not None) + ["h_logits"]
    assert names == expected
    if attention is not None:
        assert model.get_layer("h_before").output.shape[-1] == (8 if fuse == "sum" else 24)
    assert model.predict_on_batch(levels()).shape == (2, 12, 20, 2)


def test_parameters_of_each_attention():
    """Width 64, by hand: the difference to a head without attention, which is there twice."""

    def parameters(attention):
        head = kz.heads.MLF(attention=attention)
        return head_model(head, pyramid=((4, 6),))[0].count_params()

    plain = parameters(None)
    assert plain == 6 * 64 + 3 * (9 * 64 * 64 + 4 * 64) + 2 * 65
    assert parameters("se") - plain == 2 * (64 * 4 + 4 + 4 * 64 + 64)
    assert parameters("eca") - plain == 2 * 3  # log2(64) = 6, (6 + 1) / 2 = 3.5: three channels
    assert parameters("cbam") - plain == 2 * (64 * 4 + 4 * 64 + 7 * 7 * 2)
    assert parameters("scse") - plain == 2 * (64 * 4 + 4 + 4 * 64 + 64 + 64 + 1)


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (None, 2),
        pytest.param(1, 2, marks=SLOW_ON_JAX),
        pytest.param(2, 2, marks=SLOW_ON_JAX),
        pytest.param(3, 4, marks=SLOW_ON_JAX),
        (4, 4),
        pytest.param(8, 8, marks=SLOW_ON_JAX),
    ],
)
def test_stride_is_where_the_head_works(stride, expected):
    """Finer levels are pooled and none is left out: each moves the logits."""
    for head in (kz.heads.Hypercolumn(width=4, stride=stride), kz.heads.MLF(width=8, stride=stride)):
        model, found = head_model(head)
        assert found == expected
        maps = levels()
        logits = model.predict_on_batch(maps)
        assert logits.shape == (2, 24 // expected, 40 // expected, 2)
        for position in range(len(maps)):
            changed = [x + 3 * (i == position) for i, x in enumerate(maps)]
            assert np.abs(model.predict_on_batch(changed) - logits).max() > 1e-3, position


def test_a_stride_beyond_every_level_is_refused():
    with pytest.raises(ValueError, match=r"No decoded level has a stride of at least 16: there are \[2, 4, 8\]"):
        head_model(kz.heads.MLF(stride=16))


WITHOUT_DECODER = {  # levels that a head which reads all of them sees, at least
    "identity": (kz.decoders.Identity(), 5),
    "deeplab_v3": (kz.decoders.DeepLabV3(width=8), 1),
    "deeplab_v3 with encoder levels": (kz.decoders.DeepLabV3(width=8, encoder_levels=True), 3),
    "pspnet with encoder levels": (kz.decoders.PSPNet(width=8, encoder_levels=True), 3),
}


@pytest.mark.parametrize("case", WITHOUT_DECODER)
@pytest.mark.parametrize("head", [pytest.param("hypercolumn", marks=SLOW_ON_JAX), "mlf"])
def test_heads_over_networks_without_a_decoder(case, head):
    """The classic hypercolumn is over the encoder's own levels; DeepLab gives one map, or its encoder's too."""
    decoder, least = WITHOUT_DECODER[case]
    model = kz.segmenter(TINY, decoder, kz.heads.create(head, width=8), num_classes=3)
    assert model.output_shape == (None, None, None, 3)
    projected = [layer for layer in model.get_layer("head").layers if layer.name.endswith("_project")]
    assert len(projected) >= least
    assert (len(projected) > 1) == (least > 1)


def test_the_linear_head_is_over_the_map_of_deeplab():
    model = kz.segmenter(TINY, kz.decoders.DeepLabV3(width=8), "linear", num_classes=3)
    assert model.output_shape == (None, None, None, 3)
    assert [x.shape[-1] for x in model.get_layer("head").inputs] == [8]


def test_prediction_at_a_coarse_stride_has_the_size_of_the_image():
    for head in (kz.heads.MLF(width=8, stride=4, attention="scse"), kz.heads.Hypercolumn(width=8, stride=4)):
        model = kz.segmenter(TINY, "identity", head, num_classes=1, depth=3)
        assert "to_image_size" in {layer.name for layer in model.layers}
        assert model.predict_on_batch(np.zeros((1, 45, 35, 3), "uint8")).shape == (1, 45, 35, 1)
