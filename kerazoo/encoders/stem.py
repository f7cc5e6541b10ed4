"""Pretrained first convolutions for images that are not red, green, blue."""

import numpy as np


def adapt_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Fit a kernel that was trained on colour images to another number of channels.

    One channel gets the sum over the colours, which is what a grey image gives in all of them. Other numbers repeat the
    colours cyclically, scaled so that the response to a constant image stays near its size.

    Args:
        kernel: `(height, width, colours, filters)`.
        channels: Channels of the images.

    Returns: `(height, width, channels, filters)`; `kernel` itself if it fits.
    """
    colours = kernel.shape[2]
    if channels == colours:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % colours] * np.asarray(colours / channels, kernel.dtype)
