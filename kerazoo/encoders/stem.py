"""Pretrained first convolutions for images that are not red, green, blue."""

import numpy as np


def adapt_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Fit a kernel that was trained on color images to another number of channels.

    One channel gets the sum over the colors, which is what a gray image gives in all of them. Other numbers repeat the
    colors cyclically, scaled so that the response to a constant image stays near its size.

    Args:
        kernel: `(height, width, colors, filters)`.
        channels: Channels of the images.

    Returns: `(height, width, channels, filters)`; `kernel` itself if it fits.
    """
    colors = kernel.shape[2]
    if channels == colors:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % colors] * np.asarray(colors / channels, kernel.dtype)
