"""Masks as run lengths in the notation of the SIIM-ACR pneumothorax files.

`"3 2 4 1"` are pairs of an offset and a length: skip 3 pixels, 2 are foreground, skip 4, 1 is foreground. So offsets
are relative to the end of the previous run. Pixels are counted from 0 down the columns, the left column first.
"""

import re

import numpy as np

from kerazoo.data.faults import DataError

EMPTY = "-1"
"""What stands for a mask without foreground."""

_NUMBERS = re.compile(r"\d{1,18}(?:\s+\d{1,18})*", re.ASCII)


def decode_runs(text: str, shape: tuple[int, int], where: str) -> np.ndarray:
    """The mask that run lengths describe.

    Args:
        text: Pairs of offset and length, or "-1".
        shape: Height and width of the image.
        where: Place of the text, which errors name: "row 7 of train-rle.csv".

    Returns: `(H, W)` bool.

    Raises:
        DataError: the text is no list of pairs, a run is empty, or the runs leave the image.
    """
    height, width = shape
    text = text.strip()
    if text == EMPTY:
        return np.zeros(shape, bool)
    if not _NUMBERS.fullmatch(text):
        raise DataError(
            f"The run lengths in {where} are no list of whole numbers, nor {EMPTY} for an empty mask. Correct the row.",
            "annotation",
        )
    runs = np.array(text.split(), np.int64)
    if len(runs) % 2:
        raise DataError(
            f"The run lengths in {where} are {len(runs)} numbers, where pairs of offset and length were expected: one "
            "is missing. Correct the row.",
            "annotation",
        )
    if (runs[1::2] == 0).any():
        raise DataError(
            f"The run lengths in {where} have a run of length 0; every run has at least one pixel. Correct the row.",
            "annotation",
        )
    end = sum(runs.tolist())  # Python's integers do not overflow
    if end > height * width:
        raise DataError(
            f"The run lengths in {where} lead to pixel {end} of an image of {height}x{width} = {height * width} "
            "pixels. Is it the mask of another image, or are its starts absolute? Here each start is an offset from "
            "the end of the previous run.",
            "outside",
        )
    flat = np.zeros(height * width, bool)
    flat[:end] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def encode_runs(mask: np.ndarray) -> str:
    """The run lengths of a mask; `decode_runs` is the inverse.

    Args:
        mask: `(H, W)`; foreground is where it is not 0.

    Returns: Pairs of offset and length, or "-1" if nothing is foreground.
    """
    flat = np.asarray(mask, bool).T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    if not len(edges):
        return EMPTY
    return " ".join(map(str, np.diff(edges, prepend=0).tolist()))
