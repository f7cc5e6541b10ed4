"""Draw docs/weak_study_DATA.png: Matthews correlation over the seeds of `benchmarks/weak_study.py`, by way to train.

python docs/weak_study.py
"""

from pathlib import Path

import numpy as np
import tables

DATA = ("synthetic", "magnetic_tile")
BINS = np.linspace(-0.1, 1, 23)


def draw(data: str) -> Path:
    """One histogram above the other: test split, thresholds by image labels; a line is the median."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    arms = tables.weak_runs(data)
    figure, axes = plt.subplots(len(arms), sharex=True, sharey=True, figsize=(6, 4.5), layout="constrained")
    for index, (axis, (arm, runs)) in enumerate(zip(axes, arms.items(), strict=True)):
        values = runs["test_image_labels_mcc"]
        axis.hist(values, BINS, color=f"C{index}")
        axis.axvline(float(np.median(values)), color="0.2", linestyle="--")
        axis.set_title(f"{arm}, {len(values)} seeds", loc="left", fontsize=9)
        axis.set_ylabel("seeds")
    axes[-1].set_xlabel("Matthews correlation of pixels, test split")
    path = Path(__file__).with_name(f"weak_study_{data}.png")
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    for data in DATA:
        print(f"wrote {draw(data)}")
