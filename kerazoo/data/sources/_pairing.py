"""Find image files and the mask file of each."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kerazoo.data.formats.images import SUFFIXES


class Pairs(NamedTuple):
    """Images and masks that belong together.

    Attributes:
        ids: Path of each image under its directory, without suffix; sorted.
        images: Path of each image under its directory.
        masks: Path of each mask under its directory; None where there is none.
        orphans: Masks that belong to no image.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str | None, ...]
    orphans: tuple[str, ...]


def directory(path: str | Path, argument: str) -> Path:
    """`path` as a Path.

    Raises:
        FileNotFoundError: it is no directory.
    """
    found = Path(path)
    if not found.is_dir():
        what = "is a file" if found.exists() else "does not exist"
        raise FileNotFoundError(f"`{argument}` must be a directory: {found} {what} (working directory {Path.cwd()}).")
    return found


def list_files(root: Path, recursive: bool = True) -> list[str]:
    """Files under `root` as sorted posix paths relative to it; hidden ones are left out, links are followed once."""
    found, seen = [], set()
    for current, directories, names in os.walk(root, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            directories.clear()
            continue
        seen.add(real)
        directories[:] = [name for name in directories if recursive and not name.startswith(".")]
        relative = Path(current).relative_to(root)
        found += [(relative / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def pair(
    root: Path, masks: Path | None, *, image_suffix: str | Sequence[str] | None, mask_suffix: str, recursive: bool
) -> Pairs:
    """Pair every image under `root` with the file of the same stem plus `mask_suffix`, in whatever case.

    Args:
        root: Directory of the images.
        masks: Directory of the masks; None means `root`.
        image_suffix: Ending or endings of image files; None means every known format.
        mask_suffix: What follows the image's stem in the mask's name.
        recursive: Look in sub-directories too.

    Raises:
        ValueError: there is no image, or two images have one stem.
    """
    endings = (image_suffix,) if isinstance(image_suffix, str) else tuple(image_suffix or SUFFIXES)
    endings = tuple(ending.lower() for ending in endings)
    apart = masks is not None and masks.resolve() != root.resolve()
    files = list_files(root, recursive)
    mask_files = list_files(masks, recursive) if masks is not None and apart else files
    if apart and masks is not None and masks.resolve().is_relative_to(root.resolve()):
        inside = masks.resolve().relative_to(root.resolve()).as_posix() + "/"
        files = [name for name in files if not name.startswith(inside)]
    by_name = {name.lower(): name for name in mask_files if name.lower().endswith(mask_suffix.lower())}
    images: dict[str, str] = {}
    for name in files:
        if not name.lower().endswith(endings) or (not apart and name.lower() in by_name):
            continue
        id = stem(name, endings, image_suffix is not None)
        if id in images:
            raise ValueError(
                f"{images[id]} and {name} in {root} are two images with one id and one mask. Tell images "
                "from masks with `mask_suffix` or `image_suffix`, or rename one."
            )
        images[id] = name
    if not images:
        suffixes = ", ".join(sorted({PurePosixPath(name).suffix or "(none)" for name in files})[:8]) or "no"
        besides = "" if apart else f", and files that end in mask_suffix={mask_suffix!r} are masks"
        raise ValueError(
            f"No image in {root}: its {len(files)} files have the suffixes {suffixes}; images end in "
            f"{', '.join(endings)}{besides}. Correct `root`, `image_suffix` or `mask_suffix`."
        )
    ids = sorted(images)
    found = tuple(by_name.pop(f"{id}{mask_suffix}".lower(), None) for id in ids)
    return Pairs(tuple(ids), tuple(images[id] for id in ids), found, tuple(sorted(by_name.values())))


def without_suffix(name: str) -> str:
    """A path without its suffix, in the form of POSIX; what names no file stays as it is."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.name else name


def stem(name: str, endings: tuple[str, ...], cut_ending: bool) -> str:
    """`name` without its suffix, or without the ending that the caller gave ("_image.png")."""
    if not cut_ending:
        return without_suffix(name)
    longest = max((ending for ending in endings if name.lower().endswith(ending)), key=len)
    return name[: len(name) - len(longest)]
