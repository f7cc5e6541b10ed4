"""Recipes: everything that decides a training run, except where the data lies and where the results go.

A recipe is a YAML file with the sections of `Recipe`. A part (source, encoder, decoder, head, loss, augmentation) is a
name, `unet`, or a name with its hyper-parameters, `{name: unet, skip: sum}`. Every name and every hyper-parameter is
checked when the recipe is read, so that a typing error ends in one sentence and not an hour later.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from kerazoo.arguments import warn_renamed
from kerazoo.training.faults import validated
from kerazoo.training.overrides import override, read_mapping
from kerazoo.training.parts import Part, Section, WeightedPart, check_source, create, near, registered
from kerazoo.training.phases import Phase, Positive, Schedule

Fraction = Annotated[float, Field(gt=0, lt=1)]


MONITORS = {"iou": "max", "image_balanced_accuracy": "max", "empty_false_positive_pixels": "min", "loss": "min"}
"""What is measured in every epoch, on training and validation images, and whether more or less of it is better."""


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


class Split(Section):
    """How the samples are divided into train, validation and test.

    Args:
        fractions: Shares of train, validation and test; their sum is 1.
        seed: Seed of the division.
        by: "image", or "group" for samples that must stay together; None is by group where the source has groups.
        stratify: Keep the share of foreground images equal in all three.
        train_fraction: Share of the training images that is used; the others are in no split.
    """

    fractions: tuple[Fraction, Fraction, Fraction] = (0.7, 0.15, 0.15)
    seed: int = 0
    by: Literal["image", "group"] | None = None
    stratify: bool = True
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0

    @pydantic.field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1.0) > 1e-6:
            raise ValueError(f"train, validation and test must sum to 1, received a sum of {sum(fractions):g}.")
        return fractions


class Data(Section):
    """Where samples come from, and their form at the model's input.

    Args:
        source: A function of `kerazoo.data.sources` with its keywords; not its root, which the command line gives.
        split: The division into train, validation and test.
        image_size: Height and width at the model's input, in pixels; one number is a square.
        channels: Channels at the model's input, or None for those of the first image.
        cache: "memory" keeps resized samples in memory; None reads them anew each epoch.
    """

    source: Annotated[Part, AfterValidator(check_source)]
    split: Split = Split()
    image_size: Annotated[tuple[Positive, Positive], BeforeValidator(_pair)]
    channels: Positive | None = None
    cache: Literal["memory"] | None = None


class Start(Section):
    """An earlier training to begin from; what it knows is taken, and a table says what is new.

    Args:
        path: Directory of the run, or a `.keras` file.
        checkpoint: Of a run: "best" or "last"; None is as its recipe says.
        new: Parts that are not taken. The layers of the head whose shape depends on the number of classes never are
            where that number differs.
    """

    path: str
    checkpoint: Literal["best", "last"] | None = None
    new: tuple[Literal["encoder", "decoder", "head", "aux_head"], ...] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Model(Section):
    """The segmenter; the number of classes comes from the data.

    Args:
        encoder: A name of `kerazoo.encoders.list()`.
        decoder: A name of `kerazoo.decoders.list()`.
        head: A name of `kerazoo.heads.list()`.
        weights: Weights of the encoder as in `kerazoo.segmenter`; None for random ones.
        preprocessing: Images are in 0-255, and the model normalizes them as its encoder wants.
        output_stride: Stride of the encoder's coarsest level, or None for what the decoder declares.
        depth: Levels of the encoder, or None for what the decoder declares.
        aux: Supervise every decoded level too, by `training.aux_weight`; the trained model is used without them.
        start: An earlier training to begin from, instead of `weights`, or None.
    """

    encoder: Annotated[Part, registered("encoders")]
    decoder: Annotated[Part, registered("decoders")]
    head: Annotated[Part, registered("heads")]
    weights: str | None = None
    preprocessing: bool = True
    output_stride: Literal[8, 16, 32] | None = None
    depth: Positive | None = None
    aux: bool = False
    start: Start | None = None

    @pydantic.field_validator("start")
    @classmethod
    def _or_weights(cls, start: Start | None, info: pydantic.ValidationInfo) -> Start | None:
        if start is not None and info.data.get("weights") is not None:
            raise ValueError("it replaces model.weights, which is also given: set weights to null.")
        return start


def _check_optimizer(optimizer: "Optimizer") -> "Optimizer":
    create("optimizers", optimizer, learning_rate=optimizer.learning_rate)
    if optimizer.schedule.final > optimizer.learning_rate:
        raise ValueError(
            f"schedule.final={optimizer.schedule.final:g} is above learning_rate={optimizer.learning_rate:g}."
        )
    return optimizer


class Optimizer(Part):
    """An optimizer with its keywords, and the schedule of its learning rate.

    Args:
        name: A name of `kerazoo.optimizers.list()`.
        learning_rate: At the start, or after the warm-up.
        schedule: What becomes of the learning rate over the run.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Schedule = Schedule()


class Freeze(Section):
    """What is not trained: its weights stay as they are.

    Args:
        part: "encoder", "decoder" or "head".
        batchnorm: Batch norm of that part: "frozen" with it, or "train".
    """

    part: Literal["encoder", "decoder", "head"] = "encoder"
    batchnorm: Literal["frozen", "train"] = "frozen"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"part": value} if isinstance(value, str) else value


class EarlyStopping(Section):
    """When to stop before the last epoch.

    Args:
        patience: Epochs without a better `training.monitor`.
        min_delta: What counts as better is better by more than this.
    """

    patience: Positive
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Training(Section):
    """The run.

    Args:
        epochs: Passes over the sampled training set; null with `phases`, which have epochs of their own.
        batch_size: Images per step, over all devices.
        precision: Keras dtype policy of the model.
        seed: Seed of weights, sampling and augmentation; the split has its own.
        sampler: "natural" for every image, "under" or "over" for as many foreground as empty ones.
        balance: What "under" and "over" balance: "foreground" against empty images, or "classes" against each other.
        balanced_batches: Half of every batch is foreground images, not only half of the epoch.
        augment: Augmentations of the training images, in order.
        pixel_weights: A name of `kerazoo.data.pixel_weights.list()` with its keywords: weights of the pixels in the
            loss, made from each training mask; of validation masks too where a term of the loss cannot do without.
            None for none.
        jit_compile: XLA: True, False, or "auto" for Keras's choice.
        strategy: "single" device, or all: "mirrored" on TensorFlow, "data_parallel" on JAX. "auto" takes all GPUs.
        freeze: The part that is not trained, or None; with `phases` each says it.
        phases: What is trained one after the other; empty is one phase of `epochs` and `freeze`, with the optimizer's
            learning rate and schedule.
        monitor: The column of metrics.csv that decides which epoch is best: `loss` or a metric, of validation with
            `val_` in front.
        early_stopping: When to stop before the last epoch, or before the last of each phase; or None.
        doctor: Look for faults in the first batches before the first epoch: warnings are printed and kept in
            doctor.json, errors stop the run.
        aux_weight: With `model.aux`, what the auxiliary maps count in the loss together, where the mask counts 1.
    """

    epochs: Positive | None = None
    batch_size: Positive
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    seed: Annotated[int, Field(ge=0)] = 0
    sampler: Literal["natural", "under", "over"] = "natural"
    balance: Literal["foreground", "classes"] = "foreground"
    balanced_batches: bool = False
    augment: tuple[Annotated[Part, registered("data.batches.augment")], ...] = ()
    pixel_weights: Annotated[Part, registered("data.batches.pixel_weights")] | None = None
    jit_compile: bool | Literal["auto"] = "auto"
    strategy: Literal["auto", "single", "mirrored", "data_parallel"] = "auto"
    freeze: Freeze | None = None
    phases: tuple[Phase, ...] = ()
    monitor: str = "val_iou"
    early_stopping: EarlyStopping | None = None
    doctor: bool = True
    aux_weight: Annotated[float, Field(gt=0)] = 0.4

    @pydantic.model_validator(mode="before")
    @classmethod
    def _former_names(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "weights" not in value:
            return value
        now = {key: item for key, item in value.items() if key != "weights"}
        if value["weights"] is not None:  # runs spell out every default
            if "pixel_weights" in now:
                raise ValueError("`weights` is the former name of `pixel_weights`: give `pixel_weights` alone.")
            warn_renamed("training.weights", "training.pixel_weights")
            now["pixel_weights"] = value["weights"]
        return now

    @pydantic.field_validator("monitor")
    @classmethod
    def _is_logged(cls, monitor: str) -> str:
        names = [prefix + name for prefix in ("val_", "") for name in MONITORS]
        if monitor not in names:
            raise ValueError(f"{monitor!r} is not measured{near(monitor, names)}")
        return monitor

    @pydantic.model_validator(mode="after")
    def _one_plan(self) -> Self:
        if (self.epochs is None) != bool(self.phases):
            raise ValueError(f"give `epochs`, or `phases` with epochs of their own; received epochs={self.epochs}.")
        if self.phases and self.freeze is not None:
            raise ValueError("with `phases` each of them says what it freezes; leave training.freeze out.")
        return self

    @property
    def mode(self) -> str:
        """Whether the best of `monitor` is its "max" or its "min"."""
        return MONITORS[self.monitor.removeprefix("val_")]


class Evaluation(Section):
    """How the trained model is judged.

    Args:
        checkpoint: "best", the epoch with the best `training.monitor` on the validation split; or "last", which is the
            better choice where that split has few foreground images and the learning rate ends near zero.
        threshold: `pixel_threshold` of `kerazoo.inference.DecisionRule`.
        bootstrap: Resamplings of the images behind each confidence interval; 0 for none.
        confidence: Coverage of the intervals.
        surface: Compare borders too: `boundary_iou` and `hausdorff_95`, over images with foreground.
        spacing: Height and width of a pixel at `data.image_size` in mm, so that distances are in mm; None for pixels.
        gallery: Pictures in the gallery.
    """

    checkpoint: Literal["best", "last"] = "best"
    threshold: Fraction = 0.5
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    confidence: Fraction = 0.95
    surface: bool = False
    spacing: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    gallery: Annotated[int, Field(ge=0)] = 12


class Recipe(Section):
    """A training run, complete but for the data's place.

    Args:
        name: What tables and reports call the run; the file's name if the file does not say.
        data: Source, split and image size.
        model: Encoder, decoder, head.
        loss: Terms of the loss; their weighted sum is minimized.
        optimizer: Optimizer and schedule.
        training: Epochs, batches, precision, sampling.
        evaluation: Checkpoint, threshold, intervals, gallery.
    """

    name: str = "recipe"
    data: Data
    model: Model
    loss: Annotated[tuple[Annotated[WeightedPart, registered("losses")], ...], Field(min_length=1)]
    optimizer: Annotated[Optimizer, AfterValidator(_check_optimizer)]
    training: Training
    evaluation: Evaluation = Evaluation()

    @pydantic.field_validator("training")
    @classmethod
    def _phases_are_whole(cls, training: Training, info: pydantic.ValidationInfo) -> Training:
        if "optimizer" in info.data:
            for number, phase in enumerate(training.phases):
                try:
                    phase.completed(info.data["optimizer"].learning_rate, info.data["optimizer"].schedule)
                except ValueError as error:
                    raise ValueError(f"phases.{number}: {error}") from error
        return training

    @pydantic.field_validator("training")
    @classmethod
    def _weights_fit_the_loss(cls, training: Training, info: pydantic.ValidationInfo) -> Training:
        for part in info.data.get("loss", ()):
            loss = create("losses", part)
            if training.pixel_weights is None and loss.needs_weight:
                raise ValueError(
                    f"the loss {part.name!r} needs weights of the pixels, received pixel_weights=null. Set "
                    "training.pixel_weights to a name of kerazoo.data.pixel_weights.list(), such as boundary."
                )
            if training.pixel_weights is not None and loss.weighted and not loss.per_pixel:
                raise ValueError(
                    f"training.pixel_weights are of pixels, and the loss {part.name!r} has one value per image. Write "
                    f"{{name: {part.name}, weighted: false}}."
                )
        return training

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the training, each with its learning rates and schedule."""
        training, freeze = self.training, self.training.freeze
        one = {"epochs": training.epochs, "freeze": freeze and freeze.part, "batchnorm": freeze and freeze.batchnorm}
        phases = training.phases or (Phase(**one),)
        return tuple(phase.completed(self.optimizer.learning_rate, self.optimizer.schedule) for phase in phases)

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Self:
        """Read a recipe from YAML.

        Args:
            path: The file.
            overrides: Assignments such as `training.epochs=2`, or a mapping of fields to values, applied before the
                recipe is checked.

        Returns: The recipe.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no YAML mapping, or a field is wrong (all wrong fields are named).
        """
        path = Path(path)
        content = read_mapping(path, "recipe", cls.model_fields)
        content.setdefault("name", path.stem)
        return cls.parse(override(content, overrides), origin=str(path))

    @classmethod
    def parse(cls, content: Mapping[str, Any], *, origin: str = "recipe") -> Self:
        """Check `content`, a mapping of sections; `origin` is how errors call it.

        Raises:
            ValueError: A field is unknown, missing or wrong (all such fields are named).
        """
        return validated(cls, content, f"{origin} is not a valid recipe")

    def override(self, *assignments: str) -> Self:
        """A copy with assignments such as `training.epochs=2` applied.

        Raises:
            ValueError: An assignment has no `=`, names no field, or its value is wrong.
        """
        return self.parse(override(_lists(self.model_dump()), assignments), origin=f"recipe {self.name!r}")

    def dump(self, path: str | Path) -> None:
        """Write the recipe as YAML, with every default spelled out; whole or not at all."""
        text, path = yaml.safe_dump(_lists(self.model_dump()), sort_keys=False), Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
