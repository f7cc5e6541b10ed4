"""Fit a model in phases from Python: feature extraction, then fine-tuning."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

import keras
import numpy as np

from kerazoo.data.batches.epochs import epochs_of
from kerazoo.outputs import mask_output
from kerazoo.training.callbacks import AverageWeights
from kerazoo.training.faults import validated
from kerazoo.training.phases import Phase, Schedule, set_up
from kerazoo.training.rates import by_group, groups, make_optimizer


def fit_phases(
    model: keras.Model,
    data: Any,
    *,
    phases: Sequence[Phase | Mapping[str, Any]],
    optimizer: keras.optimizers.Optimizer | None = None,
    loss: Any = None,
    metrics: Any = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    jit_compile: bool | str = "auto",
    verbose: int | str = "auto",
) -> list[keras.callbacks.History]:
    """Train a model in phases, each with what is frozen in it and its learning rates.

    Before each phase a table of what trains is printed. Every phase starts with a new optimizer. Epochs are counted on
    from phase to phase.

    Args:
        model: Model of `kerazoo.segmenter`, or any with layers of those names. Where it is compiled, loss and metrics
            are taken from there unless they are given.
        data: `(train, validation)`, two datasets of images and masks such as `kerazoo.data.pipeline` gives; or train
            alone.
        phases: `Phase`s, or mappings of their fields: `dict(epochs=5, freeze="encoder", learning_rate=1e-3)`.
        optimizer: Its kind and settings are those of every phase; its learning rate is that of phases without one. None
            is the model's where it is compiled, else `kerazoo.optimizers.RAdam()`. With `use_ema` the averaged weights
            are validated, and each phase begins and ends with them.
        loss: As in `compile`; None is the model's where it is compiled, else cross-entropy + 0.1 × foreground Dice.
        metrics: Likewise; else IoU and the balanced accuracy of images.
        callbacks: As in `fit`, for all phases.
        jit_compile: As in `compile`.
        verbose: As in `fit`; 0 does not print the tables either.

    Returns: The history of each phase.

    Raises:
        ValueError: `phases` is empty or a phase does not fit the model, or `data` is none of the two.
    """
    from kerazoo.data import PinEpoch
    from kerazoo.optimizers import RAdam

    if not phases:
        raise ValueError('`phases` must have at least one phase, such as dict(epochs=5, freeze="encoder").')
    train, validation = _datasets(data)
    chosen = _compilation(model, loss, metrics)
    if optimizer is None:
        optimizer = model.optimizer if model.compiled else RAdam()
    *_, template = by_group(optimizer)
    rate = float(keras.ops.convert_to_numpy(template.learning_rate))
    plan = [
        phase if isinstance(phase, Phase) else validated(Phase, phase, f"phases[{number}] is not a valid phase")
        for number, phase in enumerate(phases)
    ]
    plan = [phase.completed(rate, Schedule()) for phase in plan]
    for phase in plan:  # all before the first trains
        set_up(model, phase)
        groups(model, phase)
    fixed = [PinEpoch(train)] if epochs_of(train) else []  # so that every backend shows one epoch after the other
    fixed += [*callbacks, *([AverageWeights()] if template.use_ema else [])]
    histories, done = [], 0
    for number, phase in enumerate(plan, 1):
        table = set_up(model, phase)
        if verbose != 0:
            print(f"phase {number} of {len(plan)}: {phase}\n{table}")
        made = make_optimizer(model, phase, _copies(template), steps_per_epoch=len(train))
        model.compile(made, jit_compile=jit_compile, **chosen)
        model.optimizer.build(model.trainable_variables)  # or TensorFlow traces the step twice
        history = model.fit(
            train,
            validation_data=validation,
            epochs=done + phase.epochs,
            initial_epoch=done,
            callbacks=fixed,
            verbose=verbose,
        )
        histories.append(history)
        done += phase.epochs
    return histories


def _datasets(data: Any) -> tuple[Any, Any]:
    train, validation = data if isinstance(data, tuple | list) and len(data) == 2 else (data, None)
    for dataset in (train, validation):
        if dataset is not None and (isinstance(dataset, np.ndarray) or not isinstance(dataset, Sized)):
            raise ValueError(
                "`data` must be a dataset of batches, or (train, validation) of two, each of a known length, such as "
                f"kz.data.pipeline(…) gives; received {type(dataset).__name__}."
            )
    return train, validation


def _compilation(model: keras.Model, loss: Any, metrics: Any) -> dict[str, Any]:
    """Loss and metrics: those given, else the model's, else those that suit a segmenter."""
    from kerazoo import losses
    from kerazoo.metrics import ImageBalancedAccuracy, IoU

    if model.compiled:
        config = keras.saving.deserialize_keras_object(model.get_compile_config())
        chosen = {name: config.get(name) for name in ("loss", "loss_weights", "metrics", "weighted_metrics")}
    else:
        chosen = {
            "loss": losses.CrossEntropy() + 0.1 * losses.ForegroundDice(),
            "metrics": [IoU(mask_output(model).shape[-1]), ImageBalancedAccuracy()],
        }
        if isinstance(model.output, Mapping):
            chosen = {name: {"mask": value} for name, value in chosen.items()}
    given = {"loss": loss, "metrics": metrics}
    return chosen | {name: value for name, value in given.items() if value is not None}


def _copies(template: keras.optimizers.Optimizer) -> Callable[..., keras.optimizers.Optimizer]:
    """Makes optimizers of one kind with the same settings, by learning rate and name."""

    def create(*, learning_rate: Any, **name: str) -> keras.optimizers.Optimizer:
        rate = keras.saving.serialize_keras_object(learning_rate)
        return type(template).from_config({**template.get_config(), "learning_rate": rate, **name})

    return create
