"""ResNet50-UNet, 4 images of 256 x 256: training step and inference, beside segmentation_models_pytorch's.

    python benchmarks/resnet50_unet.py --peer PATH_OF_A_PYTHON_WITH_SMP

The same network (concatenated skips, nearest upsampling, decoder widths 256 to 16, a 3x3 head), Adam, binary
cross-entropy, float32 and random weights on both sides. Processes take turns, so that a busy machine slows both alike;
the ratio of medians is the result. Without `--peer` only kerazoo is timed, into a
CSV of its own.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import write

BATCH, SIZE = 4, 256
ROUNDS = 3


def median_seconds(step, runs: int) -> float:
    step()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(threads: int) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    import kerazoo as kz

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    image = tf.constant(np.random.rand(BATCH, SIZE, SIZE, 3).astype("float32") * 255)
    mask = tf.constant((np.random.rand(BATCH, SIZE, SIZE) > 0.5).astype("float32"))
    decoder = kz.decoders.create("unet", skip="concat", upsampling="nearest")
    model = kz.segmenter("resnet50", decoder, kz.heads.create("linear", kernel_size=3), num_classes=1)
    model.compile(keras.optimizers.Adam(), loss=kz.losses.CrossEntropy())
    training = median_seconds(lambda: model.train_on_batch(image, mask), 5)
    print(training, median_seconds(lambda: model.predict_on_batch(image), 8))


def run(*command: str) -> tuple[float, float]:
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    training, inference = output.split()[-2:]
    return float(training), float(inference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python interpreter of an environment with segmentation_models_pytorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.threads)
        return
    here = Path(__file__)
    commands: dict[str, tuple[str, ...]] = {
        "kerazoo": (sys.executable, str(here), "--measure", "--threads", str(arguments.threads))
    }
    if arguments.peer:
        commands["smp"] = (arguments.peer, str(here.parent / "peers" / "smp_unet.py"), str(arguments.threads))
    seconds = {library: [] for library in commands}
    for _ in range(ROUNDS):
        for library, command in commands.items():
            seconds[library].append(run(*command))
    rows = []
    for position, what in enumerate(("training step", "inference")):
        medians = {name: statistics.median(times[position] for times in runs) for name, runs in seconds.items()}
        ratio = f"{medians['kerazoo'] / medians['smp']:.2f}" if "smp" in medians else ""
        for library, median in medians.items():
            rows.append(
                {
                    "what": what,
                    "library": library,
                    "rounds": ROUNDS,
                    "median_s": f"{median:.3f}",
                    "kerazoo_by_smp": ratio,
                }
            )
    write("resnet50_unet" if arguments.peer else "resnet50_unet_alone", rows, "tensorflow")


if __name__ == "__main__":
    main()
