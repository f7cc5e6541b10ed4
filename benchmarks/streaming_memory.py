"""Resident memory over one epoch of 100 000 masks of 256 x 256, in the pipeline and every metric: constant.

    python benchmarks/streaming_memory.py [--images 100000] [--batch 20]

Masks are drawn when they are asked for, and images from them; the model is one 1 x 1 convolution, so that the time goes
into the pipeline, the loss and the metrics. Each row is the memory when that share of the epoch is done; the first
tenth holds everything that is allocated once. Linux only: the memory comes from `/proc/self`.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from machine import write

import kerazoo as kz
from kerazoo.data.source import Source
from kerazoo.data.sources.synthetic import Synthetic

SIZE = (256, 256)
SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)


class Masks(Synthetic):
    """The synthetic masks, with images that cost nothing to draw."""

    def image(self, index: int) -> np.ndarray:
        """The mask, brighter."""
        return 120 * self.mask(index)[..., np.newaxis]


class Memory(keras.callbacks.Callback):
    """Samples resident memory a thousand times an epoch."""

    def __init__(self, batches: int):
        super().__init__()
        self.every = max(1, batches // 1000)
        self.batches: list[int] = []
        self.mib: list[float] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if (batch + 1) % self.every == 0:
            status = Path("/proc/self/status").read_text()
            kib = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
            self.batches.append(batch + 1)
            self.mib.append(int(kib) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=20)
    arguments = parser.parse_args()
    reader = Masks(
        ids=tuple(f"{index:06d}" for index in range(arguments.images)),
        empty_fraction=0.7,
        seed=0,
        image_size=SIZE,
        num_classes=1,
        channels=1,
        contrast=(0.12, 0.4),
        radius=(0.04, 0.16),
    )
    dataset = kz.data.pipeline(Source(reader), image_size=SIZE, batch_size=arguments.batch, shuffle=False)
    inputs = keras.Input((*SIZE, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(keras.layers.Rescaling(1 / 255)(inputs)))
    metrics = [
        kz.metrics.IoU(1),
        kz.metrics.Dice(1),
        kz.metrics.Precision(1),
        kz.metrics.Recall(1),
        kz.metrics.Accuracy(1),
        kz.metrics.MCC(1),
        kz.metrics.PerImageDice(1),
        kz.metrics.CalibrationError(1),
        kz.metrics.ImageAUC(),
        kz.metrics.ImageBalancedAccuracy(),
        kz.metrics.ImageMulticlassAccuracy(1),
        kz.metrics.EmptyFalsePositivePixels(),
    ]
    model.compile(keras.optimizers.SGD(0.1), loss=kz.losses.CrossEntropy(), metrics=metrics)
    batches = -(-arguments.images // arguments.batch)
    memory = Memory(batches)
    start = time.perf_counter()
    model.fit(dataset, epochs=1, verbose=0, callbacks=[memory])
    elapsed = time.perf_counter() - start
    pixels = int(metrics[4].counts().sum())
    assert pixels == arguments.images * SIZE[0] * SIZE[1], f"{pixels} pixels were counted"
    done, mib = np.array(memory.batches) / batches, np.array(memory.mib)
    rows = [
        {
            "share_of_epoch": share,
            "images": round(share * arguments.images),
            "resident_mib": f"{mib[done <= share][-1]:.0f}",
            "most_so_far_mib": f"{mib[done <= share].max():.0f}",
            "seconds_for_the_epoch": f"{elapsed:.0f}",
        }
        for share in SHARES
    ]
    write("streaming_memory", rows, "tensorflow")


if __name__ == "__main__":
    main()
