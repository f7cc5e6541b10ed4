"""A set of images with masks, and what every such set can do: count, split, select.

A data set is read by a `Reader`; the services are written once, here, and need neither TensorFlow nor decoded masks.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kerazoo.data.mapping import map_classes
from kerazoo.data.reader import Reader
from kerazoo.data.sample import Sample
from kerazoo.data.splitting import read_split, split_groups, split_images, write_split
from kerazoo.data.threads import in_threads


class Source:
    """Images with masks, indexable: `source[i]` is a `Sample`, decoded when asked for.

    Args:
        reader: Where the images come from.
        indices: Which of the reader's images, in which order; None means all.
    """

    def __init__(self, reader: Reader, *, indices: Sequence[int] | np.ndarray | None = None):
        self._reader = reader
        self._indices = np.arange(len(reader.ids)) if indices is None else np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`; a negative index counts from the end.

        Raises:
            IndexError: there is no such index.
            ValueError: the image or the mask is faulty, or their sizes differ; the message names the files.
        """
        image, mask = self.image(index), self.mask(index)
        if image.shape[:2] != mask.shape:
            raise ValueError(
                f"Image and mask of {self.id(index)!r} differ in size: image {image.shape[0]}x{image.shape[1]}, mask "
                f"{mask.shape[0]}x{mask.shape[1]} (height x width)."
            )
        return Sample(image, mask, self.id(index))

    def id(self, index: int) -> str:
        """Name of the sample at `index`."""
        return self._reader.ids[self._at(index)]

    def image(self, index: int) -> np.ndarray:
        """The image at `index`, `(H, W, C)`; never opens a mask."""
        return self._reader.image(self._at(index))

    def mask(self, index: int) -> np.ndarray:
        """The mask at `index`, `(H, W)` uint8 class ids."""
        return self._reader.mask(self._at(index))

    @property
    def ids(self) -> list[str]:
        """Names of the samples, unique."""
        names = self._reader.ids
        return [names[i] for i in self._indices.tolist()]

    @property
    def num_classes(self) -> int:
        """Classes as a model counts them: 1 for binary, else K ≥ 2 with the background."""
        return self._reader.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class; with K ≥ 2 the first is the background's."""
        return self._reader.class_names

    @property
    def ignore_class(self) -> int | None:
        """Mask id of pixels that count nowhere, or None."""
        return self._reader.ignore_class

    @property
    def value_range(self) -> tuple[float, float]:
        """Black and white, what models and augmentation go by: (0, 255), unless the source was asked for another."""
        return self._reader.value_range

    @property
    def groups(self) -> list[str] | None:
        """What a split by group never divides, one per image; None if the source has no groups."""
        names = self._reader.groups
        return None if names is None else [names[i] for i in self._indices.tolist()]

    @property
    def labels(self) -> np.ndarray:
        """`(n, num_classes)` bool image-level labels; column 0 means *empty* where there are K ≥ 2 classes."""
        return self._reader.facts.labels[self._indices]

    @property
    def foreground(self) -> np.ndarray:
        """`(n,)` bool: the image has at least one pixel of a foreground class."""
        labels = self.labels
        return labels[:, 0] if self.num_classes == 1 else np.any(labels[:, 1:], axis=1)

    @property
    def strata(self) -> np.ndarray:
        """`(n,)` int64: 0 for empty images, else the rarest class that the image shows; 1 with one class."""
        if self.num_classes == 1:
            return self.foreground.astype(np.int64)
        shown = self.labels[:, 1:]
        rarity = np.where(shown, shown.sum(axis=0), len(self) + 1)
        return np.where(shown.any(axis=1), rarity.argmin(axis=1) + 1, 0)

    @property
    def shapes(self) -> np.ndarray:
        """`(n, 3)` int: height, width and channels of every image."""
        shapes = self._reader.facts.shapes
        return (shapes() if callable(shapes) else shapes)[self._indices]

    @property
    def warnings(self) -> list[str]:
        """What looks wrong but may be right, one sentence each."""
        orphans = self.orphans
        lost = [f"{len(orphans)} files or records belong to no sample. The first: {orphans[0]}"] if orphans else []
        return [*(sentence for _, sentence in self.notes), *lost]

    @property
    def notes(self) -> list[tuple[str | None, str]]:
        """`warnings` but for the `orphans`, each with the id of its sample, or None if it is of the set as a whole."""
        own, names = set(self._indices.tolist()), self._reader.ids
        return [
            (None if index is None else names[index], sentence)
            for index, sentence in self._reader.facts.warnings
            if index is None or index in own
        ]

    @property
    def orphans(self) -> list[str]:
        """Files and records that belong to no sample, a sentence each."""
        return list(self._reader.orphans)

    @property
    def has_masks(self) -> bool:
        """Whether there are masks; False for image labels alone, where `mask` is an error."""
        return self._reader.has_masks

    @property
    def expects_foreground(self) -> np.ndarray | None:
        """`(n,)` bool: something besides the mask says that there is foreground, as the name of a directory.

        None if only the other images of a directory can tell; all False for formats where empty images are ordinary.
        """
        expected = self._reader.expects_foreground
        return None if expected is None else expected[self._indices]

    @property
    def fingerprints(self) -> np.ndarray:
        """`(n,)` uint64: changes where a sample, its files or how they are read may have changed."""
        texts = (f"{self._reader.ids[i]}\0{self._reader.fingerprint(i)}" for i in self._indices.tolist())
        digests = b"".join(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8] for text in texts)
        return np.frombuffer(digests, "<u8")

    @property
    def fingerprint(self) -> str:
        """Hash that changes when the samples, their order or their files may have changed."""
        return hashlib.sha256(self.fingerprints.tobytes()).hexdigest()[:32]

    def subset(self, indices: Iterable[int]) -> "Source":
        """The samples at `indices`, in that order; or those where a bool for each sample is true.

        Raises:
            ValueError: no sample is named, or the bools are not one for each sample.
            IndexError: an index is not in the source.
        """
        wanted = np.asarray(list(indices)) if not isinstance(indices, np.ndarray) else indices
        if wanted.dtype == bool and wanted.shape != (len(self),):
            raise ValueError(
                f"`indices` are {wanted.size} bools for {len(self)} samples; give one for each, or numbers."
            )
        chosen = np.flatnonzero(wanted) if wanted.dtype == bool else wanted.astype(np.int64)
        if not len(chosen):
            raise ValueError(f"`indices` names no sample of the {len(self)}; a source cannot be empty.")
        outside = chosen[(chosen < -len(self)) | (chosen >= len(self))]
        if len(outside):
            self._at(int(outside[0]))
        return Source(self._reader, indices=self._indices[chosen])

    def map_classes(self, mapping: Mapping[int | str, str], *, num_classes: int | None = None) -> "Source":
        """The same samples with other classes; labels follow, and no mask is opened for it.

        Args:
            mapping: New name of a class, by its name or id. Classes of one new name are one class; "background" drops a
                class to the background, "ignore" makes its pixels count nowhere. A class that is not named keeps its
                name. New ids follow the order of the old ones.
            num_classes: 1, or one more than the foreground classes; None means 1 if one is left.

        Returns: The source; an image that shows nothing but what is dropped or ignored is empty. If the source had no
            `ignore_class`, that is 255 where something is ignored.

        Raises:
            ValueError: a class is unknown (near matches are named), none is left, or `num_classes` does not fit.
        """
        return Source(map_classes(self._reader, mapping, num_classes), indices=self._indices)

    def split(
        self, *, by: str | None = None, fractions: Sequence[float] = (0.8, 0.2), seed: int = 0, stratify: bool = True
    ) -> tuple["Source", ...]:
        """Divide at random into as many sources as there are fractions; the same arguments give the same split.

        Args:
            by: "image", or "group": images of one group stay together. None means "group" if the source has groups.
            fractions: Share of images for each part; together 1. By group they are met as closely as groups allow.
            seed: Of the random division.
            stratify: Give every part the same share of empty images and, with several classes, of each class (an image
                with several counts for its rarest).

        Returns: One source per fraction, in that order; together they are this source.

        Raises:
            ValueError: the fractions do not sum to 1 or are not positive, `by` is unknown, there are no groups to split
                by, or a part would be empty.
        """
        groups = self.groups
        by = by or ("image" if groups is None else "group")
        if by not in ("image", "group"):
            raise ValueError(f'`by` must be "image" or "group", received by={by!r}.')
        if by == "group" and groups is None:
            raise ValueError('by="group" needs a source with groups; pass `groups` when the source is made.')
        strata = self.strata if stratify else np.zeros(len(self), np.int64)
        if by == "group" and groups is not None:
            parts = split_groups(groups, strata, fractions, seed)
        else:
            parts = split_images(strata, fractions, seed)
        return tuple(self.subset(part) for part in parts)

    def load_split(self, path: str | Path) -> dict[str, "Source"]:
        """Divide as a CSV of `save_split` says; ids that the file does not name are in no part.

        Raises:
            ValueError: the file names an id twice or one that the source lacks, divides a group, or lacks the columns
                `id` and `split`.
        """
        position = {name: index for index, name in enumerate(self.ids)}
        return {part: self.subset(indices) for part, indices in read_split(path, position, self.groups).items()}

    def class_frequencies(self) -> np.ndarray:
        """Share of the pixels of each class, `(max(num_classes, 2),)` float64 that sums to 1; reads every mask once.

        Index 0 is the background, for one class too. Ignored pixels do not count.
        """
        counts = np.zeros(256, np.int64)
        for histogram in in_threads(lambda i: np.bincount(self.mask(i).ravel(), minlength=256), range(len(self))):
            counts += histogram
        counts = counts[: max(self.num_classes, 2)]
        return counts / max(1, counts.sum())

    def __str__(self) -> str:
        return describe(self)

    def __repr__(self) -> str:
        return f"Source({type(self._reader).__name__}, {len(self)} images)"

    def _at(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is not in a source of {len(self)} samples.")
        return int(self._indices[index])


def describe(source: Source) -> str:
    """One line: how many images, how many with foreground, their sizes and channels, and how many warnings."""
    positives, shapes = int(source.foreground.sum()), source.shapes
    low, high = int(shapes[:, :2].min()), int(shapes[:, :2].max())
    channels = [{1: "grey", 3: "RGB"}.get(c, f"{c} channels") for c in sorted(set(shapes[:, 2].tolist()))]
    parts = [
        f"{len(source)} images",
        f"{positives} with foreground ({100 * positives / len(source):.1f} %)",
        f"sizes {low}-{high} px" if low < high else f"size {low} px",
        " and ".join(channels),
    ]
    if source.num_classes > 1:
        parts.append(f"{source.num_classes} classes")
    count = len(source.warnings)
    noted = f"; {count} warning{'s' if count > 1 else ''}: source.warnings" if count else ""
    return f"Source: {', '.join(parts)}{noted}"


def save_split(parts: Mapping[str, Source], path: str | Path) -> None:
    """Write which sample is in which part, as CSV with the columns `id`, `split` and, if there are groups, `group`.

    Args:
        parts: Name of the part ("train") to its source.
        path: File to write; an existing one is replaced.

    Raises:
        ValueError: a sample, or a group, is in two parts.
    """
    write_split({name: (source.ids, source.groups) for name, source in parts.items()}, path)
