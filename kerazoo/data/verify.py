"""Walk through a data set and report every fault, instead of stopping at the first."""

import csv
import hashlib
import inspect
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerazoo.data.emptiness import empty_among_full
from kerazoo.data.faults import FaultyError, MissingError, kind_of
from kerazoo.data.id_lists import read_ids
from kerazoo.data.processes import in_processes
from kerazoo.data.source import Source, describe
from kerazoo.data.sources.folder import folder
from kerazoo.data.threads import in_threads
from kerazoo.findings import Finding, Report

KINDS = {
    "missing": "samples of which a file is missing",
    "unreadable": "files that are corrupt, truncated or no images",
    "format": "files of a kind that cannot be used",
    "size": "images and masks that differ in size",
    "values": "masks with values that are no classes",
    "lossy": "masks that were anti-aliased or compressed with loss",
    "annotation": "annotations that are damaged",
    "outside": "annotations that do not lie in their image",
    "not_finite": "images with NaN or infinity",
    "constant": "images of one value",
    "empty_mask": "empty masks where the directory says that there is something",
    "label": "labels that the mask contradicts",
    "duplicate": "images that are there twice",
    "leak": "images or groups that are in two parts of the split",
    "mixed": "images with other channels or another bit depth than most",
    "orphan": "files and annotations that belong to no sample",
    "warning": "what looks wrong but may be right",
}
"""Every kind of finding, and what it means."""

_WARNINGS = ("mixed", "orphan", "warning")  # kinds that do not keep a sample from use; the others are errors
_COLUMNS = ("kind", "id", "problem")
_SHOWN = 10  # findings of a kind that the text names


@dataclass(frozen=True, kw_only=True)
class Verification(Report):
    """What `verify` found; `str()` of it is a report for people.

    Attributes:
        findings: In the order of the kinds, errors first, then of the samples; their `code` is one of `KINDS`.
        images: Number of samples that were examined.
        batches: None.
        summary: The source in one line, or why it cannot be described.
    """

    summary: str

    verdict = "A data set should not be used like this:"

    @property
    def samples(self) -> int:
        """Number of samples that were examined."""
        return self.images

    @property
    def clean(self) -> bool:
        """Nothing was found."""
        return not self.findings

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind that was found."""
        return dict(Counter(self.codes))

    @property
    def exclusions(self) -> dict[str, Finding]:
        """Each sample to leave out, and the first reason; of images that are there twice the first stays."""
        chosen: dict[str, Finding] = {}
        for finding in self.findings:
            if finding.id is not None and finding.severity == "error":
                chosen.setdefault(finding.id, finding)
        return chosen

    def save(self, path: str | Path) -> None:
        """Write every finding: JSON if the file's name ends in .json, else CSV with the columns kind, id, problem."""
        if Path(path).suffix.lower() == ".json":
            Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        else:
            _write_csv(path, _COLUMNS, ((each.kind, each.id, each.problem) for each in self.findings))

    def save_exclusions(self, path: str | Path) -> None:
        """Write the samples to leave out, as CSV with the columns id, kind, problem, for `exclude` of every source.

        Nothing of the data is changed. Lines may be removed to keep a sample after all.
        """
        rows = ((id, finding.kind, finding.problem) for id, finding in self.exclusions.items())
        _write_csv(path, ("id", "kind", "problem"), rows)

    def to_dict(self) -> dict[str, Any]:
        """The report in types of JSON, as `save` writes it."""
        report = super().to_dict()
        for entry, each in zip(report["findings"], self.findings, strict=True):
            entry |= {"kind": each.kind, "id": each.id, "problem": each.problem}
        return {"samples": self.samples, "summary": self.summary, "counts": self.counts, **report}

    def _headline(self) -> str:
        """How much was found in how much, in one line."""
        found = f"{len(self.findings)} findings, in {len(self.exclusions)} of" if self.findings else "Nothing found in"
        return f"{found} {self.samples} samples."

    def __str__(self) -> str:
        lines = [self.summary]
        for kind, count in self.counts.items():
            lines.append(f"{kind}: {count} {KINDS[kind]}")
            listed = [finding.problem for finding in self.findings if finding.kind == kind]
            lines += [f"  {problem}" for problem in listed[:_SHOWN]]
            lines += [f"  … and {count - _SHOWN} more"] * (count > _SHOWN)
        return "\n".join([*lines, self._headline()])


def verify(
    data: Source | str | Path | Callable[..., Source],
    *,
    split: str | Path | None = None,
    ignore: Iterable[str] = (),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Verification:
    """Read every image and mask of a data set, and report everything that is wrong.

    `KINDS` lists the faults: what the source itself refuses to read, and what only shows when all samples are compared,
    such as images that are there twice, empty masks in a directory of defects, or a different number of channels.

    Args:
        data: A source; a directory, which `sources.folder` reads; or a function of `sources`, such as `sources.coco`.
        split: CSV of `save_split`: an image, or a group, in two of its parts is a leak. Of a source that has a `split`
            itself (`voc`, `cityscapes`) what does not end in .csv is that.
        ignore: Kinds not to report.
        workers: Processes that read; 1 reads in threads of this process, which is enough where decoding is most of it.
        progress: Called with the number of samples done and of all.
        **options: Of the function that makes the source; a sample that it refuses for a missing or a damaged file is
            reported, and the others are looked at.

    Returns: The findings.

    Raises:
        FileNotFoundError: there is no such directory or file.
        ValueError: the source cannot be made at all, or an argument is wrong.
    """
    unknown = [kind for kind in ignore if kind not in KINDS]
    if unknown:
        raise ValueError(f"`ignore` names the kind {unknown[0]!r}; the kinds are {', '.join(KINDS)}.")
    named = () if isinstance(data, Source | str | Path) else inspect.signature(data).parameters
    if split is not None and "split" in named and Path(split).suffix.lower() != ".csv":
        split, options = None, {**options, "split": str(split)}
    parts, divided = _parts(split)
    if isinstance(data, Source):
        if options:
            raise ValueError(f"The source is there already; leave out {', '.join(options)}.")
        source, findings = data, []
    else:
        if isinstance(data, str | Path):
            data, options = folder, {"root": data, **options}
        source, findings = _open(data, options)
    if source is None:
        samples, summary = len(findings), "No sample is complete."
    else:
        samples, summary = len(source) + len(findings), ""
        facts = _inspect_all(source, workers, progress)
        findings += _of_samples(source, facts)
        findings += [*_of_all(source, facts, parts), *divided]
        try:
            summary = describe(source)
        except (ValueError, OSError) as error:
            summary = f"Source: {len(source)} images, not all of which can be used."
            if not findings:
                findings.append(_finding("format", None, str(error)))
    kept = [finding for finding in findings if finding.kind not in set(ignore)]
    kept.sort(key=lambda finding: [*KINDS].index(finding.kind))
    return Verification.of(kept, images=samples, summary=summary)


def _finding(kind: str, id: str | None, problem: str) -> Finding:
    return Finding(severity="warning" if kind in _WARNINGS else "error", code=kind, message=problem, id=id)


def _open(make: Callable[..., Source], options: Mapping[str, Any]) -> tuple[Source | None, list[Finding]]:
    """The source without the samples that it cannot be made with, and those; None if all are so."""
    options = dict(options)
    findings: list[Finding] = []
    can_exclude = "exclude" in inspect.signature(make).parameters
    left_out = read_ids(options.pop("exclude", None), "exclude") if can_exclude else frozenset()
    while True:
        try:
            return make(**options, **({"exclude": sorted(left_out)} if left_out else {})), findings
        except (MissingError, FaultyError) as error:
            new = [_finding(kind, id, problem) for id, kind, problem in error.faulty if id not in left_out]
            if not new or not can_exclude:
                raise
            findings += new
            left_out |= {finding.id for finding in new if finding.id is not None}
        except (ValueError, FileNotFoundError):
            if not findings:
                raise
            return None, findings  # nothing is left


class _SampleFacts(NamedTuple):
    """What one sample shows.

    Attributes:
        faults: (kind, sentence).
        form: Channels and dtype of the image, or None if it cannot be read.
        image: Hash of its pixels, None if it cannot be read or is of one value.
        mask: Hash of the mask's, None if it cannot be read.
        classes: Foreground ids in the mask, None if it cannot be read.
    """

    faults: tuple[tuple[str, str], ...]
    form: tuple[int, str] | None
    image: bytes | None
    mask: bytes | None
    classes: frozenset[int] | None


@dataclass(frozen=True)
class _Inspector:
    """Reads a sample and gives its facts; in other processes too."""

    source: Source

    def __call__(self, index: int) -> _SampleFacts:
        source, id = self.source, self.source.id(index)
        faults: list[tuple[str, str]] = []
        image = _read(source.image, index, id, faults)
        mask = _read(source.mask, index, id, faults) if source.has_masks else None
        form = digest = mask_digest = classes = None
        if image is not None:
            form = (image.shape[2], image.dtype.name)
            low, high = image.min(), image.max()  # both NaN if anything is
            if image.dtype.kind == "f" and not np.isfinite([low, high]).all():
                faults.append(("not_finite", f"Image {id} holds NaN or infinity. Repair it or leave it out."))
            elif low == high:
                faults.append(("constant", f"Image {id} has the value {low} everywhere: it shows nothing."))
            else:
                digest = _hash(image)
        if mask is not None:
            mask_digest, ids = _hash(mask), np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
            ids = ids[ids != source.ignore_class] if source.ignore_class is not None else ids
            classes = frozenset(ids[ids > 0].tolist())
            unknown = [k for k in sorted(classes) if k >= max(source.num_classes, 2)]
            if unknown:
                faults.append(("values", f"The mask of {id} has the ids {unknown}, which are no classes."))
        if image is not None and mask is not None and image.shape[:2] != mask.shape:
            sizes = f"{image.shape[0]}x{image.shape[1]} and {mask.shape[0]}x{mask.shape[1]}"
            faults.append(("size", f"Image and mask of {id} differ in size: {sizes} (height x width)."))
        return _SampleFacts(tuple(dict.fromkeys(faults)), form, digest, mask_digest, classes)


def _read(read: Callable[[int], np.ndarray], index: int, id: str, faults: list[tuple[str, str]]) -> np.ndarray | None:
    try:
        return read(index)
    except ModuleNotFoundError:  # not the data's fault
        raise
    except FileNotFoundError as error:
        faults.append(("missing", str(error)))
    except (ValueError, OSError) as error:
        faults.append((kind_of(error), str(error)))
    except Exception as error:  # a reader that did not expect this file; what it says may hold anything
        faults.append(("unreadable", f"{id} cannot be read: {type(error).__name__}."))
    return None


def _hash(pixels: np.ndarray) -> bytes:
    head = f"{pixels.dtype.str}{pixels.shape}".encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=head[:64]).digest()


def _inspect_all(source: Source, workers: int, progress: Callable[[int, int], None] | None) -> list[_SampleFacts]:
    def counted(results: Iterable[_SampleFacts]) -> Iterator[_SampleFacts]:
        for done, each in enumerate(results, start=1):
            if progress is not None:
                progress(done, len(source))
            yield each

    if workers < 1:
        raise ValueError(f"`workers` must be at least 1, received workers={workers}.")
    if workers == 1:
        return [*counted(in_threads(_Inspector(source), range(len(source))))]
    with in_processes(_Inspector(source), range(len(source)), workers) as results:
        return [*counted(results)]


def _of_samples(source: Source, facts: Sequence[_SampleFacts]) -> Iterator[Finding]:
    """What is wrong with a sample alone, and with its label."""
    for id, sample in zip(source.ids, facts, strict=True):
        for kind, problem in sample.faults:
            yield _finding(kind, id, problem)
    empty = _empty(source, facts)
    for id, text in empty:
        yield _finding("empty_mask", id, text)
    try:
        labels, notes = source.labels, source.notes
    except (ValueError, OSError):  # the faults above, all at once
        return
    told = {problem for sample in facts for _, problem in sample.faults} | {text for _, text in empty}
    for id, text in notes:
        if text not in told:
            yield _finding("warning", id, text)
    names = source.class_names if source.num_classes > 1 else ("background", *source.class_names)
    for id, sample, label in zip(source.ids, facts, labels, strict=True):
        said = {k + (source.num_classes == 1) for k in np.flatnonzero(label).tolist()} - {0}
        right = all(kind == "constant" for kind, _ in sample.faults)
        if right and sample.classes is not None and said != sample.classes:
            shown, claimed = ([names[k] for k in sorted(classes)] or "nothing" for classes in (sample.classes, said))
            yield _finding("label", id, f"The label of {id} says {claimed}, and its mask shows {shown}.")


def _of_all(source: Source, facts: Sequence[_SampleFacts], parts: Mapping[str, str]) -> Iterator[Finding]:
    """What only shows when all samples are seen."""
    for text in source.orphans:
        yield _finding("orphan", None, text)
    ids = source.ids
    forms = Counter(sample.form for sample in facts if sample.form is not None)
    if len(forms) > 1:
        usual, count = forms.most_common(1)[0]
        for id, sample in zip(ids, facts, strict=True):
            if sample.form not in (usual, None):
                most = f"{count} of {forms.total()} images are {_form(usual)}"
                yield _finding("mixed", id, f"Image {id} is {_form(sample.form)}, and {most}.")
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, sample in enumerate(facts):
        if sample.image is not None:
            same[sample.image].append(index)
    for first, *others in same.values():
        for other in others:
            differ = "" if facts[first].mask == facts[other].mask else ", and their masks differ"
            here, there = (parts.get(ids[index]) for index in (first, other))
            leak = here is not None and there is not None and here != there
            where = f" One is in {here}, the other in {there}." if leak else ""
            text = f"Images {ids[first]} and {ids[other]} have the same pixels{differ}.{where}"
            yield _finding("leak" if leak else "duplicate", ids[other], text)
    homes: dict[str, str] = {}
    for id, group in zip(ids, source.groups or (), strict=False):
        if id in parts and homes.setdefault(group, parts[id]) != parts[id]:
            text = f"{id} of the group {group!r} is in {parts[id]}, and others of the group are in {homes[group]}."
            yield _finding("leak", id, text)
    for id in sorted(set(parts) - set(ids)):
        yield _finding("missing", None, f"The split names {id} ({parts[id]}), which is no sample.")


def _empty(source: Source, facts: Sequence[_SampleFacts]) -> list[tuple[str, str]]:
    """(id, sentence) of masks that are empty against all appearances; what cannot be read counts as full."""
    positive = np.array([sample.classes is None or bool(sample.classes) for sample in facts], bool)
    try:
        expected = source.expects_foreground
    except (ValueError, OSError):  # which directories are classes cannot be found out
        expected = None
    return [(source.id(index), text) for index, text in empty_among_full(source.ids, positive, expected)]


def _form(form: tuple[int, str] | None) -> str:
    channels, dtype = form or (0, "")
    return f"{ {1: 'gray', 3: 'RGB'}.get(channels, f'{channels} channels') } {dtype}".strip()


def _parts(split: str | Path | None) -> tuple[dict[str, str], list[Finding]]:
    """Part of each id that a CSV of `save_split` names, the first of several; and the ids that have several."""
    parts: dict[str, str] = {}
    divided: list[Finding] = []
    if split is None:
        return parts, divided
    with Path(split).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        table = csv.DictReader(file)
        if not {"id", "split"} <= set(table.fieldnames or ()):
            raise ValueError(f"{split} must have the columns id and split, received {table.fieldnames}.")
        for row in table:
            if parts.setdefault(row["id"], row["split"]) != row["split"]:
                text = f"{split} has {row['id']} in two parts, {parts[row['id']]} and {row['split']}."
                divided.append(_finding("leak", row["id"], text))
    return parts, divided


def _write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with Path(path).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
