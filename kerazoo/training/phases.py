"""What a training does one after the other: which parts train, for how long, at which rates."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import keras
import pydantic
from pydantic import BeforeValidator, Field

from kerazoo.training.parts import Section
from kerazoo.transfer import TrainableTable, set_trainable, trainable_table

Positive = Annotated[int, Field(gt=0)]
REST = "rest"
"""In a mapping of learning rates: all parts that it does not name."""


class Schedule(Section):
    """The learning rate over the run, or over a phase of it.

    Args:
        name: "cosine" falls from the learning rate to `final`, "poly" as (1 - share of the steps) ** `power`;
            "constant" does not.
        final: The learning rate at the end of a cosine or poly.
        power: Exponent of poly.
        warmup_epochs: Epochs over which the learning rate first rises from 0, counted in the run or phase.
    """

    name: Literal["cosine", "poly", "constant"] = "constant"
    final: Annotated[float, Field(ge=0)] = 0.0
    power: Annotated[float, Field(gt=0)] = 0.9
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class Frozen(Section):
    """The layers that a phase does not train.

    Args:
        part: "encoder", "decoder" or "head".
        up_to_stride: Of an encoder, only the layers that levels of this stride and finer ones need; None for all.
    """

    part: Literal["encoder", "decoder", "head"] = "encoder"
    up_to_stride: Positive | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"part": value} if isinstance(value, str) else value


def _by_part(rates: Any) -> Any:
    return {REST: rates} if isinstance(rates, int | float) else rates


class Phase(Section):
    """A stretch of a training with one set of frozen layers and one optimizer, which starts anew.

    Args:
        epochs: Passes over the sampled training set; early stopping may end the phase before.
        freeze: The part that is not trained, or None.
        batchnorm: Batch norm of that part, of the encoder if none is: "frozen" keeps it at its moving statistics, which
            then do not move, and freezes its scale and offset; "train" trains it even where the rest is frozen; None is
            as the layers around it.
        learning_rate: A number, or one for each part, {encoder: 1e-4, rest: 1e-3}; None takes the optimizer's.
        layer_decay: What each stage of the encoder has of the learning rate of the one after it, from the coarsest,
            which has this much of `learning_rate`, to the stem; None for one rate.
        schedule: What becomes of all these rates over the phase; None takes the optimizer's.
    """

    epochs: Positive
    freeze: Frozen | None = None
    batchnorm: Literal["frozen", "train"] | None = None
    learning_rate: Annotated[dict[str, Annotated[float, Field(gt=0)]] | None, BeforeValidator(_by_part)] = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    schedule: Schedule | None = None

    @pydantic.field_validator("learning_rate")
    @classmethod
    def _has_rest(cls, rates: dict[str, float] | None) -> dict[str, float] | None:
        if rates is not None and REST not in rates:
            raise ValueError(f"rates by part need one for the {REST!r} of the model; received {rates}.")
        return rates

    def completed(self, learning_rate: float, schedule: Schedule) -> "Phase":
        """The phase with the optimizer's settings in place of what it leaves to them.

        Args:
            learning_rate: Of the optimizer.
            schedule: Of the optimizer.

        Returns: The phase; it is unchanged where it has its own.

        Raises:
            ValueError: The schedule ends above the learning rate.
        """
        rates = {REST: learning_rate} if self.learning_rate is None else self.learning_rate
        whole = self.model_copy(update={"learning_rate": rates, "schedule": self.schedule or schedule})
        if whole.over_time.final > whole.rates[REST]:
            raise ValueError(f"schedule.final={whole.over_time.final:g} is above learning_rate={whole.rates[REST]:g}.")
        return whole

    @property
    def rates(self) -> dict[str, float]:
        """Learning rate by part, of a completed phase."""
        return self.learning_rate or {}

    @property
    def over_time(self) -> Schedule:
        """Schedule of a completed phase."""
        return self.schedule or Schedule()

    def __str__(self) -> str:
        parts = [f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"]
        if self.freeze is not None:
            stride = self.freeze.up_to_stride
            parts.append(f"{self.freeze.part}{f' up to stride {stride}' if stride else ''} frozen")
        if self.batchnorm is not None:
            owner = "its" if self.freeze is not None else "the encoder's"
            parts.append(f"{owner} batch norm {'frozen' if self.batchnorm == 'frozen' else 'trained'}")
        return ", ".join(parts)


def set_up(model: keras.Model, phase: Phase) -> TrainableTable:
    """Freeze and thaw a model as a phase says; it has to be compiled again afterwards.

    Returns: What trains now.

    Raises:
        ValueError: The model lacks the part, or a level that is so fine; or nothing is left to train.
    """
    frozen = phase.freeze or Frozen()
    set_trainable(
        model,
        frozen=frozen.part if phase.freeze else None,
        up_to_stride=frozen.up_to_stride,
        batchnorm=phase.batchnorm,
    )
    table = trainable_table(model)
    if not table.trainable:
        raise ValueError(f"Nothing trains in the phase of {phase}: the model has nothing but the {frozen.part}.")
    return table


def describe(model: keras.Model, phase: Phase, rates: Mapping[str, float]) -> dict[str, Any]:
    """What the run keeps of a phase that the model is set up for; `rates` are by group, as the optimizer has them."""
    schedule = phase.over_time
    over_time = schedule.name if schedule.name == "constant" else f"{schedule.name} to {schedule.final:g}"
    if schedule.warmup_epochs:
        over_time += f" after {schedule.warmup_epochs:g} epochs of warm-up"
    return {
        "phase": str(phase),
        "learning_rates": dict(rates),
        "schedule": over_time,
        "parts": [
            {"part": row.part, "trainable": row.trainable, "total": row.total} for row in trainable_table(model).rows
        ],
    }
