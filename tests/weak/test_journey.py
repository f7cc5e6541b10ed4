"""From image labels to a segmenter, as one types it; and by the command line, on the files of the pseudo-masks."""

import keras
import numpy as np
import pytest
from support.tiers import thorough
from support.tiny import TINY

import kerazoo as kz
from kerazoo.training import Recipe, evaluate, train
from kerazoo.weak import choose_threshold, pseudo_masks

JOURNEY = """
weak = kz.weak.cam_beta(kz.segmenter("convmixer_256_20", "patch", "smooth", num_classes=2), pooling="gmp")
weak.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True)); weak.fit(image_label_dataset)
threshold = kz.weak.choose_threshold(weak, val_source, using="image_labels")   # never opens a mask
pseudo = kz.weak.pseudo_masks(weak, train_source, threshold=threshold)
"""
STUDENT = """
student = kz.segmenter("resnet18", "unet", "mlf", num_classes=2)
student.compile(kz.optimizers.RAdam(1e-3), loss=kz.losses.CrossEntropy())
student.fit(kz.data.pipeline(pseudo, image_size=(32, 32), batch_size=8))
"""
SMALLER = {
    '"convmixer_256_20", "patch", "smooth"': "mixer, kz.decoders.Patch(width=8), kz.heads.Smooth(sigma=2.0)",
    '"resnet18", "unet", "mlf"': 'mixer, "patch", "linear"',
}
MIXER = kz.encoders.ConvMixer(width=8, blocks=1, kernel_size=3, patch_size=4, pointwise_residual=True)


class Sealed:
    """A source whose masks nobody may open."""

    def __init__(self, source):
        self.source = source

    def __getattr__(self, name):
        return getattr(self.source, name)

    def mask(self, index):
        raise AssertionError("a weak path opened a mask")


def splits(n=24):
    options = {"image_size": (32, 32), "channels": 3, "contrast": (0.4, 0.5), "radius": (0.2, 0.3), "num_classes": 2}
    source = kz.data.sources.synthetic(n, empty_fraction=0.5, **options)
    sealed = kz.data.Source(Sealed(source._reader))
    return sealed.split(fractions=(0.6, 0.4), seed=0)


def travel(code):
    train_source, val_source = splits()
    labels = kz.data.pipeline(train_source, image_size=(32, 32), batch_size=8, outputs="label")
    scope = {"train_source": train_source, "val_source": val_source, "image_label_dataset": labels, "mixer": MIXER}
    exec(compile(code, "journey", "exec"), {"keras": keras, "kz": kz}, scope)
    assert scope["threshold"].using == "image_labels"
    np.testing.assert_array_equal(scope["pseudo"].labels, train_source.labels)
    assert {"loss"} <= scope["student"].history.history.keys()


@thorough
def test_the_journey_with_smaller_parts():
    code = JOURNEY + STUDENT
    for part, smaller in SMALLER.items():
        assert part in code
        code = code.replace(part, smaller)
    travel(code)


@pytest.mark.slow
def test_the_journey_as_typed():
    travel(JOURNEY + STUDENT)


@pytest.mark.slow
def test_kerazoo_train_takes_the_files_of_pseudo_masks(tmp_path):
    train_source, val_source = splits()
    weak = kz.weak.cam_beta(kz.segmenter(MIXER, "patch", "linear", num_classes=2))
    pseudo_masks(weak, train_source, threshold=choose_threshold(weak, val_source), to=tmp_path / "pseudo")
    content = {
        **TINY,
        "data": {"source": {"name": "folder", "mask_suffix": "_mask.png", "num_classes": 2}, "image_size": 32},
        "model": {
            "encoder": {"name": "convmixer_256_20", "width": 8, "blocks": 1, "patch_size": 4},
            "decoder": "patch",
            "head": "linear",
        },
        "loss": ["cross_entropy"],
        "training": {"epochs": 1, "batch_size": 8},
        "evaluation": {"gallery": 2},
    }
    train(Recipe.parse(content), tmp_path / "run", tmp_path / "pseudo")
    result = evaluate(tmp_path / "run", "val")
    assert result["images"] > 0
