"""Divide a data set into parts, stratified, by image or by group, and keep the division as CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def split_images(strata: np.ndarray, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Divide images so that every part has its share of every stratum.

    Within a stratum the counts are the shares rounded by largest remainder, and the rounding error is carried over to
    the next stratum; a stratum that has an image for every part gives each at least one.

    Args:
        strata: `(n,)` int: the stratum of each image.
        fractions: Share of each part; they sum to 1.
        seed: Of the division.

    Returns: Indices of each part, ascending.

    Raises:
        ValueError: the fractions are invalid, or a part would be empty.
    """
    shares = _checked(fractions)
    rng = np.random.default_rng([seed, 0x5511])
    parts: list[list[int]] = [[] for _ in shares]
    carried = np.zeros(len(shares))
    for stratum in sorted(set(strata.tolist()), key=lambda s: (int((strata == s).sum()), s)):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        wanted = len(members) * shares + carried
        counts = _rounded(wanted, len(members))
        carried = wanted - counts
        for part, piece in zip(parts, np.split(members, np.cumsum(counts)[:-1]), strict=True):
            part.extend(piece.tolist())
    return _non_empty([np.sort(np.asarray(part, np.int64)) for part in parts], fractions, len(strata), "images")


def split_groups(groups: Sequence[str], strata: np.ndarray, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Divide whole groups, so that parts come close to their share of every stratum.

    Groups are dealt from the largest to the smallest, each to the part where the squared deviation from the wanted
    numbers of images per stratum, relative to the size of the stratum, is least afterwards.

    Args:
        groups: `(n,)` group of each image.
        strata: `(n,)` int: the stratum of each image.
        fractions: Share of images of each part; they sum to 1.
        seed: Of the order among groups of one size.

    Returns: Indices of each part, ascending; no group is in two.

    Raises:
        ValueError: the fractions are invalid, or a part would be empty.
    """
    shares = _checked(fractions)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    kinds, kind = np.unique(strata, return_inverse=True)
    table = np.zeros((len(names), len(kinds)))
    np.add.at(table, (member, kind), 1)
    target = shares[:, np.newaxis] * table.sum(axis=0)
    weight = 1 / np.maximum(target, 1e-9)
    held = np.zeros_like(target)
    chosen = np.full(len(names), -1)
    shuffled = np.random.default_rng([seed, 0x6709]).permutation(len(names))
    order = shuffled[np.argsort(-table.sum(axis=1)[shuffled], kind="stable")]
    for dealt, group in enumerate(order):
        open_parts = np.flatnonzero(held.sum(axis=1) == 0)
        if len(open_parts) == 0 or len(names) - dealt > len(open_parts):
            open_parts = np.arange(len(shares))
        gain = ((held + table[group] - target) ** 2 * weight - (held - target) ** 2 * weight).sum(axis=1)
        chosen[group] = open_parts[np.argmin(gain[open_parts])]
        held[chosen[group]] += table[group]
    parts = [np.flatnonzero(chosen[member] == part) for part in range(len(shares))]
    return _non_empty(parts, fractions, len(names), "groups")


def write_split(parts: Mapping[str, tuple[Sequence[str], Sequence[str] | None]], path: str | Path) -> None:
    """Write the CSV that `read_split` reads.

    Args:
        parts: Name of each part to its ids, and to the group of each id or None.
        path: File to write; an existing one is replaced.

    Raises:
        ValueError: a sample, or a group, is in two parts.
    """
    rows, where, grouped = [], {}, {}
    for name, (ids, groups) in parts.items():
        for sample, group in zip(ids, groups or [""] * len(ids), strict=True):
            if where.setdefault(sample, name) != name:
                raise ValueError(f"Sample {sample!r} is in the parts {where[sample]!r} and {name!r}; split again.")
            if group and grouped.setdefault(group, name) != name:
                raise ValueError(
                    f"Group {group!r} is in the parts {grouped[group]!r} and {name!r}, which leaks; "
                    'split with by="group".'
                )
            rows.append((sample, name, group))
    with Path(path).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = 3 if grouped else 2
        writer.writerow(("id", "split", "group")[:columns])
        writer.writerows(row[:columns] for row in rows)


def read_split(
    path: str | Path, position: Mapping[str, int], groups: Sequence[str] | None = None
) -> dict[str, list[int]]:
    """Read a CSV with the columns `id` and `split` as the positions of each part, in the order of the file.

    Args:
        path: The file.
        position: Id of each sample to its place.
        groups: Group at each place, if there are any; if the file has none, it may divide them, as a split by image.

    Raises:
        ValueError: a column is missing, an id is named twice or not in `position`, or a group is in two parts.
    """
    parts: dict[str, list[int]] = {}
    seen: set[str] = set()
    home: dict[str, str] = {}
    with Path(path).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        table = csv.DictReader(file)
        if not {"id", "split"} <= set(table.fieldnames or ()):
            raise ValueError(f"{path} must have the columns id and split, received {table.fieldnames}.")
        for row in table:
            if row["id"] not in position:
                raise ValueError(f"{path} names the id {row['id']!r}, which the source lacks. Is it another data set?")
            if row["id"] in seen:
                raise ValueError(f"{path} names the id {row['id']!r} twice. A sample is in one part: split again.")
            seen.add(row["id"])
            place = position[row["id"]]
            group = groups[place] if groups and row.get("group") else ""
            if group and home.setdefault(group, row["split"]) != row["split"]:
                raise ValueError(
                    f"{path} has the group {group!r} in the parts {home[group]!r} and {row['split']!r}, which leaks. "
                    'Split again with by="group".'
                )
            parts.setdefault(row["split"], []).append(place)
    return parts


def _checked(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or len(shares) < 2 or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"`fractions` must be two or more positive numbers that sum to 1, received {tuple(fractions)}, which sum "
            f"to {shares.sum():g}."
        )
    return shares


def _rounded(wanted: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers ≥ 0 closest to `wanted` that sum to `total`; each ≥ 1 if `total` allows."""
    least = 1 if total >= len(wanted) else 0
    counts = np.maximum(np.floor(wanted + 1e-9), least).astype(np.int64)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        surplus = np.where(counts + step >= least, step * (wanted - counts), -np.inf)
        counts[np.argmax(surplus)] += step
    return counts


def _non_empty(parts: list[np.ndarray], fractions: Sequence[float], count: int, what: str) -> list[np.ndarray]:
    for part, indices in enumerate(parts):
        if len(indices) == 0:
            raise ValueError(
                f"Part {part} of fractions={tuple(fractions)} would be empty: there are {count} {what} to divide. "
                "Give more data, or fewer or larger fractions."
            )
    return parts
