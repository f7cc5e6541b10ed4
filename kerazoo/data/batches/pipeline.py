"""From a source to batches for `fit`: draw, decode in parallel, resize, batch, augment, prefetch.

The order of an epoch and the seeds of its augmentation are drawn in NumPy from (seed, epoch), so the batches are the
same for any number of workers. TensorFlow is imported when a pipeline is made, also where Keras runs on JAX or PyTorch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerazoo.arguments import check_choice, check_whole, warn_renamed
from kerazoo.data.batches.epochs import Epochs, register
from kerazoo.data.batches.loading import Loader
from kerazoo.data.batches.pixel_weights import resolve
from kerazoo.data.batches.sampling import EpochSampler, Order, audit_order, strata
from kerazoo.data.source import Source
from kerazoo.types import AUX_PREFIX

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerazoo.data.batches.warps import Crop

HEADS = ("mask", "label")


def pipeline(
    source: Source,
    *,
    image_size: tuple[int, int] | None,
    batch_size: int,
    sampler: str = "natural",
    balance: str = "foreground",
    balanced_batches: bool = False,
    augment: "Sequence[str | keras.layers.Layer | Crop]" = (),
    seed: int = 0,
    outputs: "str | Iterable[str] | keras.Model" = "mask",
    pixel_weights: str | Callable[..., np.ndarray] | None = None,
    cache: str | Path | None = None,
    channels: int | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    skip_batches: int = 0,
    workers: int | None = None,
    weights: str | Callable[..., np.ndarray] | None = None,
) -> "tf.data.Dataset":
    """Make a finite dataset of (images, masks) that draws a new epoch each time it is iterated.

    Its cardinality is known. Pass `PinEpoch(dataset)` to `fit` to make epoch k show the same samples also after a
    resume. A balancing sampler prints once what it does.

    Args:
        source: The samples.
        image_size: (height, width) to which images (bilinear, antialiased) and masks (nearest pixel) are resized. None
            keeps their sizes: then `batch_size` is 1, all images are of one size, or `augment` begins with a crop.
        batch_size: Samples in a batch; the last may have fewer.
        sampler: "natural": every sample. "under", "over": as many foreground as empty images, drawn from
            the larger side without, or from the smaller side with replacement.
        balance: What "under" and "over" balance: "foreground", or "classes": as many images of each class as of each
            other and as empty ones.
        balanced_batches: Make every batch, and not only the epoch, half foreground and half empty (or of each class).
        augment: Names of `kz.data.augment.list()`, or layers, applied in turn.
        seed: Of draws and augmentation.
        outputs: "mask" for (image, mask); "label" for (image, label), which opens no mask; or a tuple of names for a
            dict with these keys, as a model with several heads wants it: "mask", "label", and "aux_8" and the like,
            which are the mask again. Or the model itself, for the targets of what it puts out.
        pixel_weights: Name or part of `kz.data.pixel_weights`, which weighs the pixels of each mask that the model
            sees: a third part of the batch, Keras's `sample_weight`. None for none.
        cache: None; "memory"; or a directory: keep resized samples there, so that each is decoded once.
        channels: 1 or 3: turn gray to RGB or RGB to gray. None takes the images as they are, all alike.
        shuffle: Draw a new order each epoch. False keeps the source's order, for validation, evaluation and prediction;
            a balancing sampler always draws.
        drop_remainder: Leave out a last batch that is not full.
        skip_batches: Leave out the first batches of every epoch: to go on in the middle of one.
        workers: Threads that decode; None lets tf.data choose. The batches do not depend on it.
        weights: Former name of `pixel_weights`, accepted with a warning until 1.0.

    Returns: Dataset of `(B, H, W, C)` images and `(B, H, W)` int32 masks. Images are uint8, or float32 in 0-255 (or the
        source's `value_range`) if the source's are uint16 (0-65535 become 0-255) or float. Labels are float32: with one
        class `(B, 1)`, 1 for foreground; with K classes `(B, K)`, 1 for each class that is shown, index 0 for an empty
        image; beside a mask they are what the mask shows, after resizing and augmentation. With `pixel_weights` a
        third part: `(B, H, W)` float32, for several outputs a dict, in which each label weighs 1.

    Raises:
        ValueError: an argument is outside what is said above, the source's images differ in size where they may not,
            or a balancing sampler has nothing to balance. While iterating, TensorFlow wraps an error of the
            source in its own, whose message starts with ours.
    """
    from kerazoo.data.batches.augment import Augmenter
    from kerazoo.data.batches.stages import Stages

    if weights is not None:
        if pixel_weights is not None:
            raise ValueError("`weights` is the former name of `pixel_weights`: give `pixel_weights` alone.")
        warn_renamed("`weights` of kz.data.pipeline", "`pixel_weights`")
        pixel_weights = weights
    if shuffle is None:
        warn_renamed("`shuffle=None` of kz.data.pipeline", "`shuffle=True`")
        shuffle = True
    check_choice("kz.data.pipeline", "shuffle", shuffle, (True, False))
    names = _check_outputs(outputs, source, pixel_weights)
    masks = names not in ("label", ("label",))
    kinds, kind_names = (None, ()) if sampler == "natural" else strata(source, balance=balance)
    order = Order(
        size=len(source),
        strata=kinds,
        names=kind_names,
        sampler=sampler,
        balanced=batch_size if balanced_batches else None,
        shuffle=shuffle,
        seed=seed,
    )
    _check_length(len(order), batch_size, skip_batches, drop_remainder)
    if sampler != "natural":
        print(audit_order(order))
    options: dict[str, Any] = {"mask_fill": source.ignore_class or 0, "masks": masks, "value_range": source.value_range}
    augmenter = Augmenter(augment, **options) if augment else None
    crop = augmenter.crop if augmenter else None
    stages = Stages(
        source,
        EpochSampler(order, skip=skip_batches * batch_size),
        Loader(source, image_size, channels, masks=masks, batch_size=batch_size, cache=cache, crop=crop),
        augmenter=augmenter,
        outputs=names,
        pixel_weights=None if pixel_weights is None else resolve(pixel_weights),
        batch_size=batch_size,
        drop_remainder=drop_remainder,
        workers=workers,
    )
    dataset = stages.batches()
    register(dataset, Epochs(counter=stages.sampler, sampler=sampler, batches=stages.batches))
    return dataset


def _check_length(samples: int, batch_size: int, skip_batches: int, drop_remainder: bool) -> None:
    """An epoch has a batch."""
    check_whole("kz.data.pipeline", "batch_size", batch_size)
    check_whole("kz.data.pipeline", "skip_batches", skip_batches, least=0)
    if samples - skip_batches * batch_size < (batch_size if drop_remainder else 1):
        raise ValueError(
            f"An epoch of {samples} samples has no batch: batch_size={batch_size}, skip_batches={skip_batches}, "
            f"drop_remainder={drop_remainder}. Lower `batch_size` or `skip_batches`."
        )


def _check_outputs(outputs: Any, source: Source, pixel_weights: Any) -> str | tuple[str, ...]:
    """`outputs` as the name of a plain target, or as the keys of a dict of targets, which the source can give."""
    if not isinstance(outputs, str | Iterable):  # a model
        outputs = tuple(outputs.output) if isinstance(outputs.output, Mapping) else "mask"
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    known = all(name in HEADS or (isinstance(name, str) and name.startswith(AUX_PREFIX)) for name in names)
    if not names or len(set(names)) != len(names) or not known:
        raise ValueError(
            f'`outputs` must be "mask", "label" or a tuple of these and of auxiliary maps ("aux_8"), or a model with '
            f"such outputs; received outputs={outputs!r}."
        )
    if names != ("label",) and not source.has_masks:
        raise ValueError(
            f'The source has labels of images and no masks. Pass outputs="label"; received outputs={outputs!r}.'
        )
    if names == ("label",) and pixel_weights is not None:
        raise ValueError(
            f'`pixel_weights` are of pixels, and outputs="label" has none; received pixel_weights={pixel_weights!r}.'
        )
    return outputs if isinstance(outputs, str) else names
