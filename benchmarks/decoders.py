"""Every decoder at 512 x 512: FLOPs, parameters, time and peak memory, beside segmentation_models_pytorch's.

    python benchmarks/decoders.py --peer PATH_OF_A_PYTHON_WITH_SMP

Two images, float32, random weights, one logit per pixel; the encoder is a ResNet-18, or what a decoder with switches or
margins needs. First come our decoders with their defaults and a linear head (a hypercolumn where there
is no decoder); then, with `--peer`, each architecture of
smp with smp's defaults, ours made of the same arguments (the weights of one fit the other). Every measurement is a
process of its own, ours on TensorFlow, compiled by `predict_on_batch` and `train_on_batch`, smp's eager PyTorch, as its
users run them; they take turns, so that a busy machine slows both alike.

- `gflops`: multiplications and additions of convolutions and matrix products in one forward pass of one image, counted
  for both by PyTorch's `FlopCounterMode`; resizing with aligned corners is a matrix product of ours.
- `parameters`: trainable ones of the whole model, and of all but the encoder.
- `inference_ms`, `training_ms`: medians, training with Adam and binary cross-entropy; training only beside smp.
- `inference_mib`, `training_mib`: highest resident memory of the process from then on, less what it had before the
  first step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import write

BATCH, SIZE = 2, 512
ROUNDS, RUNS = 1, 2
ENCODER = "resnet18"
OTHER_ENCODERS = {"deconvnet": "vgg11_bn", "segnet": "vgg11_bn", "unet_original": "unet_contracting"}
OTHER_HEADS = {"identity": "hypercolumn"}  # a linear one would read the finest level alone


def median_ms(step: Callable[[], Any]) -> float:
    step()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def forget_peak() -> float:
    """Resident memory now, in MiB, from which on the peak counts (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def make(name: str) -> Any:
    """Our model: of a decoder's name, or of the name of a class of smp."""
    import kerazoo as kz
    from kerazoo.convert.smp_designs import DESIGNS

    if name in DESIGNS:
        design = DESIGNS[name]()
        return kz.segmenter(
            ENCODER,
            design.decoder,
            design.head,
            num_classes=1,
            depth=design.depth,
            output_stride=design.output_stride,
            image_shape=(SIZE, SIZE, 3),
        )
    encoder = OTHER_ENCODERS.get(name, ENCODER)
    head = OTHER_HEADS.get(name, "linear")
    return kz.segmenter(encoder, name, head, num_classes=1, image_shape=(SIZE, SIZE, 3))


def count(names: list[str]) -> dict[str, dict[str, float]]:
    """Operations and parameters of each, on the PyTorch backend."""
    import keras
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.from_numpy(np.zeros((1, SIZE, SIZE, 3), "float32"))
    counted = {}
    for name in names:
        model = make(name)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(image, training=False)
        sizes = {layer.name: sum(int(w.value.numel()) for w in layer.trainable_weights) for layer in model.layers}
        whole = sum(sizes.values())
        own = whole - sizes["encoder"]
        counted[name] = {"gflops": counter.get_total_flops() / 1e9, "all": whole / 1e6, "own": own / 1e6}
        keras.backend.clear_session()
    return counted


def measure(name: str, threads: int, *, training: bool) -> dict[str, float | None]:
    """Time and memory, on TensorFlow."""
    import keras
    import numpy as np
    import tensorflow as tf

    import kerazoo as kz

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    generator = np.random.default_rng(0)
    image = tf.constant(generator.uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype("float32"))
    mask = tf.constant(generator.integers(0, 2, (BATCH, SIZE, SIZE)).astype("float32"))
    model = make(name)
    model.compile(keras.optimizers.Adam(), loss=kz.losses.CrossEntropy())
    before = forget_peak()
    inference = median_ms(lambda: model.predict_on_batch(image))
    inference_mib = peak_mib() - before
    values: dict[str, float | None] = {"inference_ms": inference, "inference_mib": inference_mib}
    values["training_ms"] = median_ms(lambda: model.train_on_batch(image, mask)) if training else None
    values["training_mib"] = peak_mib() - before if training else None
    return values


def run(*command: str, **environment: str) -> dict[str, Any]:
    """What a process prints in its last line."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: None if value is None else statistics.median(result[key] for result in results)
        for key, value in results[0].items()
    }


def row(what: str, library: str, encoder: str, values: dict[str, Any]) -> dict[str, object]:
    training = values["training_ms"] is not None
    return {
        "decoder": what,
        "library": library,
        "encoder": encoder,
        "gflops": f"{values['gflops']:.1f}",
        "parameters_m": f"{values['all']:.2f}",
        "decoder_parameters_m": f"{values['own']:.2f}",
        "inference_ms": f"{values['inference_ms']:.0f}",
        "inference_mib": f"{values['inference_mib']:.0f}",
        "training_ms": f"{values['training_ms']:.0f}" if training else "",
        "training_mib": f"{values['training_mib']:.0f}" if training else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python interpreter of an environment with segmentation_models_pytorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names, instead of all; writes no file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--count", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from kerazoo.convert.smp_designs import DESIGNS

    if arguments.count or arguments.measure:
        if arguments.count:
            print(json.dumps(count(arguments.count)))
        else:
            print(json.dumps(measure(arguments.measure, arguments.threads, training=arguments.measure in DESIGNS)))
        return
    import kerazoo as kz

    threads, own = str(arguments.threads), (sys.executable, __file__)
    peer = (arguments.peer, str(Path(__file__).parent / "peers" / "smp_decoders.py")) if arguments.peer else ()
    names = [*kz.decoders.DECODERS, *(DESIGNS if peer else ())]
    names = [name for name in names if not arguments.only or name in arguments.only]
    counts = run(*own, "--count", *names, KERAS_BACKEND="torch")
    rows = []
    for name in names:
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(run(*own, "--measure", name, "--threads", threads, KERAS_BACKEND="tensorflow"))
            if name in DESIGNS:
                theirs.append(run(*peer, name, threads))
        encoder = OTHER_ENCODERS.get(name, ENCODER)
        new = [row(name, "kerazoo", encoder, counts[name] | medians(ours))]
        if theirs:
            new.append(row(name, "smp", encoder, medians(theirs)))
        for line in new:
            print(*line.values(), file=sys.stderr, flush=True)
        rows += new
    if not arguments.only:
        write("decoders" if peer else "decoders_alone", rows, "tensorflow")


if __name__ == "__main__":
    main()
