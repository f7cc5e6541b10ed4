"""What image labels teach a segmenter: CAM-β with and without smoothing, CAM-α, and masks, over seeds.

    python benchmarks/weak_study.py [--data synthetic] [--seeds 0-9] [--arm cam_beta …]
    python benchmarks/weak_study.py --data PATH        # the magnetic tile images: folders MT_Blowhole, …, MT_Free

A small ConvMixer on images of 64 x 64 pixels, so that one training takes seconds on a core. Data and split are the
same for all seeds; a seed is that of the initial weights, of the order of the images and of their augmentation. Each
seed that has finished is a row of `results/weak_study_DATA.csv`, and is not trained again. `docs/weak_study.md` says
what came out.

Seeds and table are those of `kerazoo study`; the arms are none of its recipes, which train with masks and judge by them
alone.

Settings were tried with other seeds (100 and 101) than those reported, and judged by the validation split.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, describe

from kerazoo.data.reader import Facts, Reader
from kerazoo.training.study import append_row, read_table, seeds_of

SIZE = 64
ARMS = ("cam_beta", "cam_beta_unsmoothed", "cam_alpha", "supervised")
RULES = ("image_labels", "half", "maximum", "masks")
SCORES = ("mcc", "iou", "precision", "recall", "cls_mcc")
LEARNING_RATE = 0.01
EPOCHS = {"synthetic": 12, "magnetic_tile": 16}


@dataclass(frozen=True, kw_only=True)
class Small(Reader):
    """Reader of the images of a source, one channel, at the size of the study and in memory."""

    source: Any
    size: int = SIZE
    standardize: bool = False  # each image to one mean and deviation, where the light differs
    num_classes: int = 1

    @property
    def ids(self) -> list[str]:
        return self.source.ids

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @cached_property
    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        from kerazoo.data import pipeline

        size = (self.size, self.size)
        batches = pipeline(self.source, image_size=size, batch_size=len(self.source), channels=1, shuffle=False)
        images, masks = next(iter(batches.as_numpy_iterator()))
        if self.standardize:
            centered = images - images.mean(axis=(1, 2, 3), keepdims=True, dtype="float32")
            spread = np.maximum(centered.std(axis=(1, 2, 3), keepdims=True), 1)
            images = np.clip(128 + 40 * centered / spread, 0, 255).astype(np.uint8)
        return images, masks.astype(np.uint8)

    @property
    def facts(self) -> Any:
        images, masks = self.samples
        return Facts(np.asarray(masks.any(axis=(1, 2)))[:, None], np.full((len(images), 3), images.shape[1:]))

    def image(self, index: int) -> np.ndarray:
        return self.samples[0][index]

    def mask(self, index: int) -> np.ndarray:
        return self.samples[1][index]

    def fingerprint(self, index: int) -> str:
        return f"{self.source.fingerprints[index]}-{self.size}-{self.standardize}"


def load(data: str) -> list[Any]:
    """Training, validation and test split."""
    import kerazoo as kz
    from kerazoo.data import Source

    if data == "synthetic":
        whole = kz.data.sources.synthetic(
            720, empty_fraction=0.5, seed=7, image_size=(SIZE, SIZE), radius=(0.08, 0.2), contrast=(0.2, 0.45)
        )
    else:
        whole = kz.data.sources.folder(data, mask_suffix=".png", mask_threshold=127)
    parts = whole.split(fractions=(0.5, 0.2, 0.3), seed=0)
    return [Source(Small(source=part, standardize=data != "synthetic")) for part in parts]


def build(arm: str, *, sigma: float) -> tuple[Any, Any, str]:
    """The model to train, its loss but for class weights, and what it is taught with: "label" or "mask"."""
    import keras

    import kerazoo as kz

    smooth = arm in ("cam_beta", "supervised")
    segmenter = kz.segmenter(
        kz.encoders.ConvMixer(width=32, blocks=4, kernel_size=5, patch_size=4, pointwise_residual=True),
        kz.decoders.Patch(width=16),
        kz.heads.Smooth(sigma=sigma) if smooth else kz.heads.Linear(),
        num_classes=1,
        image_shape=(SIZE, SIZE, 1),
    )
    if arm == "supervised":
        return segmenter, None, "mask"
    weak = kz.weak.cam_alpha if arm == "cam_alpha" else kz.weak.cam_beta
    return weak(segmenter), keras.losses.BinaryCrossentropy(from_logits=True), "label"


class Arm:
    """One way to train, compiled once: seeds start it again."""

    def __init__(self, name: str, train_split: Any, *, epochs: int, sigma: float):
        self.name, self.source, self.epochs, self.sigma = name, train_split, epochs, sigma
        self.model, loss, self.outputs = build(name, sigma=sigma)
        if loss is None:  # inverse frequencies; the mean weight of a pixel is 1
            import kerazoo as kz

            loss = kz.losses.CrossEntropy(class_weights=(0.5 / train_split.class_frequencies()).tolist())
        import keras

        steps = epochs * int(self.batches(0).cardinality())
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
        self.model.compile(keras.optimizers.Adam(rate), loss)

    def batches(self, seed: int) -> Any:
        import kerazoo as kz

        return kz.data.pipeline(
            self.source,
            image_size=(SIZE, SIZE),
            batch_size=16,
            sampler="under",
            augment=["flip", "gamma"],
            cache="memory",
            seed=seed,
            outputs=self.outputs,
        )

    def train(self, seed: int) -> Any:
        """The model, trained from the initial weights of this seed."""
        import keras

        keras.utils.set_random_seed(seed)
        self.model.set_weights(build(self.name, sigma=self.sigma)[0].get_weights())
        for variable in self.model.optimizer.variables:  # moments and iteration
            variable.assign(keras.ops.zeros_like(variable))
        self.model.fit(self.batches(seed), epochs=self.epochs, verbose=0)
        return self.model


def judge(model: Any, validation: Any, test: Any) -> Iterator[tuple[str, float]]:
    """Thresholds by rule, and scores by split, rule and name; `label` is the answer of the model about the image."""
    import kerazoo as kz
    from kerazoo.weak.maps import normalized

    half = kz.weak.Threshold(value=0.5, normalize="sigmoid", using="argument")
    rules = {"half": half} | {
        using: kz.weak.choose_threshold(model, validation, using=using, batch_size=64)
        for using in ("image_labels", "maximum", "masks")
    }
    for using in ("image_labels", "masks"):
        yield f"threshold_{using}", rules[using].value
    for split, source in (("val", validation), ("test", test)):
        truth = np.stack([source.mask(index) for index in range(len(source))])
        outputs = list(kz.weak.class_maps(model, source, normalize=None, batch_size=64))
        for using in RULES:
            how, value = rules[using].normalize, rules[using].value
            found = np.stack([normalized(one.maps, how)[..., 0] > value for one in outputs])
            for name, value in scores(truth, found):
                yield f"{split}_{using}_{name}", value
        labels = [one.label for one in outputs if one.label is not None]  # none of the supervised segmenter
        shown = np.asarray(np.stack(labels)[:, 0] > 0.5) if labels else None
        yield f"{split}_label_mcc", np.nan if shown is None else correlation(source.foreground, shown)


def scores(truth: np.ndarray, found: np.ndarray) -> Iterator[tuple[str, float]]:
    """Scores of pixels over all images together, and of images: one is found to show the class if any pixel is."""
    import kerazoo as kz

    logits = np.where(found, 1.0, -1.0)[..., None].astype("float32")
    for name in SCORES[:-1]:
        metric = kz.metrics.create(name, num_classes=1, images="all")
        metric.update_state(truth, logits)
        yield name, float(metric.result())
    yield SCORES[-1], correlation(*(np.asarray(masks.any(axis=(1, 2))) for masks in (truth, found)))


def correlation(truth: np.ndarray, found: np.ndarray) -> float:
    """Matthews correlation of images."""
    import kerazoo as kz

    metric = kz.metrics.create("mcc", num_classes=1)
    metric.update_state(truth[:, None, None].astype("uint8"), np.where(found, 1.0, -1.0)[:, None, None, None])
    return float(metric.result())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic", help="synthetic, or the directory of the magnetic tile images")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-9"), help="as 0-9 or 0,3,5")
    parser.add_argument("--arm", action="append", choices=ARMS, help="may be repeated; all by default")
    parser.add_argument("--epochs", type=int, help="instead of those of the study")
    parser.add_argument("--sigma", type=float, default=2.0, help="of the smoothing, in pixels")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the results")
    arguments = parser.parse_args()
    name = "synthetic" if arguments.data == "synthetic" else "magnetic_tile"
    path = arguments.results / f"weak_study_{name}.csv"
    splits = load(arguments.data)
    arms: dict[str, Arm] = {}
    machine = describe("tensorflow")
    machine["command"] = machine["command"].replace(arguments.data, name)
    epochs = arguments.epochs or EPOCHS[name]
    for seed in arguments.seeds:
        for arm in arguments.arm or ARMS:
            if any((row["arm"], row["seed"]) == (arm, str(seed)) for row in read_table(path)):
                continue
            if arm not in arms:
                arms[arm] = Arm(arm, splits[0], epochs=epochs, sigma=arguments.sigma)
            start = time.perf_counter()
            model = arms[arm].train(seed)
            seconds = time.perf_counter() - start
            numbers = {key: f"{value:.4f}" for key, value in judge(model, *splits[1:])}
            row = {
                "arm": arm,
                "seed": str(seed),
                "epochs": str(epochs),
                "train_s": f"{seconds:.1f}",
                **numbers,
                **machine,
            }
            append_row(path, row)
            print(arm, seed, f"{seconds:.0f} s, test MCC", numbers["test_image_labels_mcc"], flush=True)


if __name__ == "__main__":
    main()
