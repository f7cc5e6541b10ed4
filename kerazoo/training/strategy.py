"""Devices of a training run: one, or several that each take a share of every batch.

One machine with several GPUs is `tf.distribute.MirroredStrategy` on TensorFlow and `keras.distribution.DataParallel` on
JAX. Keras 3 cannot `fit` under `MultiWorkerMirroredStrategy`; several machines need JAX.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def devices(strategy: str = "auto", *, batch_size: int) -> Iterator[int]:
    """Context in which a model must be built, compiled and fitted.

    Args:
        strategy: "single", "mirrored" (TensorFlow), "data_parallel" (JAX), or "auto": all accelerators if the machine
            has several and the backend can use them, else one device.
        batch_size: Images per step over all devices.

    Yields: The number of devices.

    Raises:
        ValueError: The backend does not have the strategy, or `batch_size` is not a multiple of the number of devices.
    """
    backend = keras.backend.backend()
    needs = {"mirrored": "tensorflow", "data_parallel": "jax"}
    if strategy not in ("auto", "single", *needs):
        raise ValueError(f"Unknown strategy {strategy!r}; it is 'auto', 'single', 'mirrored' or 'data_parallel'.")
    if needs.get(strategy, backend) != backend:
        raise ValueError(
            f"strategy={strategy!r} needs the backend {needs[strategy]!r}, and this is {backend!r}. "
            f"Set KERAS_BACKEND={needs[strategy]}, or strategy='auto'."
        )
    if strategy == "single" or backend == "torch":
        yield 1
    elif backend == "tensorflow":
        yield from _mirrored(strategy, batch_size)
    else:
        yield from _data_parallel(strategy, batch_size)


def _mirrored(strategy: str, batch_size: int) -> Iterator[int]:
    import tensorflow as tf

    names = [device.name for device in tf.config.list_logical_devices("GPU")]
    if strategy == "mirrored":
        names = names or [device.name for device in tf.config.list_logical_devices("CPU")]
    if strategy == "auto" and len(names) < 2:
        yield 1
        return
    _check_batch(batch_size, len(names))
    with tf.distribute.MirroredStrategy(names).scope():
        yield len(names)


def _data_parallel(strategy: str, batch_size: int) -> Iterator[int]:
    names = [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]
    if strategy == "data_parallel":
        names = names or keras.distribution.list_devices()
    if strategy == "auto" and len(names) < 2:
        yield 1
        return
    _check_batch(batch_size, len(names))
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
    try:
        yield len(names)
    finally:
        keras.distribution.set_distribution(before)


def _check_batch(batch_size: int, count: int) -> None:
    if batch_size % count:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared equally by {count} devices. "
            f"Use {max(1, round(batch_size / count)) * count}, or strategy='single'."
        )
