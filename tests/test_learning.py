"""Every decoder and head learns: it overfits eight images, and is silent on the empty ones among them."""

import keras
import numpy as np
import pytest

import kerazoo as kz
from kerazoo.encoders import VGG, ResNet
from kerazoo.encoders.resnet import basic_block

pytestmark = pytest.mark.slow
RESNET = ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(16, 16, 24, 32), expansion=1, stem_width=16)
VGG_BN = VGG(depths=(1, 1, 1, 1, 1), widths=(16, 16, 24, 24, 32))
OPTIONS = {"deconvnet": {"fc_width": 64}}

OUTPUT_STRIDES = {"deeplab_v3": 8}
"""A map of 4 x 4, as from a stride of 16, is too coarse for the outline of anything in an image of 64 pixels."""

PYRAMIDS = {"bifpn", "fapn", "fpn", "identity", "pan"}
"""Decoders whose levels are meant to be read together."""

ROUNDS, EPOCHS = 12, 50


def images_and_masks():
    source = kz.data.sources.synthetic(
        8, empty_fraction=0.5, image_size=(64, 64), contrast=(0.3, 0.5), radius=(0.15, 0.3), channels=3, seed=1
    )
    samples = [source[i] for i in range(8)]
    images = np.stack([sample.image for sample in samples]).astype("float32")
    return images, np.stack([sample.mask for sample in samples])


@pytest.mark.parametrize(
    ("name", "head"),
    [(name, "hypercolumn" if name in PYRAMIDS else "linear") for name in kz.decoders.list()]
    + [("unet", head) for head in kz.heads.list() if head != "linear"],
)
def test_every_decoder_and_head_overfits_eight_images(name, head):
    assert_overfits(name, head)


@pytest.mark.parametrize(
    "head",
    [
        *(kz.heads.MLF(attention=attention) for attention in (None, "eca", "cbam", "scse")),
        *(kz.heads.MLF(stride=stride) for stride in (2, 4)),
        kz.heads.MLF(fuse="concat"),
        kz.heads.Hypercolumn(fuse="concat"),
        kz.heads.Hypercolumn(stride=2),
    ],
    ids=str,
)
def test_every_variant_of_a_head_overfits_eight_images(head):
    assert_overfits("unet", head)


def assert_overfits(name, head):
    images, masks = images_and_masks()
    empty = ~(masks > 0).any((1, 2))
    assert empty.sum() == 4
    decoder = kz.decoders.create(name, **OPTIONS.get(name, {}))
    encoder = VGG_BN if getattr(decoder, "switches", False) else RESNET
    stride = OUTPUT_STRIDES.get(name)
    model = kz.segmenter(encoder, decoder, head, num_classes=1, image_shape=(64, 64, 3), output_stride=stride)
    loss = kz.losses.CrossEntropy() + 0.1 * kz.losses.ForegroundDice()
    model.compile(keras.optimizers.Adam(3e-3), loss=loss)
    iou, false = 0.0, None
    for _ in range(ROUNDS):
        model.fit(images, masks, batch_size=8, epochs=EPOCHS, verbose=0)
        predicted = model.predict_on_batch(images)[..., 0] > 0
        iou = (predicted & (masks > 0)).sum() / (predicted | (masks > 0)).sum()
        false = int(predicted[empty].sum())
        if iou > 0.9 and false == 0:
            return
    raise AssertionError(
        f"after {ROUNDS * EPOCHS} steps the foreground IoU is {iou:.3f}, with {false} pixels in empties"
    )
