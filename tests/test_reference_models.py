"""Our models against the outputs of timm and smp, with weights that are a function of each tensor's name."""

from pathlib import Path

import numpy as np
import pytest
from golden_rule import image
from torch_names import fill_layers, resnet_module, smp_unet_module

import kerazoo as kz

pytestmark = pytest.mark.backends
GOLDEN = Path(__file__).parent / "golden"


def relative_error(ours, reference):
    return np.abs(ours - reference).max() / np.abs(reference).max()


@pytest.mark.parametrize(("name", "size"), [("resnet18", (64, 64)), ("resnet50", (64, 96))])
def test_resnet_equals_timm(name, size):
    model = kz.encoders.create(name)
    fill_layers(model, resnet_module)
    features = model.predict_on_batch(image(1, (1, *size, 3)))
    by_stride = dict(zip(kz.encoders.strides(model), features, strict=True))
    with np.load(GOLDEN / f"encoder_{name}.npz") as reference:
        assert reference.files
        for key in reference.files:
            assert relative_error(by_stride[int(key.removeprefix("stride"))], reference[key]) < 1e-4, key


def test_unet_equals_smp():
    decoder = kz.decoders.create("unet", skip="concat", upsampling="nearest", widths=(256, 128, 64, 32, 16))
    head = kz.heads.create("linear", kernel_size=3)
    model = kz.segmenter("resnet18", decoder, head, num_classes=2, preprocessing=False)
    fill_layers(model, smp_unet_module)
    logits = model.predict_on_batch(image(2, (1, 96, 96, 3)))
    with np.load(GOLDEN / "smp_unet_resnet18.npz") as reference:
        assert relative_error(logits, reference["logits"]) < 1e-4


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [("resnet18", 16), ("resnet18", 8), pytest.param("resnet50", 8, marks=pytest.mark.slow)],
)
def test_dilation_computes_the_same_features_more_densely(name, output_stride):
    strided = kz.encoders.create(name)
    dilated = kz.encoders.create(name, output_stride=output_stride)
    dilated.set_weights(strided.get_weights())
    assert kz.encoders.strides(dilated) == [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    x = image(3, (1, 256, 256, 3))
    coarse, fine = strided.predict_on_batch(x)[-1], dilated.predict_on_batch(x)[-1]
    step = 32 // output_stride
    inner = slice(3, 5)  # rows whose receptive field does not reach the borders' zeros differ nowhere
    difference = np.abs(fine[:, ::step, ::step][:, inner, inner] - coarse[:, inner, inner]).max()
    assert difference < 1e-3 * np.abs(coarse).max()
