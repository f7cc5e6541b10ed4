"""What the smooth head and rank pooling save: two passes against a square kernel, the largest pixels against all ranks.

Gaussian smoothing of the logits of one image at 512 x 512 with sigma 7 and 50 x 50 pixels, as in ConvMixerSeg, against
one depthwise convolution with the square kernel; global weighted rank pooling with a decay of 0.996 against ranking
every pixel. A forward pass and a training step (the gradient by the logits) of compiled TensorFlow, in turns, median;
that both ways give the same is checked first.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from machine import write

SIZE, CLASSES, SIGMA, KERNEL, DECAY = 512, 2, 7.0, 50, 0.996


def methods() -> dict[str, dict[str, Callable]]:
    """Function of `(1, H, W, C)` logits for each way, the way of kerazoo first and the one to compare with last."""
    from keras import ops

    import kerazoo as kz
    from kerazoo.layers.gaussian_smooth import gaussian

    smooth = kz.layers.GaussianSmooth(sigma=SIGMA, size=KERNEL, border="zeros")
    square = np.outer(gaussian(SIGMA, KERNEL), gaussian(SIGMA, KERNEL)).astype("float32")
    square = np.tile(square[:, :, None, None], (1, 1, CLASSES, 1))
    pads = ((0, 0), ((KERNEL - 1) // 2, KERNEL // 2), ((KERNEL - 1) // 2, KERNEL // 2), (0, 0))
    pool = kz.layers.GlobalWeightedRankPooling2D(decay=DECAY)

    def by_sorting(logits):
        values = ops.flip(ops.sort(ops.reshape(logits, (-1, SIZE * SIZE, CLASSES)), axis=1), axis=1)
        return weighted(values, ops.cast(ops.arange(SIZE * SIZE), "float32")[None, :, None])

    def by_ranking(logits):
        values = ops.reshape(logits, (-1, SIZE * SIZE, CLASSES))
        return weighted(values, ops.cast(ops.argsort(ops.argsort(-values, axis=1), axis=1), "float32"))

    def weighted(values, ranks):
        weights = ops.exp(ranks * float(np.log(DECAY)))
        return ops.sum(values * weights, axis=1) / ops.sum(weights, axis=1)

    return {
        "gaussian smoothing": {
            f"two passes of {KERNEL}": smooth,
            f"one kernel {KERNEL}x{KERNEL}": lambda logits: ops.depthwise_conv(
                ops.pad(logits, pads), square, padding="valid"
            ),
        },
        "rank pooling": {"largest pixels (top-k)": pool, "sort": by_sorting, "rank of every pixel": by_ranking},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each way (default 7)")
    arguments = parser.parse_args()
    import tensorflow as tf

    logits = tf.random.normal((1, SIZE, SIZE, CLASSES), seed=0)

    def step(way: Callable) -> Callable:
        @tf.function
        def run(logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = tf.reduce_sum(tf.square(way(logits)))
            return tape.gradient(value, logits)

        return run

    kinds = {"forward": tf.function, "training": step}
    rows = []
    for what, ways in methods().items():
        results = [np.asarray(way(logits)) for way in ways.values()]
        for result in results[1:]:
            np.testing.assert_allclose(result, results[0], rtol=1e-3, atol=1e-5)
        passes = {(way, kind): make(call) for way, call in ways.items() for kind, make in kinds.items()}
        seconds = {key: [] for key in passes}
        for run in range(arguments.runs + 1):
            for key, function in passes.items():
                start = time.perf_counter()
                np.asarray(function(logits))
                if run:
                    seconds[key].append(time.perf_counter() - start)
        forward, train = ({way: statistics.median(seconds[way, kind]) for way in ways} for kind in kinds)
        slowest = list(ways)[-1]
        rows += [
            {
                "operation": what,
                "way": way,
                "image": f"{SIZE}x{SIZE}x{CLASSES}",
                "forward_ms": f"{1000 * forward[way]:.1f}",
                "training_step_ms": f"{1000 * train[way]:.1f}",
                "times_faster_forward": f"{forward[slowest] / forward[way]:.1f}",
                "times_faster_training": f"{train[slowest] / train[way]:.1f}",
            }
            for way in ways
        ]
    write("smoothing", rows, "tensorflow")


if __name__ == "__main__":
    main()
