"""Deterministic weights for the golden files in this folder.

Every tensor of a reference model is a pure function of its name and shape, so a golden file
needs to hold only an input and the outputs. Uses numpy's frozen legacy stream.
"""

import zlib

import numpy as np


def fill(name, shape):
    """Value of the reference state-dict tensor `name`.

    Args:
        name: str, the tensor's key in the reference (timm, torchvision, smp, effdet) state dict.
        shape: tuple of ints, the shape in the reference's own layout (OIHW for convolutions).

    Returns:
        float32 array of `shape`; an int64 zero for `num_batches_tracked`.
    """
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        value = 1.0 + 0.1 * np.abs(noise)
    elif len(shape) >= 2:  # convolution or dense kernel: He scale
        value = noise * np.sqrt(2.0 / max(1, np.prod(shape[1:])))
    elif name.endswith("weight"):  # normalization scale
        value = 1.0 + 0.1 * noise
    else:  # biases and running means
        value = 0.1 * noise
    return value.astype(np.float32)


def image(seed, shape):
    """Input image batch: uniform [0, 1) float32 of `shape` (N, H, W, C)."""
    return np.random.RandomState(seed).random_sample(shape).astype(np.float32)
