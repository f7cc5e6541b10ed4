"""Layout of figures: rows of panels with captions, legends, PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

COLORMAP = "inferno"
"""For values from 0 to 1."""

INK = "#222222"
MAX_ROWS = 64
"""Of a figure."""


def check_rows(rows: Sequence) -> None:
    """Raise ValueError unless there are 1 to 64 rows."""
    if not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"`rows` must hold 1 to {MAX_ROWS} cases; received {len(rows)}. Draw several galleries.")


def draw_rows(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    path: str | Path,
    *,
    headings: Sequence[str],
    legend: Sequence[list[tuple[str, str | None]]],
    title: str | None,
) -> Path:
    """Draw rows of images with captions.

    Args:
        rows: Caption and pictures of each row, all of one size: `(H, W, 3)` uint8, or `(H, W)` in [0, 1].
        path: PNG to write; missing directories are made.
        headings: What each column shows.
        legend: Lines of names with their colors; None is a heading.
        title: Line above the pictures, or None.

    Returns: `path`.
    """
    from matplotlib.figure import Figure

    panel, caption, line = 2.3, 0.3, 0.24  # inches
    top, bottom = 0.45 + 0.3 * bool(title), 0.2 + line * len(legend)
    heights = [panel * float(np.clip(np.divide(*pictures[0].shape[:2]), 0.3, 1.2)) for _, pictures in rows]
    width = (panel + 0.06) * len(headings) + 0.12
    height = top + sum(heights) + caption * len(rows) + bottom
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    if title:
        figure.text(0.08 / width, 1 - 0.12 / height, title, fontsize=13, weight="bold", va="top", parse_math=False)
    y = height - top
    for (label, pictures), row_height in zip(rows, heights, strict=True):
        y -= caption
        text = label.strip()
        figure.text(0.08 / width, (y + 0.07) / height, text, fontsize=9.5, color=INK, va="bottom", parse_math=False)
        y -= row_height
        for position, picture in enumerate(pictures):
            left = (0.08 + position * (panel + 0.06)) / width
            axes = figure.add_axes((left, y / height, panel / width, row_height / height))
            axes.imshow(picture, cmap=COLORMAP, vmin=0, vmax=1, interpolation="auto")
            axes.set_axis_off()
    for position, heading in enumerate(headings):
        x = (0.08 + position * (panel + 0.06)) / width
        figure.text(x, 1 - (top - 0.1) / height, heading, fontsize=11, color="#555555", va="bottom")
    for position, entries in enumerate(reversed(legend)):
        _draw_legend(figure, entries, y=position * line / height)
    return save(figure, path)


def tiles(images: Sequence[np.ndarray], path: str | Path, *, columns: int = 8, title: str | None = None) -> Path:
    """Draw a grid of small images, such as the filters of a convolution or the inputs that activate its units most.

    Args:
        images: `(H, W, C)` or `(H, W)`, in [0, 1] or, if one has a value above 1, in [0, 255]. Color if C is 3, else
            the mean over the channels.
        path: PNG to write; missing directories are made.
        columns: Pictures in a row.
        title: Line above the pictures, or None.

    Returns: `path`.
    Raises: ValueError if there is no picture, one has another shape, or `columns` is not at least 1.
    """
    from matplotlib.figure import Figure

    pictures = [np.asarray(image, "float32") for image in images]
    if not pictures or columns < 1 or any(picture.ndim not in (2, 3) for picture in pictures):
        raise ValueError(
            f"`images` must be pictures (H, W) or (H, W, C), at least one, and `columns` at least 1; received shapes "
            f"{[picture.shape for picture in pictures]} and columns={columns}."
        )
    top = max(float(np.max(picture)) for picture in pictures)
    across, down = min(columns, len(pictures)), -(-len(pictures) // columns)
    figure = Figure(figsize=(1.1 * across + 0.1, 1.1 * down + 0.1 + 0.4 * bool(title)), dpi=110, layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK, parse_math=False)
    for axes in (grid := figure.subplots(down, across, squeeze=False)).flat:
        axes.set_axis_off()
    for axes, picture in zip(grid.flat, pictures, strict=False):
        picture = np.clip(picture / (255 if top > 1 else 1), 0, 1)
        picture = picture.mean(axis=-1) if picture.ndim == 3 and picture.shape[-1] != 3 else picture
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return save(figure, path)


def scale_colors() -> list[tuple[str, str]]:
    """Legend entries of the colormap: values from 0 to 1 with their colors."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [(f"{level:g}", to_hex(colormaps[COLORMAP](level))) for level in (0.0, 0.25, 0.5, 0.75, 1.0)]


def shorten(text: str, limit: int = 60) -> str:
    """Shorten a name in the middle, to fit above an image."""
    return text if len(text) <= limit else f"{text[: limit // 2 - 1]}…{text[-limit // 2 :]}"


def save(figure, path: str | Path) -> Path:
    """Write a figure as PNG; missing directories are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
    return path


def _draw_legend(figure, entries: list[tuple[str, str | None]], *, y: float) -> None:
    """One line of the legend, `y` above the lower edge in heights of the figure."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=color or "none", edgecolor="#888888" if color else "none", label=name)
        for name, color in entries
    ]
    legend = figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, y),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        columnspacing=1.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
