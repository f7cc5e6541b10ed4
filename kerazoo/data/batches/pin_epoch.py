"""Tell the pipeline which epoch it is."""

from typing import Any

import keras

from kerazoo.data.batches.epochs import epochs_of


class PinEpoch(keras.callbacks.Callback):
    """Makes epoch k of `fit` show the samples of epoch k, also with `initial_epoch` and on every backend.

    Without it a pipeline still draws anew for every iterator; but backends differ in how many they open, so that a
    training that was interrupted would not go on with the same data.

    Args:
        dataset: What `kz.data.pipeline` returned and `fit` is given, unchanged.

    Raises:
        ValueError: `dataset` does not come from `kz.data.pipeline`.
    """

    def __init__(self, dataset: Any):
        super().__init__()
        epochs = epochs_of(dataset)
        if epochs is None:
            raise ValueError(
                "`dataset` must be what kz.data.pipeline returned, without a further map, take or repeat; received "
                f"{type(dataset).__name__}."
            )
        self.counter = epochs.counter

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pin the epoch."""
        self.counter.pinned = epoch
