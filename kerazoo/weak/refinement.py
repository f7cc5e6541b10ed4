"""Refinement of masks to the edges of the image: random walks on the affinities of neighboring pixels.

Grady, 2006, https://doi.org/10.1109/TPAMI.2006.233. Class maps find objects and blur their borders; the image knows
where those are. It takes no dense CRF and nothing trained.
"""

import numpy as np

from kerazoo.requires import require


def random_walk(
    image: np.ndarray, maps: np.ndarray, mask: np.ndarray, *, beta: float = 130.0, certain: float = 0.5
) -> np.ndarray:
    """Keep the surest pixels of a mask, and let random walkers from the others decide what those are.

    Of each class the pixels with the highest map are certain, of the background those with the lowest. Every other
    pixel gets the class whose certain pixels a random walker that starts there reaches first, most likely; it seldom
    crosses an edge of the image. `pseudo_masks(…, refine=kz.weak.random_walk)` does it for every image.

    Args:
        image: `(H, W, C)`, any numeric dtype.
        maps: `(H, W, F)` of the foreground classes, comparable between pixels.
        mask: `(H, W)` class ids, 0 or 1 + an index of the F.
        beta: How much a walker shuns edges, for an image stretched to [0, 1]; 0 ignores the image.
        certain: Share of the pixels of each class, and of the background, that keep their class, in (0, 1).

    Returns: `(H, W)` uint8 class ids, none that is not in `mask`. A mask of one class alone, or of an image without any
        contrast, comes back as it is.

    Raises:
        ModuleNotFoundError: scikit-image is not installed; the message says what to type.
        ValueError: the shapes do not fit each other, or an argument is outside its range.
    """
    walker = require("skimage.segmentation", extra="weak").random_walker
    image, mask = np.asarray(image, "float64"), np.asarray(mask)
    if image.ndim != 3 or image.shape[:2] != mask.shape or maps.shape[:2] != mask.shape or mask.max() > maps.shape[-1]:
        raise ValueError(
            "random_walk takes an image (H, W, C), maps (H, W, F) and a mask (H, W) with ids up to F; received "
            f"{image.shape}, {maps.shape} and {mask.shape} with ids up to {mask.max()}."
        )
    if not 0 < certain < 1 or beta < 0:
        raise ValueError(f"`certain` must be in (0, 1) and `beta` at least 0, received {certain} and {beta}.")
    ids = np.unique(mask)
    if len(ids) < 2 or np.ptp(image) == 0:
        return mask.astype(np.uint8)
    seeds = np.zeros(mask.shape, np.int32)  # 0: uncertain; else 1 + position in `ids`
    for position, class_id in enumerate(ids, start=1):
        inside = mask == class_id
        surety = -maps.max(axis=-1) if class_id == 0 else maps[..., class_id - 1]
        seeds[inside & (surety >= np.quantile(surety[inside], 1 - certain))] = position
    if seeds.all():
        return mask.astype(np.uint8)
    scaled = (image - image.min()) / np.ptp(image)  # what `beta` means depends on the range
    found = walker(scaled, seeds, beta=beta, mode="cg_j", tol=1e-5, channel_axis=-1)
    return np.where(found > 0, ids[np.maximum(found, 1) - 1], mask).astype(np.uint8)
