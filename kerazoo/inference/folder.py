"""A folder of images in, a folder of masks, overlays and one table out."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from PIL import Image

from kerazoo.data.formats.images import SUFFIXES, check_intensity_range, read_image
from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.predictor import Prediction, Predictor, rule_of
from kerazoo.report.colors import class_color, hex_to_rgb, overlay

TABLE = "predictions.csv"


def predict_folder(
    model: keras.Model,
    folder: str | Path,
    to: str | Path,
    *,
    suffixes: tuple[str, ...] = SUFFIXES,
    exif_orientation: bool = True,
    intensity_range: tuple[float, float] | None = None,
    overlays: bool = True,
    overwrite: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[int, int], None] | None = None,
    batch_size: int = 8,
    threshold: float | None = None,
    rule: DecisionRule | None = None,
    image_size: tuple[int, int] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    tta: Literal["flip"] | None = None,
) -> list[dict[str, Any]]:
    """Predict every image of a folder and of the folders in it.

    For `a/X.jpg` it writes `a/X.png`, class ids as a palette picture that viewers show in color, and
    `a/X_overlay.png`, the image with its findings. `predictions.csv` has a row per image: `image` (path inside the
    folder), `height`, `width`, `score`, `foreground_pixels`, with several classes the pixels of each, with a label head
    its probabilities, and `error`.

    Args:
        model: Segmenter, as `predict` takes it.
        folder: Directory with the images.
        to: Directory to write to, made if missing; not `folder` itself. If it lies in `folder` it is not read.
        suffixes: Suffixes of the files that are images, in lower case.
        exif_orientation: Turn images as their EXIF tag says; as the source that the model was trained on.
        intensity_range: Image values (low, high) that become 0 and 255; as the source that the model was trained on.
        overlays: Whether to write the overlays.
        overwrite: Whether files that are in `to` already may be replaced.
        on_error: "raise" stops at a file that cannot be read, "skip" notes it in the table and goes on.
        progress: Called after each image with the number done and the number of all.
        batch_size: Images (or tiles) in a batch.
        threshold: Shorthand for `rule=DecisionRule(pixel_threshold=threshold)`; None is 0.5.
        rule: What counts as foreground.
        image_size: `(height, width)` the model was trained at; None works at the size of the image.
        tile: Height and width of overlapping tiles, or None.
        overlap: Pixels that tiles share; None is a quarter of the tile.
        tta: "flip" averages over the image and its left-right mirror image.

    Returns: the rows of the table.

    Raises:
        FileNotFoundError: `folder` is no directory, or has no image.
        FileExistsError: a file to write exists and `overwrite` is False.
        ValueError: two images would get the same mask file, `to` is `folder`, a file cannot be read, or an option does
            not fit the model.
    """
    folder, to, rule = Path(folder), Path(to), rule_of(threshold, rule)
    predictor = Predictor(model, batch_size=batch_size, image_size=image_size, tile=tile, overlap=overlap, tta=tta)
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', received {on_error!r}.")
    check_intensity_range(intensity_range)
    names = find_images(folder, suffixes=suffixes, without=to)
    _check_outputs(names, folder, to, overlays=overlays, overwrite=overwrite)
    rows: dict[str, dict[str, Any]] = {}
    images: dict[str, np.ndarray] = {}

    def read() -> Iterator[tuple[str, np.ndarray]]:
        for name in names:
            try:
                images[name] = read_image(
                    folder / name, exif_orientation=exif_orientation, intensity_range=intensity_range
                )
            except ValueError as error:
                if on_error == "raise":
                    raise
                rows[name] = {"image": name, "error": str(error).replace(str(folder / name), name)}
                if progress is not None:
                    progress(len(rows), len(names))
                continue
            yield name, images[name]

    for prediction in predictor.stream(read(), rule=rule):
        name = prediction.id
        mask_path = to / Path(name).with_suffix(".png")
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(prediction.mask, mask_path)
        image = images.pop(name)
        if overlays:
            Image.fromarray(overlay(image, prediction.mask)).save(_overlay_path(mask_path))
        rows[name] = _row(prediction)
        if progress is not None:
            progress(len(rows), len(names))
    to.mkdir(parents=True, exist_ok=True)
    table = [rows[name] for name in names]
    _write_table(to / TABLE, table)
    return table


def find_images(folder: Path, *, suffixes: tuple[str, ...], without: Path) -> list[str]:
    """Sorted paths, inside `folder` and with slashes, of its images; what lies in `without` does not count.

    Raises:
        FileNotFoundError: there is none.
        ValueError: `without` is `folder`.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` {str(folder)!r} is no directory.")
    skipped = without.resolve()
    if skipped == folder.resolve():
        raise ValueError(
            f"`to` is the folder of the images, {str(folder)!r}. Give another directory: none may be lost."
        )
    found = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file() and not path.resolve().is_relative_to(skipped)
    ]
    if not found:
        raise FileNotFoundError(f"`folder` {str(folder)!r} has no image; looked for {', '.join(suffixes)}.")
    return sorted(found)


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write `(H, W)` uint8 class ids as a PNG with a palette: its pixels are the ids, a viewer shows colors."""
    picture = Image.fromarray(mask).convert("L")
    colors = np.zeros((256, 3), "uint8")
    for class_id in range(1, 256):
        colors[class_id] = hex_to_rgb(class_color(class_id))
    picture.putpalette(colors.tobytes())
    picture.save(path)


def _overlay_path(mask_path: Path) -> Path:
    return mask_path.with_name(f"{mask_path.stem}_overlay.png")


def _check_outputs(names: list[str], folder: Path, to: Path, *, overlays: bool, overwrite: bool) -> None:
    """Raise before any work if an output would replace another one, or a file that may not be replaced."""
    outputs: dict[Path, str] = {}
    for name in names:
        mask = to / Path(name).with_suffix(".png")
        for path in (mask, _overlay_path(mask)) if overlays else (mask,):
            if path in outputs:
                raise ValueError(
                    f"{outputs[path]!r} and {name!r} of the folder would both be written to {path.name!r}. Rename one, "
                    f"or choose by suffix, such as suffixes=({Path(name).suffix!r},)."
                )
            outputs[path] = name
    existing = [path for path in [*outputs, to / TABLE] if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"{len(existing)} of the files to write exist in `to`, the first is {existing[0].name!r}. Give an empty "
            f"directory, or overwrite=True."
        )
    inputs = {(folder / name).resolve() for name in names}
    for path in existing:
        if path.resolve() in inputs:
            raise ValueError(
                f"{path.name!r} in `to` is one of the images. Give another directory, so that none is lost."
            )


def _row(prediction: Prediction) -> dict[str, Any]:
    height, width = prediction.mask.shape
    row = {"image": prediction.id, "height": height, "width": width, "score": round(prediction.score, 6)}
    row["foreground_pixels"] = int(np.count_nonzero(prediction.mask))
    if prediction.probability.shape[-1] > 1:
        for class_id in range(1, prediction.probability.shape[-1]):
            row[f"pixels_class_{class_id}"] = int(np.count_nonzero(prediction.mask == class_id))
    if prediction.label is not None:
        row.update({f"label_{i}": round(float(value), 6) for i, value in enumerate(prediction.label)})
    return row


def _write_table(path: Path, table: list[dict[str, Any]]) -> None:
    columns = [*dict.fromkeys(column for row in table for column in row if column != "error"), "error"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(table)
