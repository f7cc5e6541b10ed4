"""Colors of all figures, and rendering of images and masks as RGB arrays.

The palette is that of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/), which is safe for the common color vision
deficiencies, with brighter green and blue for dark images, and two colors of Paul Tol's. Classes and kinds of error
share no color.
"""

import numpy as np

CLASS_COLORS = ("#1FCF9B", "#F0E442", "#3D8BFF", "#D55E00", "#882255", "#999933")
ERROR_COLORS = {
    "correct": "#FFFFFF",
    "false positive": "#E69F00",
    "false negative": "#56B4E9",
    "wrong class": "#CC79A7",
}


def class_color(class_id: int) -> str:
    """Hex color of foreground class `class_id` (from 1); the palette repeats after six classes."""
    return CLASS_COLORS[(class_id - 1) % len(CLASS_COLORS)]


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Image as 8-bit RGB for display.

    Args:
        image: `(H, W)` or `(H, W, C)`, any numeric dtype. uint8 is shown as it is, with white at 255; any other dtype
            is stretched from its 0.5th to its 99.5th percentile. Three or four channels are RGB (alpha is ignored); of
            any other number the first channel is shown in gray.

    Returns: `(H, W, 3)` uint8.
    Raises: ValueError if `image` has another number of dimensions, or no pixels.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.size == 0:
        raise ValueError(f"`image` must have shape (H, W) or (H, W, C) and pixels; received shape {image.shape}.")
    image = image[..., :3] if image.shape[-1] in (3, 4) else np.repeat(image[..., :1], 3, axis=-1)
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    pixels = image.astype("float32")
    finite = pixels[np.isfinite(pixels)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    scaled = (pixels - low) / (high - low) if high > low else np.full_like(pixels, 0.5)
    return np.rint(255 * np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)).astype("uint8")


def overlay(image: np.ndarray, mask: np.ndarray, *, opacity: float = 0.4) -> np.ndarray:
    """Image with every foreground class tinted in its color and outlined.

    The outline lies outside the region, so that the smallest region is visible in a thumbnail and its inside stays
    readable.

    Args:
        image: `(H, W)` or `(H, W, C)`, any numeric dtype; uint8 is shown as it is, any other dtype is stretched.
        mask: `(H, W)` or `(H, W, 1)` class ids, 0 the background.
        opacity: Weight of the color inside a region, in [0, 1].

    Returns: `(H, W, 3)` uint8.
    Raises: ValueError if the sizes of `image` and `mask` differ.
    """
    rgb, mask = to_rgb(image).astype("float32"), as_mask(mask, "mask")
    _check_same_size(rgb, mask, "image", "mask")
    dilated = dilate(mask, outline_width(mask.shape))
    for class_id in np.unique(dilated[dilated > 0]):
        color = hex_to_rgb(class_color(int(class_id)))
        inside = mask == class_id
        rgb[inside] = (1 - opacity) * rgb[inside] + opacity * color
        rgb[(dilated == class_id) & (mask == 0)] = color
    return np.rint(rgb).astype("uint8")


def error_map(truth: np.ndarray, prediction: np.ndarray, *, image: np.ndarray | None = None) -> np.ndarray:
    """Map of correct and wrong pixels: one color of `ERROR_COLORS` per kind.

    White is foreground that was found with its class, orange a false positive, blue a false negative, purple foreground
    found with another class.

    Args:
        truth: `(H, W)` or `(H, W, 1)` class ids, 0 the background.
        prediction: Class ids, size as `truth`.
        image: Shown darkened where both are background; None shows black there.

    Returns: `(H, W, 3)` uint8.
    Raises: ValueError if the sizes differ.
    """
    truth, prediction = as_mask(truth, "truth"), as_mask(prediction, "prediction")
    _check_same_size(truth, prediction, "truth", "prediction")
    if image is not None:
        _check_same_size(np.asarray(image), truth, "image", "truth")
    return paint_errors(error_kinds(truth, prediction), image)


def paint_errors(kinds: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """`(H, W, 3)` uint8 colors of `error_kinds`, over the darkened image or black."""
    rgb = np.zeros((*kinds.shape, 3), "uint8") if image is None else (to_rgb(image) * 0.4).astype("uint8")
    for code, color in enumerate(ERROR_COLORS.values(), start=1):
        rgb[kinds == code] = hex_to_rgb(color)
    return rgb


def error_kinds(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """`(H, W)` uint8: 0 where both are background, else 1 plus the position in `ERROR_COLORS`."""
    predicted, true = prediction > 0, truth > 0
    return np.select(
        [true & (truth == prediction), predicted & ~true, true & ~predicted, predicted & true], [1, 2, 3, 4]
    ).astype("uint8")


def as_mask(mask: np.ndarray, name: str) -> np.ndarray:
    """`(H, W)` class ids from `(H, W)` or `(H, W, 1)`; ValueError that names `name` for any other shape."""
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2:
        raise ValueError(f"`{name}` must hold class ids of shape (H, W) or (H, W, 1); received shape {mask.shape}.")
    return mask.astype("int64")


def outline_width(size: tuple[int, ...]) -> int:
    """Pixels of an outline that is about one pixel wide when an image of `size` is shown 256 pixels wide."""
    return max(1, round(max(size[:2]) / 256))


def dilate(mask: np.ndarray, steps: int) -> np.ndarray:
    """Mask dilated by `steps` pixels into the background, never into another class."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        around = np.stack([padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]]).max(axis=0)
        mask = np.where(mask == 0, around, mask)
    return mask


def hex_to_rgb(color: str) -> np.ndarray:
    """`(3,)` uint8 from "#RRGGBB"."""
    return np.frombuffer(bytes.fromhex(color[1:]), "uint8")


def _check_same_size(first: np.ndarray, second: np.ndarray, first_name: str, second_name: str) -> None:
    if first.shape[:2] != second.shape[:2]:
        raise ValueError(
            f"`{first_name}` and `{second_name}` must have the same height and width; received {first.shape[:2]} and "
            f"{second.shape[:2]}."
        )
