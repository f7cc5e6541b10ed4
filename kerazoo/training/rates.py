"""The optimizer of a phase: one learning rate, or one for each part and for each stage of the encoder."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from kerazoo.layers.leaves import leaf_layers
from kerazoo.training.parts import near
from kerazoo.training.phases import REST, Phase, Schedule
from kerazoo.transfer import stages


class Group(NamedTuple):
    """Variables that share a learning rate.

    Attributes:
        name: "rest", the name of a part, or of a stage as `encoder_stride_8`.
        rate: The learning rate, before any schedule.
        paths: Paths of the variables.
    """

    name: str
    rate: float
    paths: tuple[str, ...]


def groups(model: keras.Model, phase: Phase) -> list[Group]:
    """The trained variables of a model by learning rate, the rest last.

    Raises:
        ValueError: A rate is of a part that the model lacks, or two groups have variables of one path, which Keras's
            `MultiOptimizer` cannot tell apart.
    """
    parts = [layer for layer in model.layers if layer.weights]
    names = [layer.name for layer in parts]
    for name in phase.rates:
        if name not in (*names, REST):
            raise ValueError(f"learning_rate: the model {model.name!r} has no part {name!r}{near(name, names)}")
    found: dict[str, Group] = {}
    for part in parts:
        name = part.name if part.name in phase.rates else REST
        divided = phase.layer_decay is not None and part.name == "encoder"
        for group in _stages(part, phase) if divided else [Group(name, phase.rates[name], _trained([part]))]:
            if group.paths:
                before = found.pop(group.name, Group(group.name, group.rate, ()))
                found[group.name] = group._replace(paths=before.paths + group.paths)
    ordered = sorted(found.values(), key=lambda group: group.name == REST)
    paths = [path for group in ordered for path in group.paths]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if len(ordered) > 1 and twice:
        raise ValueError(
            f"Rates by part need variables with paths of their own, and {twice[:3]} are there twice. Build one of the "
            "parts with other names of layers, or give one learning rate."
        )
    return ordered


def _stages(encoder: Any, phase: Phase) -> list[Group]:
    """Groups of the encoder's stages, fine to coarse."""
    rate, decay = phase.rates.get("encoder", phase.rates[REST]), phase.layer_decay or 1.0
    by_stage = stages(encoder)
    leaves = {id(leaf): leaf for leaf in leaf_layers(encoder)}
    return [
        Group(
            f"encoder_stride_{stride}",
            rate * decay ** (len(by_stage) - position),
            _trained([leaf for key, leaf in leaves.items() if key in layers]),
        )
        for position, (stride, layers) in enumerate(by_stage.items())
    ]


def _trained(layers: list[Any]) -> tuple[str, ...]:
    return tuple(variable.path for layer in layers for variable in layer.trainable_variables)


def make_optimizer(
    model: keras.Model,
    phase: Phase,
    create: Callable[..., keras.optimizers.Optimizer],
    *,
    steps_per_epoch: int,
) -> keras.optimizers.Optimizer:
    """The optimizer of a phase for a model that is set up for it; a `MultiOptimizer` if there are several rates.

    Args:
        model: The model.
        phase: A completed phase.
        create: Makes an optimizer from the keyword `learning_rate`, and with several of them `name`.
        steps_per_epoch: Batches of an epoch, which the schedule is counted in.
    """
    steps = {"steps_per_epoch": steps_per_epoch, "epochs": phase.epochs}
    *others, last = groups(model, phase)
    if not others:
        return create(learning_rate=over_time(last.rate, phase.over_time, share=1.0, **steps))
    highest = phase.rates[REST]
    made = {
        group.name: create(
            learning_rate=over_time(group.rate, phase.over_time, share=group.rate / highest, **steps), name=group.name
        )
        for group in (*others, last)
    }
    patterns = {"|".join(re.escape(path) for path in group.paths): made[group.name] for group in others}
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(made[last.name], patterns))


def over_time(rate: float, schedule: Schedule, *, share: float = 1.0, epochs: int, steps_per_epoch: int) -> Any:
    """A learning rate over the steps of a phase: a number, or a schedule of Keras.

    Args:
        rate: After the warm-up.
        schedule: What becomes of it.
        share: Of the rate that the schedule's `final` belongs to, which `rate` is: all rates fall alike.
        epochs: Of the phase.
        steps_per_epoch: Batches of an epoch.
    """
    from kerazoo.optimizers import WarmUp

    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    steps, final = max(1, epochs * steps_per_epoch - warmup), schedule.final * share
    schedules = keras.optimizers.schedules
    if schedule.name == "poly":
        falling = schedules.PolynomialDecay(rate, steps, final, power=schedule.power)
        return WarmUp(falling, steps=warmup) if warmup else falling
    if schedule.name == "constant" and not warmup:
        return rate
    return schedules.CosineDecay(
        0.0 if warmup else rate,
        decay_steps=steps,
        alpha=final / rate if schedule.name == "cosine" else 1.0,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


def by_group(optimizer: Any) -> list[Any]:
    """The optimizers of the groups, that of the rest last; a model's only optimizer is that of the rest."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer.optimizers if isinstance(optimizer, keras.optimizers.MultiOptimizer) else [optimizer]


def current_rates(optimizer: Any) -> dict[str, float]:
    """Learning rates at the moment: `learning_rate`, of the rest, and `learning_rate_<group>` of each other group."""
    *others, last = by_group(optimizer)
    rates = {f"learning_rate_{one.name}": one for one in others} | {"learning_rate": last}
    return {name: float(keras.ops.convert_to_numpy(one.learning_rate)) for name, one in rates.items()}
