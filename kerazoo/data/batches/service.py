"""Batches that another process makes, over tf.data's service: `serve` them there and `connect` here."""

import socket
from typing import TYPE_CHECKING, Any

from kerazoo.data.batches.epochs import EpochCounter, Epochs, epochs_of, register

if TYPE_CHECKING:
    import tensorflow as tf

_ABOUT = "kerazoo-about"  # under which a service says how many batches and epochs it has


class Service:
    """An input worker: this process makes batches for others; `serve` starts it.

    Attributes:
        address: "host:port", what `connect` takes.
    """

    def __init__(self, dataset: Any, epochs: list[Any], *, host: str, port: int):
        import tensorflow as tf

        service = tf.data.experimental.service
        self._dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
        protocol, _, local = self._dispatcher.target.partition("://")
        self.address = f"{host}:{local.rpartition(':')[2]}"
        self._worker = service.WorkerServer(
            service.WorkerConfig(dispatcher_address=local, worker_address=f"{host}:%port%", protocol=protocol)
        )
        about = tf.data.Dataset.from_tensors((tf.constant(len(dataset), tf.int64), tf.constant(len(epochs), tf.int64)))
        self._kept = [about, *epochs]  # with their Python functions
        for name, part in zip((_ABOUT, *map(_epoch_name, range(len(epochs)))), self._kept, strict=True):
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
    made = epochs_of(dataset)
    if made is None or made.batches is None or epochs < 1:
        raise ValueError(
            "`serve` takes what kz.data.pipeline returned, without a further map, take or repeat, and epochs >= 1; "
            f"received {type(dataset).__name__}, epochs={epochs}."
        )
    return Service(dataset, [made.batches(epoch) for epoch in range(epochs)], host=host, port=port)


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
    counter = EpochCounter()

    def name() -> bytes:
        epoch = counter.advance()
        if epoch >= epochs:
            raise ValueError(f"The input worker serves {epochs} epochs, and epoch {epoch} is asked for. Serve more.")
        return _epoch_name(epoch).encode()

    @tf.autograph.experimental.do_not_convert
    def epoch(_: Any) -> Any:
        return served(tf.ensure_shape(tf.numpy_function(name, [], tf.string, stateful=True), []), spec)

    dataset = tf.data.Dataset.from_tensors(0).flat_map(epoch).apply(tf.data.experimental.assert_cardinality(batches))
    register(dataset, Epochs(counter=counter))
    return dataset


def _epoch_name(epoch: int) -> str:
    """Under which name an epoch is registered with the service."""
    return f"kerazoo-epoch-{epoch}"
