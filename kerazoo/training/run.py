"""The run directory: written by `train`, read by everything else.

recipe.yaml            the recipe with every default spelled out
run.json               directory of the data, number and names of the classes, channels of the images
environment.json       versions, devices and the minutes of training
audit.json             the source, the sampler and the splits in numbers, and the warnings of the source
doctor.json            what kerazoo.doctor found in the first batches, unless the recipe leaves it out
start.json             what came from an earlier training, and what was new, where the recipe says `model.start`
phases.json            what trained in each phase, and at which rates
split.csv              id, split (train, val, test)
metrics.csv, logs/     metrics of each epoch, and the same for TensorBoard
checkpoints/           best.keras, last.keras
evaluation.json        metrics of one checkpoint on one split, and of each image
counts.npz             the pixels of each image that these metrics are made of
plots/, gallery/, report.html
"""

import inspect
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerazoo.training.recipe import Recipe

if TYPE_CHECKING:
    from kerazoo.data.source import Source
    from kerazoo.inference.scores import Counts

SPLITS = ("train", "val", "test")
_PLACES = ("masks", "csv", "images", "annotations", "path", "include", "exclude")  # in the directory, or beside it
_PACKAGES = ("kerazoo", "keras", "tensorflow", "jax", "torch", "numpy")


def open_source(recipe: Recipe, data: "str | Path | Source | None") -> "Source":
    """The recipe's source over a directory; a `Source` is given back as it is.

    Args:
        recipe: Says which source, with which keywords.
        data: Directory of the data, a `Source`, or None for a source that makes its own images.

    Raises:
        ValueError: The source reads files and `data` is None, or makes its own and `data` is given.
        FileNotFoundError: There is no such directory.
    """
    from kerazoo.data import sources
    from kerazoo.data.shards import is_prepared

    if data is not None and not isinstance(data, str | Path):
        return data
    if data is not None and is_prepared(data):  # whatever it was prepared from
        return sources.prepared(data)
    part = recipe.data.source
    function, options = sources.SOURCES[part.name], part.options
    parameters = inspect.signature(function).parameters
    place = next((name for name in ("root", "images", "path") if name in parameters), None)
    reads_files = place is not None
    if reads_files and data is None:
        raise ValueError(f"The source {part.name!r} reads files: say in which directory they are (--data PATH).")
    if not reads_files and data is not None:
        raise ValueError(f"The source {part.name!r} makes its own images and reads no files; leave --data out.")
    if data is None:
        return function(**options)
    for name in _PLACES:
        if isinstance(options.get(name), str):
            options[name] = Path(data) / options[name]
    return function(**{place: Path(data), **options})


def read_split(run: str | Path, source: "Source") -> dict[str, "Source"]:
    """Train, validation and test source of a run, as its split.csv says.

    Raises:
        FileNotFoundError: The run has no split.csv.
        ValueError: The source lacks an id of split.csv, or split.csv is damaged.
    """
    path = require_file(run, "split.csv")
    parts = source.load_split(path)
    if set(parts) != set(SPLITS):
        lacking = [name for name in SPLITS if name not in parts]
        strange = [name for name in parts if name not in SPLITS]
        faults = [f"has no image in {', '.join(lacking)}"] if lacking else []
        faults += [f"names the splits {strange}"] if strange else []
        raise ValueError(
            f"{path} is damaged: it {' and '.join(faults)}, where a run has {', '.join(SPLITS)}. Restore it, or start "
            "the run anew with --overwrite."
        )
    return parts


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON in which NaN is null, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def write_counts(run: Path, ids: list[str], counts: "Counts") -> None:
    """Write counts.npz, whole or not at all."""
    partial = run / "counts.partial.npz"
    np.savez_compressed(partial, ids=np.array(ids), **vars(counts))
    partial.replace(run / "counts.npz")


def read_counts(run: str | Path) -> "tuple[list[str], Counts]":
    """Ids of the images, and their pixels.

    Raises:
        FileNotFoundError: The run was not evaluated, or by an earlier version.
    """
    from kerazoo.inference.scores import Counts

    with np.load(require_file(run, "counts.npz")) as file:
        return file["ids"].tolist(), Counts(**{name: file[name] for name in file.files if name != "ids"})


def read_run(run: str | Path) -> tuple[Recipe, dict[str, Any]]:
    """Recipe and run.json of a run.

    Raises:
        FileNotFoundError: The directory is not a run.
    """
    recipe = Recipe.load(require_file(run, "recipe.yaml"))
    return recipe, json.loads(require_file(run, "run.json").read_text(encoding="utf-8"))


def load_model(run: str | Path, checkpoint: str | None = None) -> keras.Model:
    """The model of a run, not compiled.

    Args:
        run: Run directory.
        checkpoint: "best" or "last"; None takes the recipe's.

    Raises:
        ValueError: `checkpoint` is neither of the two.
        FileNotFoundError: The run has no such checkpoint yet.
    """
    import kerazoo.layers  # noqa: F401  (registers the custom layers)

    if checkpoint is None:
        checkpoint = read_run(run)[0].evaluation.checkpoint
    if checkpoint not in ("best", "last"):
        raise ValueError(f"`checkpoint` is 'best' or 'last'; received {checkpoint!r}.")

    return keras.saving.load_model(require_file(run, f"checkpoints/{checkpoint}.keras"), compile=False)


def require_file(run: str | Path, name: str) -> Path:
    """Path of a file of a run.

    Raises:
        FileNotFoundError: The directory is not a run, or the run has no such file yet.
    """
    path = Path(run) / name
    if path.is_file():
        return path
    if not (Path(run) / "recipe.yaml").is_file():
        raise FileNotFoundError(f"{run} is not a run directory: it has no recipe.yaml. Give the --run of a training.")
    raise FileNotFoundError(f"{run} has no {name}: its training did not get that far. Continue it with --resume.")


def describe_environment(devices: int) -> dict[str, Any]:
    """Versions of what computes, and on what."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "backend": keras.backend.backend(),
        "devices": devices,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
