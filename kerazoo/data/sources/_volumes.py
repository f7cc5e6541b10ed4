"""Find volumes and their masks, compare their grids, and know which slices show what."""

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from kerazoo.data.faults import DataError, raise_all
from kerazoo.data.formats.nifti import SUFFIXES, Volume, read_volume
from kerazoo.data.sources._pairing import list_files
from kerazoo.data.threads import in_threads

_FORMAT = 1  # of the index file


class Scan(NamedTuple):
    """A volume and its mask.

    Attributes:
        name: Of the volume: its file's without suffix.
        image: The header of the volume.
        mask: The header of the mask.
        warning: What is odd about the pair, or "".
    """

    name: str
    image: Volume
    mask: Volume
    warning: str


def pair(
    root: Path, mask_root: Path, volume_prefix: str, mask_prefix: str, excluded: frozenset[str]
) -> tuple[list[tuple[str, Path, Path]], list[tuple[str, str]]]:
    """Find volumes and their masks by name.

    Args:
        root: Directory of the volumes.
        mask_root: Directory of the masks; it may be `root`.
        volume_prefix: What comes before what a volume's name shares with its mask's.
        mask_prefix: The same for masks.
        excluded: Names of volumes to leave out.

    Returns: Name, volume and mask of each pair, in the order of the names; and the name of each volume or mask that
        lacks the other, with a sentence.

    Raises:
        ValueError: the prefixes do not tell volumes from masks.
        DataError: two files have one name.
    """
    apart = mask_root.resolve() != root.resolve()
    if not apart and volume_prefix == mask_prefix:
        raise ValueError(
            f"volume_prefix={volume_prefix!r} does not tell volumes from masks in one directory. Pass `masks`, or "
            "another prefix."
        )
    found: list[dict[str, Path]] = []
    for place, prefix, other in ((root, volume_prefix, mask_prefix), (mask_root, mask_prefix, volume_prefix)):
        files: dict[str, Path] = {}
        for name in list_files(place):
            file = PurePosixPath(name).name
            ending = next((suffix for suffix in reversed(SUFFIXES) if file.lower().endswith(suffix)), None)
            others = not apart and len(other) > len(prefix) and file.startswith(other)
            if ending is None or not file.startswith(prefix) or others:
                continue
            key = file[len(prefix) : len(file) - len(ending)]
            if key in files:
                raise DataError(f"{files[key]} and {place / name} are two files with one name. Rename or remove one.")
            files[key] = place / name
        found.append(files)
    volumes, masks = (
        {k: path for k, path in files.items() if f"{volume_prefix}{k}" not in excluded} for files in found
    )
    pairs = [(f"{volume_prefix}{key}", volumes[key], masks[key]) for key in sorted(volumes.keys() & masks.keys())]
    lost = [(f"{volume_prefix}{key}", f"{volumes[key]} has no mask.") for key in sorted(volumes.keys() - masks.keys())]
    lost += [(f"{volume_prefix}{key}", f"{masks[key]} has no volume.") for key in sorted(masks.keys() - volumes.keys())]
    return pairs, lost


def open_all(pairs: list[tuple[str, Path, Path]], orientation: str | None, root: Path) -> list[Scan]:
    """Headers of all pairs; every fault is collected before one is raised.

    Args:
        pairs: Name, volume and mask.
        orientation: Where the stored axes lead, in files that do not say.
        root: Named in errors.

    Raises:
        FaultyError: a header is damaged, or a mask has another grid than its volume.
    """
    scans, faults, ids = [], [], []
    for name, volume, mask in pairs:
        try:
            images, masks = (read_volume(path, orientation=orientation) for path in (volume, mask))
            scans.append(Scan(name, images, masks, _compare(images, masks)))
        except (ValueError, OSError) as error:
            faults.append(error)
            ids.append(name)
    raise_all(faults, len(pairs), f"under {root}", ids)
    return scans


def _compare(image: Volume, mask: Volume) -> str:
    """What is odd about the geometry of a pair, or "".

    Raises:
        DataError: mask and volume do not lie on one grid.
    """
    if image.shape != mask.shape:
        raise DataError(
            f"{image.path} and {mask.path} differ in size: {image.shape} and {mask.shape} (slices, rows, columns).",
            "size",
        )
    apart = float(np.abs(image.corners - mask.corners).max())
    if apart <= max(image.spacing_mm) / 2:
        return ""
    said = f"{mask.path} lies {apart:.0f} mm beside {image.path}, as their affines say"
    if image.axes != mask.axes:
        raise DataError(
            f"{said}, and their axes are stored as {mask.axes} and {image.axes}: one of the two is not where it says. "
            "Correct the affine.",
            "size",
        )
    return f"{said}; their axes agree, so their voxels are taken to be the same."


def present_values(scans: list[Scan], root: Path, index: Path | None) -> list[np.ndarray]:
    """Which values the slices of each mask have: from the index, or from one pass over the file.

    Args:
        scans: The volumes and masks.
        root: Directory that paths in the index start from.
        index: JSON file that is read if it is there, and written if a mask was read; or None.

    Returns: `(D, 256)` bool for each mask.

    Raises:
        FaultyError: a mask is damaged, or has values that are no whole numbers of 0 to 255.
        ValueError: the index is damaged.
    """
    masks = [scan.mask for scan in scans]
    kept = {} if index is None else _read_index(index)
    keys = [mask.path.relative_to(root).as_posix() for mask in masks]
    stamps = [[mask.path.stat().st_size, mask.path.stat().st_mtime_ns, mask.axes] for mask in masks]
    found: dict[int, np.ndarray] = {}
    for number, (key, stamp, mask) in enumerate(zip(keys, stamps, masks, strict=True)):
        entry = kept.get(key, {"file": None})
        if entry["file"] == stamp and len(entry["values"]) == mask.shape[0]:
            found[number] = np.zeros((mask.shape[0], 256), bool)
            for row, values in zip(found[number], entry["values"], strict=True):
                row[values] = True
    new = [number for number in range(len(masks)) if number not in found]
    faults: dict[str, Exception] = {}

    def read(number: int) -> np.ndarray | Exception:
        try:
            return masks[number].present()
        except (ValueError, OSError) as error:
            return error

    for number, each in zip(new, in_threads(read, new), strict=True):
        if isinstance(each, Exception):
            faults[scans[number].name] = each
        else:
            found[number] = each
    raise_all([*faults.values()], len(masks), f"under {root}", [*faults])
    if index is not None and new:
        files = {
            key: {"file": stamp, "values": [np.flatnonzero(row).tolist() for row in found[number]]}
            for number, (key, stamp) in enumerate(zip(keys, stamps, strict=True))
        }
        partial = index.with_name(index.name + ".partial")
        partial.write_text(json.dumps({"format": _FORMAT, "files": {**kept, **files}}), encoding="utf-8")
        partial.replace(index)
    return [found[number] for number in range(len(masks))]


def _read_index(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT or not all({"file", "values"} <= set(f) for f in content["files"].values()):
            raise ValueError("another format")
        return content["files"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`index`: {path} is damaged, or no index: {error}. Delete it, or pass another file."
        ) from error
