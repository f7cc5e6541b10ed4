"""Windows of intensities: which values of a medical image become black and white."""

import numpy as np

Window = str | tuple[float, float]
"""A name, or (low, high): values that become black and white; what lies beyond is clipped."""


def check_window(window: Window, names: tuple[str, ...]) -> Window:
    """`window`, with numbers as a tuple of floats.

    Raises:
        ValueError: it is neither one of `names`, nor (low, high) with low < high, both finite.
    """
    if isinstance(window, str):
        valid = window in names
    else:
        valid = len(window) == 2 and np.isfinite(window).all() and window[0] < window[1]
    if not valid:
        raise ValueError(
            f"`window` must be one of {names}, or (low, high) with low < high, received window={window!r}."
        )
    return window if isinstance(window, str) else (float(window[0]), float(window[1]))


def to_unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """`values` as float32 in 0-1: 0 up to `low`, 1 from `high` on; a step if the two are one."""
    if not high > low:
        return (values > low).astype(np.float32)
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
