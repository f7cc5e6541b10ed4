"""From a source to batches for `fit`: draw, decode in parallel, resize, batch, augment, prefetch.

The order of an epoch and the seeds of its augmentation are drawn in NumPy from (seed, epoch), so the batches are the
same for any number of workers. TensorFlow is imported when a pipeline is made, also where Keras runs on JAX or PyTorch.
"""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerazoo.data.batches.loading import Loader, Weigher
from kerazoo.data.batches.sampling import Draw, Order, Turn, audit_order, strata
from kerazoo.data.source import Source
from kerazoo.types import AUX_PREFIX

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerazoo.data.batches.warps import Crop

HEADS = ("mask", "label")
_ABOUT = "kerazoo-about"  # under which a service says how many batches and epochs it has


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
    weights: str | Callable[..., np.ndarray] | None = None,
    cache: str | Path | None = None,
    channels: int | None = None,
    shuffle: bool | None = None,
    drop_remainder: bool = False,
    skip_batches: int = 0,
    workers: int | None = None,
) -> "tf.data.Dataset":
    """Finite dataset of (images, masks) that draws a new epoch each time it is iterated.

    Its cardinality is known. Pass `PinEpoch(dataset)` to `fit` to make epoch k show the same samples also after a
    resume. A balancing sampler prints once what it does.

    Args:
        source: The samples.
        image_size: (height, width) to which images (bilinear, antialiased) and masks (nearest pixel) are resized. None
            keeps their sizes: then `batch_size` is 1, all images are of one size, or `augment` begins with a crop.
        batch_size: Samples in a batch; the last may have fewer.
        sampler: "natural": every sample. "under", "over": as many foreground as empty images, see `sampling.Order`.
        balance: What "under" and "over" balance: "foreground", or "classes": as many images of each class as of each
            other and as empty ones, see `sampling.strata`.
        balanced_batches: Make every batch, and not only the epoch, half foreground and half empty (or of each class).
        augment: Names of `kz.data.augment.list()`, or layers, applied in turn; see `augment.Augmenter`.
        seed: Of draws and augmentation.
        outputs: "mask" for (image, mask); "label" for (image, label), which opens no mask; or a tuple of names for a
            dict with these keys, as a model with several heads wants it: "mask", "label", and "aux_8" and the like,
            which are the mask again. Or the model itself, for the targets of what it puts out.
        weights: Name or part of `kz.data.pixel_weights`, which makes weights of pixels from each mask that the model
            sees: a third part of the batch, Keras's `sample_weight`. None for none.
        cache: None; "memory"; or a directory: keep resized samples there, so that each is decoded once.
        channels: 1 or 3: turn gray to RGB or RGB to gray. None takes the images as they are, all alike.
        shuffle: Draw the order of the natural sampler anew each epoch. None means that it does so for training, where
            `augment` or a balancing sampler is asked for, and else keeps the source's order.
        drop_remainder: Leave out a last batch that is not full.
        skip_batches: Leave out the first batches of every epoch: to go on in the middle of one.
        workers: Threads that decode; None lets tf.data choose. The batches do not depend on it.

    Returns: Dataset of `(B, H, W, C)` images and `(B, H, W)` int32 masks. Images are uint8, or float32 in 0-255 (or the
        source's `value_range`) if the source's are uint16 (0-65535 become 0-255) or float. Labels are float32: with one
        class `(B, 1)`, 1 for foreground; with K classes `(B, K)`, 1 for each class that is shown, index 0 for an empty
        image; beside a mask they are what the mask shows, after resizing and augmentation. With `weights` a third part:
        `(B, H, W)` float32 weights of the pixels, for several outputs a dict, in which each label weighs 1.

    Raises:
        ValueError: an argument is outside what is said above, the source's images differ in size where they may not,
            or a balancing sampler has nothing to balance. While iterating, TensorFlow wraps an error of the
            source in its own, whose message starts with ours.
    """
    import tensorflow as tf

    if batch_size < 1 or skip_batches < 0:
        raise ValueError(
            f"`batch_size` must be 1 or more and `skip_batches` 0 or more, received {batch_size}, {skip_batches}."
        )
    outputs = _targets(outputs)
    heads = (outputs,) if isinstance(outputs, str) else outputs
    masks = heads != ("label",)
    if masks and not source.has_masks:
        raise ValueError(
            f'The source has labels of images and no masks. Pass outputs="label"; received outputs={outputs!r}.'
        )
    weigh = None if weights is None else Weigher(weights, ignore_class=source.ignore_class)
    if weigh and not masks:
        raise ValueError(f'`weights` are of pixels, and outputs="label" has none; received weights={weights!r}.')
    balancing = sampler != "natural"
    kinds, names = strata(source, balance=balance) if balancing else (None, ())
    order = Order(
        size=len(source),
        strata=kinds,
        names=names,
        sampler=sampler,
        balanced=batch_size if balanced_batches else None,
        shuffle=(balancing or bool(augment)) if shuffle is None else shuffle,
        seed=seed,
    )
    left = len(order) - skip_batches * batch_size
    if left < (batch_size if drop_remainder else 1):
        raise ValueError(
            f"An epoch of {len(order)} samples has no batch: batch_size={batch_size}, skip_batches={skip_batches}, "
            f"drop_remainder={drop_remainder}. Lower `batch_size` or `skip_batches`."
        )
    draw = Draw(order, skip=skip_batches * batch_size)
    if balancing:
        print(audit_order(order))
    augmenter = None
    if augment:
        from kerazoo.data.batches.augment import Augmenter

        augmenter = Augmenter(augment, mask_fill=source.ignore_class or 0, masks=masks, value_range=source.value_range)
    crop = None if augmenter is None else augmenter.crop
    load = Loader(source, image_size, channels, masks=masks, batch_size=batch_size, cache=cache, crop=crop)
    labels = None if masks else tf.constant(source.labels, tf.float32)

    @tf.autograph.experimental.do_not_convert
    def epoch(*number: Any) -> Any:
        index, seeds = tf.numpy_function(draw, number, (tf.int64, tf.int64), stateful=True)
        return tf.data.Dataset.from_tensor_slices(
            (tf.ensure_shape(index, [len(draw)]), tf.ensure_shape(seeds, [len(draw)]))
        )

    @tf.autograph.experimental.do_not_convert
    def decode(index: Any, seeds: Any) -> Any:
        image, mask = tf.numpy_function(load, [index, seeds], (tf.as_dtype(load.dtype), tf.uint8), stateful=False)
        return tf.ensure_shape(image, load.shape), tf.ensure_shape(mask, load.mask_shape), index, seeds

    @tf.autograph.experimental.do_not_convert
    def finish(image: Any, mask: Any, index: Any, seeds: Any) -> Any:
        if augmenter is not None:
            pair = tf.cast(tf.stack([seeds[0] // 2**31, seeds[0] % 2**31]), tf.int32)
            image, mask = augmenter(image, mask if masks else None, pair)
        mask = None if mask is None else tf.cast(mask, tf.int32)
        made = {name: mask for name in heads if name != "label"}
        if "label" in heads:
            made["label"] = _shown(mask, source.num_classes) if labels is None else tf.gather(labels, index)
        target = made[outputs] if isinstance(outputs, str) else made
        if weigh is None:
            return image, target
        of_pixels = tf.numpy_function(weigh, [mask, seeds], tf.float32, stateful=False)
        of_pixels = tf.ensure_shape(of_pixels, mask.shape)
        of_images = tf.ones([tf.shape(mask)[0]])
        each = {name: of_images if name == "label" else of_pixels for name in heads}
        return image, target, of_pixels if isinstance(outputs, str) else each

    threads = tf.data.AUTOTUNE if workers is None else workers
    whole = drop_remainder or len(draw) % batch_size == 0  # a batch dimension that is known

    def at_epoch(*number: int) -> Any:
        """The batches of an epoch, or, without a number, of the one whose turn it is."""
        start = tf.data.Dataset.from_tensors(tuple(map(tf.constant, number)) or (0,))
        return (
            start.flat_map(epoch if number else lambda _: epoch())
            .apply(tf.data.experimental.assert_cardinality(len(draw)))
            .map(decode, num_parallel_calls=threads, deterministic=True)
            .batch(batch_size, drop_remainder=whole)
            .map(finish, num_parallel_calls=threads, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
        )

    dataset = at_epoch()
    dataset.draw = draw  # pyright: ignore[reportAttributeAccessIssue]  # for PinEpoch
    dataset.at_epoch = at_epoch  # pyright: ignore[reportAttributeAccessIssue]  # for serve
    return dataset


class Service:
    """An input worker: this process makes batches for others; `serve` starts it.

    Attributes:
        address: "host:port", what `connect` takes.
    """

    def __init__(self, dataset: Any, *, epochs: int, host: str, port: int):
        import tensorflow as tf

        service = tf.data.experimental.service
        self._dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
        protocol, _, local = self._dispatcher.target.partition("://")
        self.address = f"{host}:{local.rpartition(':')[2]}"
        self._worker = service.WorkerServer(
            service.WorkerConfig(dispatcher_address=local, worker_address=f"{host}:%port%", protocol=protocol)
        )
        about = tf.data.Dataset.from_tensors((tf.constant(len(dataset), tf.int64), tf.constant(epochs, tf.int64)))
        self._kept = [about, *(dataset.at_epoch(epoch) for epoch in range(epochs))]  # with their Python functions
        for name, part in zip((_ABOUT, *map(_epoch_name, range(epochs))), self._kept, strict=True):
            service.register_dataset(self._dispatcher.target, part, compression=None, dataset_id=name)

    def join(self) -> None:
        """Serve until the process is ended."""
        self._worker.join()


def serve(dataset: "tf.data.Dataset", *, epochs: int, host: str = "localhost", port: int = 0) -> Service:
    """Make the batches of a pipeline in this process, for the training in another one or on another machine.

    Augmentation that keeps a processor busy then takes nothing from the training. The worker of tf.data's service runs
    in this process, and its data go out unencrypted and to whoever asks: stay within a network that you trust.

        kz.data.serve(kz.data.pipeline(train, …), epochs=30, port=5050).join()        # the input worker
        model.fit(dataset := kz.data.connect("localhost:5050"), callbacks=[kz.data.PinEpoch(dataset)], epochs=30)

    Args:
        dataset: What `pipeline` returned.
        epochs: How many epochs can be asked for.
        host: Name under which the other process finds this machine.
        port: Where to listen; 0 takes one that is free.

    Returns: The service, which lives as long as this object.

    Raises:
        ValueError: `dataset` does not come from `pipeline`, or `epochs` is less than 1.
    """
    if not hasattr(dataset, "at_epoch") or epochs < 1:
        raise ValueError(
            "`serve` takes what kz.data.pipeline returned, without a further map, take or repeat, and epochs >= 1; "
            f"received {type(dataset).__name__}, epochs={epochs}."
        )
    return Service(dataset, epochs=epochs, host=host, port=port)


def connect(address: str) -> "tf.data.Dataset":
    """The batches of a `serve`d pipeline: the same as its own, epoch by epoch, also with `PinEpoch`.

    Args:
        address: "host:port" of the service.

    Returns: Finite dataset that gives a new epoch each time it is iterated. Asked for an epoch that is not served, it
        raises while iterating.

    Raises:
        ValueError: what answers at the address was not started by `serve`, or nothing does.
    """
    import tensorflow as tf

    service = tf.data.experimental.service
    number = tf.TensorSpec((), tf.int64)

    def served(name: Any, spec: Any = None) -> Any:
        return service.from_dataset_id("parallel_epochs", ("grpc", address), name, element_spec=spec)

    host, _, port = address.rpartition(":")
    advice = "Start one with kz.data.serve, or correct the address."
    try:  # tf.data would try again for ever
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"No input worker answers at {address!r} ({error}). {advice}") from error
    try:
        batches, epochs = (int(part) for part in next(iter(served(_ABOUT, (number, number)))))
    except tf.errors.NotFoundError as error:
        raise ValueError(f"The service at {address!r} was not started by kz.data.serve. {advice}") from error
    spec = served(_epoch_name(0)).element_spec
    turn = Turn()

    def name() -> bytes:
        epoch = turn.turn()
        if epoch >= epochs:
            raise ValueError(f"The input worker serves {epochs} epochs, and epoch {epoch} is asked for. Serve more.")
        return _epoch_name(epoch).encode()

    @tf.autograph.experimental.do_not_convert
    def epoch(_: Any) -> Any:
        return served(tf.ensure_shape(tf.numpy_function(name, [], tf.string, stateful=True), []), spec)

    dataset = tf.data.Dataset.from_tensors(0).flat_map(epoch).apply(tf.data.experimental.assert_cardinality(batches))
    dataset.draw = turn  # pyright: ignore[reportAttributeAccessIssue]  # for PinEpoch
    return dataset


def _epoch_name(epoch: int) -> str:
    """Under which name an epoch is registered with the service."""
    return f"kerazoo-epoch-{epoch}"


def _targets(outputs: Any) -> str | tuple[str, ...]:
    """`outputs` as one name, for a plain target, or as the keys of a dict of targets."""
    if hasattr(outputs, "output"):  # a model
        outputs = tuple(outputs.output) if isinstance(outputs.output, Mapping) else "mask"
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    known = all(name in HEADS or (isinstance(name, str) and name.startswith(AUX_PREFIX)) for name in names)
    if not names or len(set(names)) != len(names) or not known:
        raise ValueError(
            f'`outputs` must be "mask", "label" or a tuple of these and of auxiliary maps ("aux_8"), or a model with '
            f"such outputs; received outputs={outputs!r}."
        )
    return outputs if isinstance(outputs, str) else names


def _shown(masks: Any, num_classes: int) -> Any:
    """Image-level labels of `(B, H, W)` ids, as `Source.labels` has them, float32."""
    import tensorflow as tf

    there = [tf.reduce_any(masks == k, axis=(1, 2)) for k in range(1, max(num_classes, 2))]
    if num_classes > 1:
        there.insert(0, ~tf.reduce_any(tf.stack(there), axis=0))
    return tf.cast(tf.stack(there, axis=1), tf.float32)
