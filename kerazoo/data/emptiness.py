"""Empty masks where the name of the directory says that there should be something."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

_MOSTLY = 0.9  # an empty mask is suspicious in a directory with at least this share of images with foreground


def empty_among_full(
    ids: Sequence[str], positive: np.ndarray, expected: np.ndarray | None = None
) -> Iterator[tuple[int, str]]:
    """Images that are empty though nearly all of their directory are not, while another directory is not so full.

    Args:
        ids: Paths of the images without suffix.
        positive: `(n,)` bool: the image has foreground.
        expected: `(n,)` bool: the directory is one of a class, so that each image in it has foreground; None where
            nothing says so, and the other images of the directory decide.

    Yields: Index of the image, and a sentence.
    """
    place = [id.rpartition("/")[0] for id in ids]
    images = Counter(place)
    full = Counter(name for name, has in zip(place, positive.tolist(), strict=True) if has)
    for index in np.flatnonzero(~positive).tolist():
        name = place[index]
        mostly = len(images) > 1 and full[name] / images[name] >= _MOSTLY
        if mostly if expected is None else expected[index]:
            said = f"though {full[name]} of the {images[name]} images in {name or 'the root'} have foreground"
            yield index, f"{ids[index]}: its mask is empty, {said}."
