r"""Draw docs/prediction.png, the picture of the README: predictions of a run on images of its test split.

kerazoo train recipes/magnetic_tile_binary.yaml --data PATH --run runs/picture \
    --set training.epochs=12 --set training.precision=float32
python docs/prediction.py runs/picture
"""

import sys
from pathlib import Path

from PIL import Image

from kerazoo import inference, report
from kerazoo.training.run import load_model, open_source, read_run, read_split

PATH = Path(__file__).with_name("prediction.png")
ROWS = 3


def main(run: str) -> None:
    """Draw the test image with the largest defect of each of the first kinds of defect, and its prediction."""
    recipe, facts = read_run(run)
    test = read_split(run, open_source(recipe, facts["data"]))["test"]
    by_kind = {}
    for sample in sorted((test[i] for i in test.foreground.nonzero()[0]), key=lambda sample: (sample.mask > 0).mean()):
        by_kind[Path(sample.id).parts[0]] = sample  # the largest one is the last
    chosen = [by_kind[kind] for kind in sorted(by_kind)[:ROWS]]
    predictions = inference.predict(load_model(run), [s.image for s in chosen], image_size=recipe.data.image_size)
    rows = [
        {"image": sample.image, "truth": sample.mask, "prediction": prediction.mask, "title": sample.id}
        for sample, prediction in zip(chosen, predictions, strict=True)
    ]
    report.plots.gallery(rows, PATH)
    with Image.open(PATH) as picture:
        picture.convert("RGB").quantize(128).save(PATH, optimize=True)
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
