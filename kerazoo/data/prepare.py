"""Decode a source once, in parallel, into TFRecord files that are read many times faster."""

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kerazoo.data.formats.images import resize_image, resize_mask, to_byte_range
from kerazoo.data.formats.tfrecord import HEADER, example, frame
from kerazoo.data.processes import in_processes
from kerazoo.data.shards import DTYPES, FORMAT, RECORDS, ROW, SOURCE, flush_to_disk, join, load, save, shard_name, split
from kerazoo.data.source import Source
from kerazoo.data.sources.prepared import prepared

_LOCK = "prepare.lock"


def prepare(
    source: Source,
    directory: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    compress: bool = False,
    shard_images: int = 256,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Write every sample, decoded and resized, to TFRecord files in `directory`, and give back a source of them.

    Nothing is lost: what is read later is, bit for bit, what decoding and resizing again would give. A preparation that
    was interrupted, at whatever point, goes on after its last whole shard; one that is complete is only checked. A
    second process that prepares the same directory waits for the first.

    The records are `tf.train.Example`s: "id", "image" (its pixels, row by row), "image/dtype", "image/shape", "mask"
    (uint8 ids, or nothing where all is background), "label" (the ids that the image shows) and, if the source has
    groups, "group". What is written identifies nobody beyond the ids and groups of the source.

    Args:
        source: The samples. With several workers it is pickled.
        directory: Where they go; made if it does not exist.
        image_size: (height, width) to which images and masks are resized as the pipeline does it (16-bit images become
            float32 in 0-255); None keeps their sizes.
        compress: Keep images and masks in zlib's format, which takes less room and more time to read.
        shard_images: Samples in a file, and what an interruption costs at most.
        workers: Processes that decode; None takes one for each core, 1 decodes in this process.
        progress: Called with the number of samples done and of all.

    Returns: The prepared source, as `kerazoo.data.sources.prepared(directory)` gives it.

    Raises:
        ValueError: `directory` was prepared from something else (the message says what differs) or holds other files;
            or a sample is faulty, or the source cannot be sent to other processes.
        RuntimeError: a process was killed.
    """
    _check(image_size, shard_images, workers)
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    settings = {
        "image_size": None if image_size is None else [int(side) for side in image_size],
        "compress": bool(compress),
        "shard_images": shard_images,
    }
    with _locked(root):
        _check_or_write_plan(source, root, settings)
        _write(source, root, settings, _cores() if workers is None else workers, progress)
    return prepared(root)


def _check(image_size: tuple[int, int] | None, shard_images: int, workers: int | None) -> None:
    if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
        raise ValueError(f"`image_size` must be (height, width) in pixels or None, received {image_size}.")
    if shard_images < 1 or (workers is not None and workers < 1):
        raise ValueError(
            f"`shard_images` and `workers` must be 1 or more, received shard_images={shard_images}, workers={workers}."
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep other processes out of `root`; the system lets go of the lock when its holder dies."""
    import filelock

    lock = filelock.FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Another process prepares {root}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_or_write_plan(source: Source, root: Path, settings: dict[str, Any]) -> None:
    """Write what is going to be prepared, or compare it with what was."""
    facts = {
        "format": FORMAT,
        "settings": settings,
        "num_classes": source.num_classes,
        "class_names": list(source.class_names),
        "ignore_class": source.ignore_class,
        "value_range": [*source.value_range],
    }
    fingerprints, groups = source.fingerprints, source.groups
    if (root / SOURCE).is_file():
        found, arrays = load(root / SOURCE)
        differences = [*_differ(found, facts), *_samples_differ(arrays, source.ids, groups, fingerprints)]
        if differences:
            raise ValueError(
                f"{root} was prepared from something else: {'; '.join(differences)}. Pass another directory, or delete "
                "this one."
            )
        return
    strange = sorted(path.name for path in root.iterdir() if path.name not in (_LOCK, f"{SOURCE}.partial"))
    if strange:
        raise ValueError(
            f"{root} is no prepared data and holds {len(strange)} files or directories, the first {strange[0]!r}. Pass "
            "an empty or a new directory."
        )
    grouped = {} if groups is None else {"groups": join(groups)}
    save(
        root / SOURCE,
        {**facts, "warnings": source.warnings},
        ids=join(source.ids),
        labels=source.labels,
        fingerprints=fingerprints,
        **grouped,
    )


def _differ(found: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What facts and settings have changed, in words."""
    before, after = ({**facts, **facts["settings"]} for facts in (found, now))
    names = [name for name in after if name != "settings" and before.get(name) != after[name]]
    return [f"{name} was {before.get(name)} and is {after[name]}" for name in names]


def _samples_differ(
    arrays: dict[str, np.ndarray], ids: list[str], groups: list[str] | None, fingerprints: np.ndarray
) -> list[str]:
    """What samples have changed, in words."""
    before = split(arrays["ids"])
    if len(before) != len(ids):
        return [f"it had {len(before)} images and has {len(ids)}"]
    for old, new in zip(before, ids, strict=True):
        if old != new:
            return [f"the ids or their order changed, the first from {old!r} to {new!r}"]
    changed = np.flatnonzero(arrays["fingerprints"] != fingerprints)
    if len(changed):
        first = ids[changed[0]]
        return [f"{len(changed)} of {len(ids)} images or masks, or how they are read, changed, the first {first!r}"]
    if (None if "groups" not in arrays else list(split(arrays["groups"]))) != groups:
        return ["the groups changed"]
    return []


def _write(
    source: Source, root: Path, settings: dict[str, Any], workers: int, progress: Callable[[int, int], None] | None
) -> None:
    """Write the shards that are missing, then where their records are."""
    each = settings["shard_images"]
    shards = -(-len(source) // each)
    known = load(root / RECORDS)[1]["records"] if (root / RECORDS).is_file() else None
    rows: dict[int, np.ndarray] = {}
    for shard in range(shards):
        path, part = root / shard_name(shard, shards), slice(shard * each, (shard + 1) * each)
        index = path.with_suffix(".npz")
        found = known[part] if known is not None else load(index)[1]["records"] if index.is_file() else None
        if found is not None and path.is_file() and path.stat().st_size == found["end"][-1]:
            rows[shard] = found
    missing = [shard for shard in range(shards) if shard not in rows]
    done = sum(map(len, rows.values()))
    if progress is not None:
        progress(done, len(source))
    places = [range(shard * each, min((shard + 1) * each, len(source))) for shard in missing]
    labels = load(root / SOURCE)[1]["labels"]  # the source would decode its masks for them
    encode = Encoder(source, labels, settings["image_size"], settings["compress"])
    with in_processes(encode, [place for part in places for place in part], workers) as encoded:
        for shard, part in zip(missing, places, strict=True):
            path = root / shard_name(shard, shards)
            partial, end = path.with_name(f"{path.name}.partial"), 0
            rows[shard] = np.zeros(len(part), ROW)
            with partial.open("wb") as file:
                for row in range(len(part)):
                    record, rows[shard][row] = next(encoded)
                    file.write(record)
                    for name in ("image_at", "mask_at"):
                        rows[shard][name][row] += end
                    end += len(record)
                    rows[shard]["end"][row] = end
                    done += 1
                    if progress is not None:
                        progress(done, len(source))
                flush_to_disk(file)
            save(path.with_suffix(".npz"), {}, records=rows[shard])
            partial.replace(path)
    if known is None or missing:
        save(root / RECORDS, {}, records=np.concatenate([rows[shard] for shard in range(shards)]))
    for shard in range(shards):
        (root / shard_name(shard, shards)).with_suffix(".npz").unlink(missing_ok=True)


class Encoder:
    """Makes the record of one sample.

    Args:
        source: The samples.
        labels: Of the source.
        image_size: [height, width], or None to keep sizes.
        compress: Compress image and mask.

    Call: the sample's index.
    Returns: the record as it stands in the file, and its `shards.ROW` (a tuple), counted from the record's begin.

    Raises:
        ValueError: the sample is faulty, or its image has a dtype that no source may give.
    """

    def __init__(self, source: Source, labels: np.ndarray, image_size: list[int] | None, compress: bool):
        self._source, self._compress = source, compress
        self._size = None if image_size is None else (image_size[0], image_size[1])
        self._labels, self._groups = labels, source.groups

    def __call__(self, index: int) -> tuple[bytes, tuple[Any, ...]]:
        image, mask, id = self._source[index]
        if self._size is not None:
            image, mask = resize_image(to_byte_range(image), self._size), resize_mask(mask, self._size)
        if image.dtype.name not in DTYPES:
            raise ValueError(f"Image {id!r} is {image.dtype}; a source gives one of {', '.join(DTYPES)}.")
        pixels, ids = (np.ascontiguousarray(part).tobytes() for part in (image, mask))
        ids = ids if mask.any() else b""
        if self._compress:
            pixels, ids = zlib.compress(pixels), zlib.compress(ids) if ids else ids
        shows = np.flatnonzero(self._labels[index])
        shows = shows + 1 if self._source.num_classes == 1 else shows
        features: dict[str, Any] = {
            "id": id.encode("utf-8", "surrogateescape"),
            "image": pixels,
            "image/dtype": image.dtype.name.encode(),
            "image/shape": image.shape,
            "label": [int(k) for k in shows if k > 0],
            "mask": ids,
        }
        if self._groups is not None:
            features["group"] = self._groups[index].encode("utf-8", "surrogateescape")
        payload, at = example(features)
        vanished = bool(set(features["label"]) - set(np.unique(mask).tolist()))
        row = (
            HEADER + at["image"], len(pixels), zlib.crc32(pixels), DTYPES.index(image.dtype.name),
            HEADER + at["mask"], len(ids), zlib.crc32(ids), image.shape, 0, vanished,
        )  # fmt: skip
        return frame(payload), row
