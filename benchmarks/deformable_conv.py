"""Time of a deformable 3x3 convolution relative to a plain one of the same size, with and without XLA.

Both run in turn in one process, so that whatever else the machine does slows both; the fastest of all runs counts. The
training pass computes the gradients of every input and of the kernel. The load is the machine's, of all its processes,
when the measurement began: above the 1.0 or so of this process itself, others were running.
"""

import argparse
import os
import time
from collections.abc import Callable

from machine import write

CASES = ((64, 64, 1), (64, 64, 8), (128, 64, 8), (32, 256, 8))
"""Rows and columns of the map, channels in and out, offset groups; FaPN's have 256 channels and 8 groups."""


def passes(layer, arguments, *, jit: bool) -> dict[str, Callable]:
    """Functions without arguments that run the layer, and that run it and its gradients."""
    import tensorflow as tf

    layer(*arguments)

    @tf.function(jit_compile=jit)
    def forward(*inputs):
        return layer(*inputs)

    @tf.function(jit_compile=jit)
    def training(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.square(layer(*inputs)))
        return tape.gradient(loss, [*inputs, layer.kernel.value])

    return {"forward": lambda: forward(*arguments), "training": lambda: training(*arguments)}


def fastest(functions: tuple[Callable, ...], runs: int) -> list[float]:
    """Seconds of the fastest run of each function; they take turns."""
    for function in functions:
        function()  # traces and compiles
    best = [float("inf")] * len(functions)
    for _ in range(runs):
        for position, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[position] = min(best[position], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="runs of each function, of which the fastest counts")
    runs = parser.parse_args().runs

    import keras
    import numpy as np

    import kerazoo as kz

    load = f"{os.getloadavg()[0]:.1f}"
    generator = np.random.default_rng(0)
    rows = []
    for size, channels, groups in CASES:
        x, offsets, modulation = (
            keras.ops.convert_to_tensor(generator.normal(size=(1, size, size, n)), "float32")
            for n in (channels, groups * 18, groups * 9)
        )
        for jit in (False, True):
            plain = passes(keras.layers.Conv2D(channels, 3, padding="same"), (x,), jit=jit)
            deformable = passes(
                kz.layers.DeformableConv2D(channels, 3, offset_groups=groups), (x, offsets, modulation), jit=jit
            )
            for name in plain:
                plain_s, deformable_s = fastest((plain[name], deformable[name]), runs)
                rows.append(
                    {
                        "map": f"{size}x{size}x{channels}",
                        "offset_groups": groups,
                        "compiler": "XLA" if jit else "none",
                        "pass": name,
                        "plain_ms": f"{1000 * plain_s:.2f}",
                        "deformable_ms": f"{1000 * deformable_s:.2f}",
                        "ratio": f"{deformable_s / plain_s:.1f}",
                        "load": load,
                    }
                )
    write("deformable_conv", rows, "tensorflow")


if __name__ == "__main__":
    main()
