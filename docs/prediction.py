"""Draw docs/prediction.png, the picture of the README: predictions on test images of the run that `make demo` trains.

make demo
python docs/prediction.py runs/demo
"""

import sys
from pathlib import Path

from PIL import Image

from kerazoo import inference, report
from kerazoo.training.run import load_model, open_source, read_run, read_split

PATH = Path(__file__).with_name("prediction.png")


def main(run: str) -> None:
    """Draw the test images with the largest and the median lesion, and one without, and their predictions."""
    recipe, facts = read_run(run)
    test = read_split(run, open_source(recipe, facts["data"]))["test"]
    samples = sorted((test[i] for i in range(len(test))), key=lambda sample: (sample.mask > 0).sum())
    lesions = [sample for sample in samples if sample.mask.any()]
    chosen = [lesions[-1], lesions[len(lesions) // 2], samples[0]]
    predictions = inference.predict(load_model(run), [s.image for s in chosen], image_size=recipe.data.image_size)
    rows = [
        {"image": sample.image, "truth": sample.mask, "prediction": prediction.mask, "title": sample.id}
        for sample, prediction in zip(chosen, predictions, strict=True)
    ]
    report.plots.gallery(rows, PATH)
    with Image.open(PATH) as picture:
        picture.convert("RGB").save(PATH, optimize=True)
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
