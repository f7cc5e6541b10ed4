"""Images as a model takes them: with its channels, its dtype, its size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerazoo.data.formats.images import resize_image, to_byte_range, to_channels
from kerazoo.data.source import Source
from kerazoo.outputs import image_input


class ImageInput:
    """What images a model takes: `channels`, `dtype`, `fixed_size` (None for any), resized to `image_size` or not.

    Raises:
        ValueError: the model has several inputs, or takes no images of that size.
    """

    def __init__(self, model: keras.Model, *, image_size: tuple[int, int] | None):
        images = image_input(model)
        _, *size, self.channels = images.shape
        self.dtype, self.image_size = images.dtype, image_size
        self.fixed_size = None if None in size else tuple(size)
        if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
            raise ValueError(f"`image_size` must be (height, width) in pixels, received {image_size!r}.")
        if image_size is not None and self.fixed_size not in (None, tuple(image_size)):
            raise ValueError(
                f"`image_size` is {tuple(image_size)}, but the model takes images of {self.fixed_size} only."
            )

    def prepare(self, name: str, image: np.ndarray, *, any_size: bool) -> np.ndarray:
        """Make `(h, w, channels)` of `(H, W)` or `(H, W, C)`; it has `any_size` if tiles will be cut from it.

        Raises:
            ValueError: the image does not fit the model.
        """
        image = np.asarray(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.size == 0 or image.dtype.kind not in "uifb":
            raise ValueError(
                f"Image {name!r} must have shape (H, W) or (H, W, C) and numbers; received {image.dtype} of shape "
                f"{image.shape}."
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError(f"Image {name!r} holds NaN or infinity. Repair it or leave it out.")
        try:
            image = to_channels(image, self.channels)
        except ValueError as error:
            raise ValueError(f"Image {name!r}: {error}") from error
        if self.dtype.startswith(("float", "bfloat")):
            image = to_byte_range(image)
        elif image.dtype != self.dtype:
            raise ValueError(f"Image {name!r} is {image.dtype}, but the model takes {self.dtype} only.")
        if self.image_size is not None:
            image = resize_image(image, self.image_size)
        elif self.fixed_size not in (None, image.shape[:2]) and not any_size:
            raise ValueError(
                f"Image {name!r} is {image.shape[:2]}, but the model takes images of {self.fixed_size} only. Pass "
                f"image_size={self.fixed_size}."
            )
        return image.astype(self.dtype)


def named_images(images: Any) -> Iterable[tuple[str, np.ndarray]]:
    """Pairs of a name and an image, from an array, a sequence, a `Source`, or an iterator of such pairs.

    Raises:
        ValueError: an array is no batch of images.
        TypeError: `images` is none of these.
    """
    if isinstance(images, np.ndarray):
        if images.ndim != 4:
            raise ValueError(
                f"`images` as one array must have shape (N, H, W, C); received {images.shape}. For one image pass "
                f"[image]."
            )
        return ((str(i), image) for i, image in enumerate(images))
    if isinstance(images, Source):
        return ((name, images.image(i)) for i, name in enumerate(images.ids))
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return ((str(i), np.asarray(image)) for i, image in enumerate(images))
    if isinstance(images, Iterator):
        return images
    raise TypeError(
        f"`images` must be an array (N, H, W, C), a list of images or a Source; received {type(images).__name__}."
    )
