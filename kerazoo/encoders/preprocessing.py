"""Normalization of raw images, as layers of the model."""

from keras import layers

from kerazoo.types import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Means of red, green and blue over ImageNet, of intensities in [0, 1]; as torchvision and timm."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviations of red, green and blue over ImageNet, of intensities in [0, 1]."""


def standardize(image: Tensor, *, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD):
    """Map raw intensities in [0, 255] to `(image / 255 - mean) / std`, in float32 under every precision policy.

    Args:
        image: `(B, H, W, C)`, any numeric dtype. One channel gets the mean of the colors' constants; any other number
            of channels repeats red, green, blue.
        mean: One mean per color, of intensities in [0, 1].
        std: One standard deviation per color, of intensities in [0, 1].

    Returns: `(B, H, W, C)` float32.
    """
    channels = image.shape[-1]
    means, stds = _spread(mean, channels), _spread(std, channels)
    scale = [1.0 / (255.0 * s) for s in stds]
    offset = [-m / s for m, s in zip(means, stds, strict=True)]
    return layers.Rescaling(scale, offset, dtype="float32", name="preprocess_standardize")(image)


def _spread(values: tuple[float, ...], channels: int) -> list[float]:
    if channels == 1:
        return [sum(values) / len(values)]
    return [values[i % len(values)] for i in range(channels)]
