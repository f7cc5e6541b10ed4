"""Read a JSON file of COCO instances: everything in it is checked, and only what masks need is kept.

Format: https://cocodataset.org/#format-data
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from kerazoo.arguments import did_you_mean
from kerazoo.data.faults import DataError, FaultyError
from kerazoo.data.formats.instances import MAX_PIXELS, Instances


class CocoFile(NamedTuple):
    """What a file says of the classes that were asked for.

    Attributes:
        files: File name of each image, sorted.
        sizes: `(n, 2)` int64: height and width of each.
        class_names: Names of the foreground classes, ids from 1 on.
        instances: Their objects.
        faults: Index of an image, and what is wrong with one of its annotations.
        strays: Annotations of no image that the file has.
    """

    files: tuple[str, ...]
    sizes: np.ndarray
    class_names: tuple[str, ...]
    instances: Instances
    faults: tuple[tuple[int, DataError], ...]
    strays: tuple[str, ...]


def read_coco(path: str | Path, classes: Sequence[str] | None, id_of: Callable[[str], str | None]) -> CocoFile:
    """Parse the file.

    Args:
        path: Of the JSON file.
        classes: Names of categories, whose ids become 1, 2, …; None means all, in the order of the file's ids.
        id_of: From the name of an image file to what errors call the image, or None to leave it out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, not of COCO's instances, an image's record is damaged, or a class is unknown. What
            is wrong with annotations is in `faults`.
    """
    path = Path(path)
    content = _load(path)
    labels, class_names = _classes(_records(content, "categories", path), classes, path)
    files, sizes, index = _images(_records(content, "images", path), id_of, path)
    instances, faults, strays = Instances(), [], []
    for position, record in enumerate(_records(content, "annotations", path)):
        if "segments_info" in record:
            raise ValueError(f"{path} holds COCO's panoptic annotations; give the file of instances.")
        name = f"annotation {record.get('id', f'number {position}')!s:.40}"
        owner = record.get("image_id")
        if not isinstance(owner, int | str) or owner not in index:
            strays.append(f"{name} of {path.name} belongs to image_id={owner!s:.40}, which the file does not have.")
            continue
        image = index[owner]
        if image is None:  # left out
            continue
        category = record.get("category_id")
        name = f"{name} (image {files[image]}) in {path.name}"
        if not isinstance(category, int | str) or category not in labels:
            text = f"The {name} has category_id={category!s:.40}, which is none of the file's {len(labels)} categories."
            faults.append((image, DataError(text, "values")))
            continue
        if (label := labels[category]) == 0:
            continue
        try:
            size = (int(sizes[image, 0]), int(sizes[image, 1]))
            instances.add(image, label, record.get("iscrowd", 0) == 1, name, record.get("segmentation"), size)
        except DataError as error:
            faults.append((image, error))
    return CocoFile(files, sizes, class_names, instances, tuple(faults), tuple(strays))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of annotations {path} (working directory {Path.cwd()}).")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: {error}. It is damaged or incomplete; restore it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a file of COCO instances: it holds a {type(content).__name__}, not an object.")
    return content


def _records(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    records = content.get(key)
    if not isinstance(records, list):
        raise ValueError(
            f'{path} is not a file of COCO instances: it needs the lists "images", "annotations" and "categories", and '
            f"has {[str(name)[:40] for name in content][:8]}; {key!r} is {type(records).__name__}."
        )
    for position, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f"{path} is damaged: number {position} of {key!r} is {str(record)[:40]!r}, not an object.")
    return records


def _classes(
    records: list[dict[str, Any]], classes: Sequence[str] | None, path: Path
) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """Class id of each category's id, 0 for what is background, and the names of the classes."""
    names: dict[int | str, str] = {}
    for record in records:
        number, name = record.get("id"), record.get("name")
        if not isinstance(number, int | str) or not isinstance(name, str) or number in names:
            raise ValueError(
                f"{path} is damaged: each category needs an `id` of its own and a `name`, received {str(record)[:80]}."
            )
        names[number] = name
    known = tuple(dict.fromkeys(names[number] for number in sorted(names, key=lambda key: (isinstance(key, str), key))))
    wanted = known if classes is None else tuple(classes)
    if isinstance(classes, str) or not wanted or len(set(wanted)) != len(wanted) or len(wanted) > 254:
        raise ValueError(
            f"`classes` must name one to 254 categories once each, received {classes!r}; {path} has {len(known)}."
        )
    for name in wanted:
        if name not in known:
            meant = did_you_mean(name, known) or f" There are {', '.join(known[:20])}."
            raise ValueError(f"{path} has no category {name!r}.{meant} Correct `classes`.")
    place = {name: label for label, name in enumerate(wanted, start=1)}
    return {number: place.get(name, 0) for number, name in names.items()}, wanted


def _images(
    records: list[dict[str, Any]], id_of: Callable[[str], str | None], path: Path
) -> tuple[tuple[str, ...], np.ndarray, dict[int | str, int | None]]:
    """File names, sorted; their sizes; and from an image's id in the file to its index, None if it is left out."""
    kept: list[tuple[str, int, int, int | str]] = []
    index: dict[int | str, int | None] = {}
    faulty: list[tuple[str, str, str]] = []
    for record in records:
        number, name = record.get("id"), record.get("file_name")
        if not isinstance(number, int | str) or isinstance(number, bool) or number in index:
            raise ValueError(f"{path} is damaged: each image needs an `id` of its own, received {str(record)[:80]}.")
        if not isinstance(name, str) or not name or "\0" in name or not _inside(name):
            raise ValueError(
                f"{path} is damaged: image {number!s:.40} has file_name={str(name)[:80]!r}, which is no path below the "
                "directory of the images."
            )
        index[number] = None
        if (id := id_of(name)) is None:
            continue
        height, width = _whole(record.get("height")), _whole(record.get("width"))
        if height < 1 or width < 1 or height * width > MAX_PIXELS:
            text = (
                f"{path}: image {name} has height={record.get('height')!s:.20} and width={record.get('width')!s:.20}; "
                f"they must be whole numbers of pixels, together at most {MAX_PIXELS}. Correct it, or `exclude` the "
                "image."
            )
            faulty.append((id, "annotation", text))
        kept.append((name, height, width, number))
    if faulty:
        more = f" {len(faulty) - 1} more images are so." * (len(faulty) > 1)
        raise FaultyError(f"{faulty[0][2]}{more}", faulty)
    twice = [name for name, times in Counter(name for name, *_ in kept).items() if times > 1]
    if twice:
        raise ValueError(f"{path} has {len(twice)} file names with two records. The first is {twice[0]}; keep one.")
    if not kept:
        raise ValueError(f"{path} names no image" + (", once those that are excluded are left out." if index else "."))
    kept.sort()
    for place, (*_, number) in enumerate(kept):
        index[number] = place
    sizes = np.array([(height, width) for _, height, width, _ in kept], np.int64).reshape(-1, 2)
    return tuple(name for name, *_ in kept), sizes, index


def _inside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts


def _whole(value: Any) -> int:
    """The number, 0 if it is not whole."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > MAX_PIXELS:
        return 0
    return int(value) if int(value) == value else 0
