"""What version 0.1 wrote, at commit 13fcdc6: models, a run, a prepared data set.

`before_house.zip` is for tests/test_older_files.py.

Run in a checkout of that commit: `PYTHONPATH=. python make_before_house.py before_house.zip`.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block
from kerazoo.training import train
from kerazoo.training.recipe import Recipe

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WIDTHS = (4, 4, 4, 4)
RESNET = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=WIDTHS, expansion=1, stem_width=4)
VGG = kz.encoders.VGG(depths=(1, 1, 1), widths=(4, 4, 4), batchnorm=True)
UNET = kz.decoders.UNet(widths=WIDTHS)
RECIPE = {
    "name": "before",
    "data": {
        "source": {"name": "synthetic", "n": 24, "empty_fraction": 0.5, "image_size": [32, 32], "seed": 1},
        "split": {"fractions": [0.5, 0.25, 0.25]},
        "image_size": 32,
    },
    "model": {
        "encoder": {"name": "resnet18", "depths": [1, 1, 1, 1], "widths": [4, 4, 4, 4], "stem_width": 4},
        "decoder": {"name": "unet", "skip": "sum", "widths": [4, 4, 4, 4]},
        "head": {"name": "mlf", "width": 4, "stride": 2},
    },
    "loss": ["cross_entropy", {"name": "foreground_dice", "weight": 0.1}],
    "optimizer": {"name": "radam", "learning_rate": 1e-3, "schedule": {"name": "cosine", "final": 1e-5}},
    "training": {"epochs": 2, "batch_size": 4, "sampler": "under", "augment": ["flip"]},
    "evaluation": {"threshold": 0.2, "bootstrap": 20, "gallery": 0},
}


def segmenters():
    """Name to a model with layers of ours."""
    yield "unet_mlf", kz.segmenter(RESNET, UNET, kz.heads.MLF(width=4, stride=2), num_classes=1)
    yield "fixed_size", kz.segmenter(RESNET, UNET, "linear", num_classes=3, image_shape=(40, 56, 1))
    fapn = kz.decoders.FaPN(width=8, offset_groups=2)
    yield "fapn", kz.segmenter(RESNET, fapn, kz.heads.Hypercolumn(), num_classes=1)
    yield "bifpn", kz.segmenter(RESNET, kz.decoders.BiFPN(width=4, repeats=1), kz.heads.MLF(width=4), num_classes=1)
    yield "outputs", kz.segmenter(RESNET, UNET, "linear", num_classes=3, label_head=True, aux=True)
    yield "switches", kz.segmenter(VGG, "segnet", "linear", num_classes=2)
    margin = kz.encoders.UNetContracting(widths=(2, 2, 4))
    yield "margin", kz.segmenter(margin, kz.decoders.UNetOriginal(), "linear", num_classes=2)
    yield "no_padding", kz.segmenter(RESNET, kz.decoders.FCN(), "linear", num_classes=2, pad=False)


def image(shape=(1, 37, 45, 3)):
    """A raw image with every value."""
    return (np.arange(np.prod(shape)) * 7 % 256).reshape(shape).astype(np.uint8)


def main(archive):
    """Write the archive."""
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name, model in segmenters():
            model.save(root / f"{name}.keras")
            shape = (1, *(n or m for n, m in zip(model.input_shape[1:], (37, 45, 3), strict=True)))
            outputs = model.predict(image(shape), verbose=0)
            outputs = outputs if isinstance(outputs, dict) else {"mask": outputs}
            np.savez_compressed(root / f"{name}.npz", **outputs)
        segmenter = kz.segmenter(RESNET, UNET, "linear", num_classes=1)
        loss = kz.losses.CrossEntropy() + 0.1 * kz.losses.ForegroundDice()
        metrics = [kz.metrics.IoU(1), kz.metrics.ImageBalancedAccuracy(), kz.metrics.MCC(1), kz.metrics.PerImageDice(1)]
        segmenter.compile(kz.optimizers.RAdam(1e-3), loss=loss, metrics=metrics)
        images, masks = image((2, 32, 32, 3)), (image((2, 32, 32, 1))[..., 0] > 128).astype(np.int32)
        segmenter.fit(images, masks, epochs=1, verbose=0)
        segmenter.save(root / "compiled.keras")
        scores = segmenter.evaluate(images, masks, verbose=0, return_dict=True)
        np.savez_compressed(root / "compiled.npz", **scores)
        train(Recipe.parse(RECIPE), root / "run")
        kz.data.prepare(
            kz.data.sources.synthetic(8, empty_fraction=0.5, image_size=(32, 32), seed=2), root / "prepared"
        )
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(root.rglob("*")):
                skipped = {"logs", "plots", "gallery"} & set(path.relative_to(root).parts) or path.name == "report.html"
                if path.is_file() and not skipped:
                    file.write(path, path.relative_to(root))


if __name__ == "__main__":
    main(sys.argv[1])
