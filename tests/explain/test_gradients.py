"""Every trainable weight of a segmenter has a gradient: what no head reads is not in the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block

TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)
VGG = kz.encoders.VGG(depths=(1, 1, 1, 1, 1), widths=(8, 8, 12, 12, 16))
OPTIONS = {
    "deconvnet": {"fc_width": 16},
    "fapn": {"width": 8},
    "fpn": {"width": 8},
    "pan": {"width": 8},
    "bifpn": {"width": 8},
}
BY_DEFAULT = {("bifpn", "linear"), ("fapn", "linear"), ("fpn", "linear"), ("pan", "linear"), ("pan", "hypercolumn")}
"""Decoders whose coarse outputs nothing but a head reads."""

NOTHING_DECODED = {("identity", "linear"), ("identity", "smooth")}


def segmenter(decoder, head, **options):
    part = kz.decoders.create(decoder, **OPTIONS.get(decoder, {})) if isinstance(decoder, str) else decoder
    encoder = VGG if getattr(part, "switches", False) else TINY
    return kz.segmenter(encoder, part, head, num_classes=2, image_shape=(64, 64, 3), **options)


def without_gradient(model):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(images, training=True))
        loss = sum(tf.reduce_mean(tf.square(output)) for output in outputs)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return [v.path for v, gradient in zip(model.trainable_variables, gradients, strict=True) if gradient is None]


def combinations():
    for decoder in kz.decoders.list():
        for head in kz.heads.list():
            if (decoder, head) not in NOTHING_DECODED:
                yield pytest.param(decoder, head, marks=[pytest.mark.slow] * ((decoder, head) not in BY_DEFAULT))


@pytest.mark.parametrize(("decoder", "head"), [*combinations()])
def test_every_weight_has_a_gradient(decoder, head):
    assert without_gradient(segmenter(decoder, head)) == []


def test_a_weight_without_gradient_is_noticed():
    model = segmenter("fpn", "linear", aux=True)
    assert without_gradient(model) == []
    unread = without_gradient(kz.inference.without_aux(model))
    assert {path.split("/")[0] for path in unread} == {"d8_out", "d16_out", "d32_out"}


def test_what_the_head_leaves_out_is_what_deep_supervision_adds():
    """An FPN of width 8 keeps its projections, and of its 3x3 convolutions the finest one: 3 x (9 x 8 x 8 + 8) less."""
    linear, whole = segmenter("fpn", "linear"), segmenter("fpn", "linear", aux=True)
    sizes = [model.get_layer("decoder").count_params() for model in (linear, whole)]
    assert sizes[1] - sizes[0] == 3 * 584
    assert len(linear.get_layer("decoder").outputs) == len(linear.get_layer("head").inputs) == 1
    assert segmenter("fpn", "mlf").get_layer("decoder").count_params() == sizes[1]


@pytest.mark.parametrize("decoder", ["identity", kz.decoders.DeepLabV3(width=8, encoder_levels=True)])
def test_a_head_for_which_most_of_the_encoder_works_in_vain_is_refused(decoder):
    reason = r"nothing that comes from the encoder's levels at strides \[4, 8, .*'hypercolumn' or 'mlf', .* by depth=1"
    with pytest.raises(ValueError, match=reason):
        segmenter(decoder, "linear")


def test_a_head_may_read_the_finest_level_where_the_rest_has_a_use():
    """Alone, because `depth` says so, or because another output needs the others."""
    assert without_gradient(segmenter("identity", "linear", depth=1)) == []
    assert without_gradient(segmenter("identity", "linear", label_head=True)) == []
