"""Counts that neither overflow nor round, as variables of a metric."""

import keras
import numpy as np
from keras import ops

from kerazoo.types import Tensor

_BASE = 2**24  # whole numbers below it are exact in float32


class Counter:
    """A vector of whole numbers, streaming: `high * 2**24 + low`.

    Exact up to 2**55, also where integers have 32 bits (JAX, PyTorch), and summed over the replicas of a
    `tf.distribute` strategy without overflow. One `add` may bring up to 126 vectors of entries below 2**31.

    Args:
        metric: The metric that owns (resets, saves, synchronizes) the two variables.
        size: Length of the vector.
        name: Name of the variables.
    """

    def __init__(self, metric: keras.metrics.Metric, size: int, name: str):
        self._high, self._low = (
            metric.add_variable((size,), "zeros", dtype="int", aggregation="sum", name=f"{name}_{part}")
            for part in ("high", "low")
        )

    def add(self, numbers: Tensor) -> None:
        """Add whole numbers, `(size,)` or `(several, size)` of an integer dtype."""
        numbers = ops.reshape(ops.cast(numbers, self._low.dtype), (-1, self._low.shape[0]))
        carries = numbers // _BASE
        low = self._low + ops.sum(numbers - carries * _BASE, axis=0)
        carry = low // _BASE
        self._high.assign(self._high + ops.sum(carries, axis=0) + carry)
        self._low.assign(low - carry * _BASE)

    def value(self) -> Tensor:
        """`(size,)` float32; relative error at most 1e-7."""
        return ops.cast(self._high, "float32") * float(_BASE) + ops.cast(self._low, "float32")

    def exact(self) -> np.ndarray:
        """`(size,)` int64, outside of compiled code."""
        high, low = (np.asarray(ops.convert_to_numpy(part), np.int64) for part in (self._high, self._low))
        return high * _BASE + low
