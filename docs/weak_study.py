"""Draw docs/weak_study_DATA.png: Matthews correlation over the seeds of `benchmarks/weak_study.py`, by way to train.

python docs/weak_study.py
"""

from pathlib import Path

import tables

from kerazoo.report.dots import dots

DATA = ("synthetic", "magnetic_tile")


def draw(data: str) -> Path:
    """A dot for each seed: test split, thresholds by image labels."""
    values = {arm: runs["test_image_labels_mcc"] for arm, runs in tables.weak_runs(data).items()}
    path = Path(__file__).with_name(f"weak_study_{data}.png")
    return dots(values, path, title=data.replace("_", " "), axis="Matthews correlation of pixels, test split")


if __name__ == "__main__":
    for data in DATA:
        print(f"wrote {draw(data)}")
