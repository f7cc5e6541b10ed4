"""Normalization of raw images, as layers of the model."""

from keras import layers

from kerazoo.layers import ReverseColors
from kerazoo.types import Preprocessing, Tensor


def normalize(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Map raw intensities to what a network was trained on, in float32 under every precision policy.

    Args:
        image: `(B, H, W, C)` in [0, 255], any numeric dtype. One channel gets the mean of the colors' constants; any
            other number of channels repeats the colors.
        preprocessing: What the network was trained on.

    Returns: `(B, H, W, C)` float32.
    """
    if preprocessing.order == "BGR":
        image = ReverseColors(dtype="float32", name="preprocess_reverse_colors")(image)
    means, stds = (_per_channel(values, image.shape[-1]) for values in (preprocessing.mean, preprocessing.std))
    scale = [preprocessing.scale / std for std in stds]
    offset = [-mean / std for mean, std in zip(means, stds, strict=True)]
    return layers.Rescaling(scale, offset, dtype="float32", name="preprocess_standardize")(image)


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    if channels == 1:
        return [sum(values) / len(values)]
    return [values[i % len(values)] for i in range(channels)]
