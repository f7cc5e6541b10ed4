"""Images per second that the pipeline feeds from a folder, beside what ResNet18-UNet at 128×128 consumes.

Without --root it writes a folder of its own: gray JPEG of 256×256 with PNG masks beside them. The aim: the pipeline,
decoding every image each epoch, feeds at least 5 times what training consumes on the same machine.

    python benchmarks/pipeline.py [--root DIRECTORY] [--images N]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
from machine import write
from PIL import Image

import kerazoo as kz

SIZE, BATCH, RUNS = (128, 128), 16, 3
GEOMETRY = ("flip", "rotate", "zoom", "shift")
INTENSITY = ("brightness", "contrast", "gamma", "noise")
SETUPS: dict[str, dict[str, Any]] = {
    "folder": {},
    "folder, 1 worker": {"workers": 1},
    "folder, flip": {"augment": ("flip",)},
    "folder, under-sampling, flip": {"augment": ("flip",), "sampler": "under"},
    f"folder, {', '.join(GEOMETRY)}": {"augment": GEOMETRY},
    f"folder, {', '.join(INTENSITY)}": {"augment": INTENSITY},
    "memory cache": {"cache": "memory"},
    "directory cache": {"cache": "directory"},
}


def write_folder(root: Path, images: int) -> None:
    for image, mask, name in kz.data.sources.synthetic(images, image_size=(256, 256), seed=0):
        Image.fromarray(image[..., 0]).save(root / f"{name}.jpg", quality=90)
        Image.fromarray(mask * 255).save(root / f"{name}.png")


def images_per_second(dataset: Any) -> float:
    """Median over epochs, the first left out: it traces, and fills caches."""
    rates = []
    for _ in range(RUNS + 1):
        start, count = time.perf_counter(), 0
        for images, _ in dataset:
            count += len(images)
        rates.append(count / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def consumed_per_second(channels: int) -> float:
    """Training steps of ResNet18-UNet on one batch in memory, images per second."""
    source = kz.data.sources.synthetic(BATCH, image_size=SIZE, channels=channels, empty_fraction=0.5)
    [(images, masks)] = list(kz.data.pipeline(source, image_size=SIZE, batch_size=BATCH))
    model = kz.segmenter("resnet18", "unet", "linear", num_classes=1, image_shape=(*SIZE, channels))
    model.compile(kz.optimizers.RAdam(1e-3), loss=kz.losses.CrossEntropy())
    rates = []
    for _ in range(RUNS + 2):
        start = time.perf_counter()
        model.train_on_batch(images, masks)
        rates.append(BATCH / (time.perf_counter() - start))
    return statistics.median(rates[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of images with masks X.png beside them, values above 127")
    parser.add_argument("--images", type=int, default=512, help="number of images to write without --root")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.root or Path(scratch, "images")
        if arguments.root is None:
            root.mkdir()
            write_folder(root, arguments.images)
        source = kz.data.sources.folder(root, mask_threshold=127)
        channels = int(source.shapes[:, 2].max())
        consumed = consumed_per_second(channels)
        for name, options in SETUPS.items():
            place = {"cache": Path(scratch, "cache")} if options.get("cache") == "directory" else {}
            form: dict[str, Any] = {"image_size": SIZE, "batch_size": BATCH, "channels": channels}
            dataset = kz.data.pipeline(source, **form, **{**options, **place})
            fed = images_per_second(dataset)
            rows.append(
                {
                    "data": root.name if arguments.root else "written",
                    "source": str(source).removeprefix("Source: "),
                    "setup": name,
                    "image_size": "x".join(map(str, SIZE)),
                    "batch": BATCH,
                    "fed_images_per_s": f"{fed:.0f}",
                    "resnet18_unet_trains_images_per_s": f"{consumed:.1f}",
                    "ratio": f"{fed / consumed:.1f}",
                    "jit_compile": "auto" if keras.backend.backend() == "tensorflow" else "default",
                }
            )
    write("pipeline" if arguments.root is None else f"pipeline_{arguments.root.name}", rows, "tensorflow", "pillow")


if __name__ == "__main__":
    main()
