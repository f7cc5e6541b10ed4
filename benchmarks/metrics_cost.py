"""What metrics add to a training step of ResNet50-UNet on images of 256 x 256: at most 3 % is the aim.

    python benchmarks/metrics_cost.py [--pairs 40] [--batch 4] [--threads 2]

One process holds one network, compiled once without metrics and once with each set of them; the steps take turns, so
that a busy machine slows all alike. The result is the median over rounds of the ratio to the step without metrics in
the same round, with its quartiles. `alone_ms` is the time of the compiled metrics by themselves on the same masks and
logits, which noise of the step does not touch: `alone_percent` is its share of the step.
"""

import argparse
import inspect
import statistics
import time
from collections.abc import Callable
from typing import Any

from machine import write

SIZE = 256


def sets_of_metrics(num_classes: int) -> dict[str, list[Any]]:
    """The metrics of a recipe, each one alone, and all of them."""
    import kerazoo as kz

    def build(name: str) -> Any:
        knows_classes = "num_classes" in inspect.signature(kz.metrics.METRICS[name]).parameters
        arguments = {"num_classes": num_classes} if knows_classes else {}
        return kz.metrics.create(name, ignore_class=255, **arguments)

    recipe = ["iou", "image_balanced_accuracy", "empty_false_positive_pixels"]
    names = kz.metrics.list()
    return {
        "of a recipe": [build(name) for name in recipe],
        **{name: [build(name)] for name in names},
        "all": [build(name) for name in names],
    }


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def alone(metrics: list[Any], masks: Any, logits: Any, runs: int) -> float:
    """Median seconds of one update and result of compiled metrics."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def update() -> list[Any]:
        for metric in metrics:
            metric.update_state(masks, logits)
        return [metric.result() for metric in metrics]

    update()
    return statistics.median(seconds(update) for _ in range(runs))


def measure(num_classes: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    import keras
    import numpy as np
    import tensorflow as tf

    import kerazoo as kz

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    shape = (arguments.batch, SIZE, SIZE)
    images = tf.constant(rng.random((*shape, 3), "float32") * 255)
    masks = rng.integers(0, max(2, num_classes), shape).astype("uint8")
    masks[::2] = 0
    masks = tf.constant(masks)
    model = kz.segmenter("resnet50", "unet", "mlf", num_classes=num_classes, image_shape=(SIZE, SIZE, 3))
    sets = {"none": [], **sets_of_metrics(num_classes)}
    models = {}
    for name in ["none", "of a recipe", "all"]:
        models[name] = keras.Model(model.inputs, model.outputs)
        models[name].compile(keras.optimizers.SGD(1e-3), loss=kz.losses.CrossEntropy(), metrics=sets[name])
        models[name].train_on_batch(images, masks)
    rounds = []
    for index in range(arguments.pairs):
        order = list(models) if index % 2 else list(models)[::-1]
        rounds.append({name: seconds(lambda n=name: models[n].train_on_batch(images, masks)) for name in order})
    logits = tf.constant(model.predict_on_batch(images))
    step = statistics.median(times["none"] for times in rounds)
    rows = []
    for name, metrics in sets.items():
        if not metrics:
            continue
        ratios = sorted(times[name] / times["none"] for times in rounds) if name in models else []
        percent = [f"{100 * (ratio - 1):+.1f}" for ratio in statistics.quantiles(ratios, n=4)] if ratios else [""] * 3
        time_alone = alone(metrics, masks, logits, 4 * arguments.pairs)
        rows.append(
            {
                "metrics": name,
                "classes": num_classes,
                "batch": arguments.batch,
                "threads": arguments.threads,
                "rounds": len(ratios) or "",
                "step_without_ms": f"{1e3 * step:.0f}",
                "adds_percent": percent[1],
                "adds_percent_lower_quartile": percent[0],
                "adds_percent_upper_quartile": percent[2],
                "alone_ms": f"{1e3 * time_alone:.2f}",
                "alone_percent": f"{100 * time_alone / step:.2f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    rows = [row for num_classes in (1, 3) for row in measure(num_classes, arguments)]
    write("metrics_cost", rows, "tensorflow")


if __name__ == "__main__":
    main()
