"""Draw docs/penalty.png: what an empty image costs under each policy, and its slope, against the predicted area.

python docs/penalty.py
"""

from pathlib import Path

import keras
import numpy as np

import kerazoo as kz

PATH = Path(__file__).with_suffix(".png")
SIDE = 256
LOSSES = {  # name in the picture: loss, style
    'SoftDice(empty="penalize")': (kz.losses.SoftDice(empty="penalize"), {"lw": 2.4, "color": "C3"}),
    'SoftDice(empty="one", smooth=1)': (kz.losses.SoftDice(empty="one", smooth=1.0), {"color": "C0"}),
    'SoftDice(empty="one")': (kz.losses.SoftDice(empty="one"), {"color": "C0", "ls": ":"}),
    'SoftDice(empty="skip")': (kz.losses.SoftDice(empty="skip"), {"color": "0.5", "ls": "--"}),
    "CrossEntropy()": (kz.losses.CrossEntropy(), {"color": "C2"}),
}


def value(loss: keras.losses.Loss, area: float) -> float:
    """Loss of an empty image of 256 × 256 pixels on which the probability is the same everywhere, `area` in all."""
    p = area / SIDE**2
    logits = np.full((1, SIDE, SIDE, 1), np.log(p / (1 - p)))
    return float(keras.ops.convert_to_numpy(loss(np.zeros((1, SIDE, SIDE)), logits.astype("float32"))))


def curve(loss: keras.losses.Loss, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values, and slopes by the area, which are those by the probability of one pixel (central differences)."""
    step = 0.05  # as small as the digits of float32 allow
    values = np.array([value(loss, area) for area in areas])
    ahead, behind = (np.array([value(loss, area * (1 + sign * step)) for area in areas]) for sign in (1, -1))
    return values, (ahead - behind) / (2 * step * areas)


def main() -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    areas = np.geomspace(0.1, SIDE**2 * 0.94, 60)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, (loss, style) in LOSSES.items():
        values, slopes = curve(loss, areas)
        left.plot(areas, values, label=name, **style)
        if slopes.max() > 1e-12:
            right.plot(areas, slopes, label=name, **style)
    for axes, title in ((left, "loss"), (right, "slope by the probability of one pixel")):
        axes.set(xscale="log", xlabel=f"predicted area on an empty image of {SIDE} × {SIDE}, in pixels", title=title)
        axes.axvline(0.01 * SIDE**2, color="0.8", zorder=0)
        axes.grid(alpha=0.25)
    left.set(ylim=(-0.03, 1.15))
    left.annotate("p = 0.01", (0.01 * SIDE**2 * 1.15, 1.08), color="0.4")
    right.set(yscale="log", ylim=(1e-10, 2))
    right.legend(*left.get_legend_handles_labels(), title="dotted and dashed: slope 0", fontsize=8, loc="lower left")
    figure.savefig(PATH, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
