"""The hypercolumn projects each level before upsampling it: time and peak memory against the naive order at 512 x 512.

Both orders give the same sum (`tests/test_compose.py`); the levels are those of a U-Net decoder over a ResNet, finest
at stride 1. Each order runs in a process of its own, one forward pass and one training step (gradients of the
projection and of the levels); peak memory is the process's, less what it had before the first step.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

from machine import write

SIZE, WIDTH = 512, 64
LEVELS = ((1, 16), (2, 32), (4, 64), (8, 128), (16, 256))
ORDERS = ("project, upsample", "upsample, project")
RUNS = 5


def measure(order: str) -> None:
    import keras
    import tensorflow as tf

    import kerazoo as kz

    levels = [tf.random.uniform((1, SIZE // stride, SIZE // stride, channels)) for stride, channels in LEVELS]
    projections = [keras.layers.Conv2D(WIDTH, 1, use_bias=False) for _ in LEVELS]
    resizes = [kz.layers.Resize(factor=stride) for stride, _ in LEVELS]
    for projection, level in zip(projections, levels, strict=True):
        projection.build(level.shape)

    @tf.function
    def forward(levels):
        columns = []
        for level, projection, resize in zip(levels, projections, resizes, strict=True):
            first, second = (projection, resize) if order == ORDERS[0] else (resize, projection)
            columns.append(second(first(level)))
        return tf.add_n(columns)

    @tf.function
    def train(levels):
        with tf.GradientTape() as tape:
            tape.watch(levels)
            loss = tf.reduce_sum(tf.square(forward(levels)))
        return tape.gradient(loss, [levels, [projection.kernel.value for projection in projections]])

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = []
    for step in (forward, train):
        step(levels)
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            step(levels)
            seconds.append(time.perf_counter() - start)
        results += [statistics.median(seconds), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]
    print(*results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=ORDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    rows = []
    for order in ORDERS:
        output = subprocess.run(
            [sys.executable, __file__, "--measure", order], capture_output=True, text=True, check=True
        ).stdout
        forward_s, forward_mib, train_s, train_mib = map(float, output.split()[-4:])
        rows.append(
            {
                "order": order,
                "image": f"{SIZE}x{SIZE}",
                "forward_ms": f"{1000 * forward_s:.0f}",
                "forward_peak_mib": f"{forward_mib:.0f}",
                "training_step_ms": f"{1000 * train_s:.0f}",
                "training_peak_mib": f"{train_mib:.0f}",
            }
        )
    write("hypercolumn", rows, "tensorflow")


if __name__ == "__main__":
    main()
