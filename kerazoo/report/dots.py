"""A dot for each seed, by arm: no bar, no mean without the values that it is of."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kerazoo.report.figures import INK, save

_DOT, _GRID = "#0072B2", "#DDDDDD"


def dots(values: Mapping[str, Sequence[float]], path: str | Path, *, title: str, axis: str) -> Path:
    """Draw the values of each arm as dots on a line of their own, with their median.

    Args:
        values: Name of each arm to its values, such as one per seed; at least one each.
        path: PNG to write; missing directories are made.
        title: Line above the plot.
        axis: What the values are.

    Returns: `path`.
    Raises: ValueError if there is no arm, or one has no value.
    """
    from matplotlib.figure import Figure

    if not values or not all(len(of_arm) for of_arm in values.values()):
        raise ValueError(f"`values` must have a value for each of one or more arms; received {dict(values)}.")
    height = 1.2 + 0.42 * len(values)
    figure = Figure(figsize=(7.2, height), dpi=110, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for line, of_arm in enumerate(values.values()):
        spread = np.linspace(-0.16, 0.16, len(of_arm)) if len(of_arm) > 1 else np.zeros(1)
        axes.plot(of_arm, line + spread, "o", color=_DOT, ms=5, alpha=0.7, mew=0)
        axes.plot([float(np.median(of_arm))] * 2, [line - 0.3, line + 0.3], color=INK, lw=1.5)
    axes.set_yticks(range(len(values)), [f"{arm} ({len(of_arm)})" for arm, of_arm in values.items()])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel(f"{axis}; a dot is a seed, the line their median", fontsize=9, color=INK)
    axes.grid(axis="x", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, loc="left", fontsize=11, color=INK, parse_math=False)
    return save(figure, path)
