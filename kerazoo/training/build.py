"""From the sections of a recipe to Keras objects: datasets, model, loss, optimizer."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import keras

from kerazoo.training.parts import create
from kerazoo.training.phases import Phase
from kerazoo.training.rates import make_optimizer
from kerazoo.training.recipe import Recipe

if TYPE_CHECKING:
    from kerazoo.data.source import Source


def make_batches(
    recipe: Recipe,
    source: "Source",
    *,
    channels: int,
    train: bool,
    outputs: str | keras.Model = "mask",
    weigh: bool = False,
) -> Any:
    """The dataset of a source: drawn and augmented for training, else every image once in order.

    `outputs` is as in `kerazoo.data.pipeline`: "mask", or the model that is trained. `weigh` adds the recipe's
    `pixel_weights`, if it has any.
    """
    from kerazoo.data import pipeline

    settings = recipe.training
    form: dict[str, Any] = {
        "image_size": recipe.data.image_size,
        "batch_size": settings.batch_size,
        "channels": channels,
        "cache": recipe.data.cache,
        "seed": settings.seed,
        "outputs": outputs,
    }
    if weigh and settings.pixel_weights:
        form["pixel_weights"] = create("data.batches.pixel_weights", settings.pixel_weights)
    if not train:
        return pipeline(source, shuffle=False, **form)
    return pipeline(
        source,
        sampler=settings.sampler,
        balance=settings.balance,
        balanced_batches=settings.balanced_batches,
        augment=[create("data.batches.augment", part) for part in settings.augment],
        **form,
    )


@contextmanager
def plain_data_errors() -> Iterator[None]:
    """Raises the ValueError of a source (a corrupt file, a wrong mask) and not the one that tf.data wraps it in."""
    try:
        yield
    except Exception as error:
        inner = re.search(r"(?m)(?:^|}} )\w*Error: (.+)$", str(getattr(error, "message", "")))
        if type(error).__module__.startswith("tensorflow.") and inner:
            raise ValueError(inner[1]) from error
        raise


def build_model(recipe: Recipe, *, num_classes: int, channels: int) -> keras.Model:
    """The segmenter of a recipe for images of any size, under the recipe's precision."""
    from kerazoo.compose import segmenter

    parts, precision = recipe.model, keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.training.precision)
    try:
        return segmenter(
            create("encoders", parts.encoder),
            create("decoders", parts.decoder),
            create("heads", parts.head),
            num_classes=num_classes,
            weights=parts.weights,
            image_shape=(None, None, channels),
            preprocessing=parts.preprocessing,
            output_stride=parts.output_stride,
            depth=parts.depth,
            aux=parts.aux,
        )
    finally:
        keras.config.set_dtype_policy(precision)


def compile_model(
    recipe: Recipe, model: keras.Model, source: "Source", *, steps_per_epoch: int, phase: Phase | None = None
) -> None:
    """Compile with the recipe's loss, the optimizer of a phase (None: the first), and metrics of pixels and images."""
    from kerazoo import losses, metrics

    common: dict[str, Any] = {"ignore_class": source.ignore_class}
    if source.num_classes == 1:
        common["threshold"] = recipe.evaluation.threshold
    loss = make_loss(recipe, source.ignore_class)
    measured = [
        metrics.IoU(source.num_classes, **common),
        metrics.ImageBalancedAccuracy(**common),
        metrics.EmptyFalsePositivePixels(**common),
    ]
    aux = recipe.model.aux
    model.compile(
        optimizer=make_optimizer(
            model,
            phase or recipe.phases[0],
            partial(create, "optimizers", recipe.optimizer),
            steps_per_epoch=steps_per_epoch,
        ),
        loss=losses.deep_supervision(loss, model, weight=recipe.training.aux_weight) if aux else loss,
        metrics={"mask": measured} if aux else measured,
        jit_compile=recipe.training.jit_compile,
    )


def make_loss(recipe: Recipe, ignore_class: int | None = None) -> keras.losses.Loss:
    """The weighted sum of the recipe's losses; the data's `ignore_class` goes to every term that knows one."""
    terms = []
    for part in recipe.loss:
        ignore = {} if ignore_class is None or "ignore_class" in part.options else {"ignore_class": ignore_class}
        loss = create("losses", part, **ignore)
        terms.append(loss if part.weight == 1 else part.weight * loss)
    return sum(terms[1:], start=terms[0])


def needs_weights(recipe: Recipe) -> bool:
    """Whether a term of the loss cannot do without weights of the pixels."""
    return any(create("losses", part).needs_weight for part in recipe.loss)
