"""Convolutions as sums over indices."""

import itertools
import math

import numpy as np


def deformable_convolution(x, offsets, modulation, kernel, *, strides, dilation, groups, offset_groups):
    """One image, "same" padding: x `(H, W, C)`, offsets `(H', W', G * k * 2)`, modulation `(H', W', G * k)`."""
    height, width, channels = x.shape
    rows, columns, share, filters = kernel.shape

    def pixel(i, j, c):
        return x[i, j, c] if 0 <= i < height and 0 <= j < width else 0.0

    def between(i, j, c):
        total = 0.0
        for down, right in itertools.product((0, 1), repeat=2):
            row, column = math.floor(i) + down, math.floor(j) + right
            total += max(0, 1 - abs(i - row)) * max(0, 1 - abs(j - column)) * pixel(row, column, c)
        return total

    y = np.zeros((math.ceil(height / strides), math.ceil(width / strides), filters))
    for i, j, f in np.ndindex(*y.shape):
        for a, b, s in np.ndindex(rows, columns, share):
            c = f // (filters // groups) * share + s
            point = c // (channels // offset_groups) * rows * columns + a * columns + b
            row = i * strides + (a - rows // 2) * dilation + offsets[i, j, 2 * point]
            column = j * strides + (b - columns // 2) * dilation + offsets[i, j, 2 * point + 1]
            y[i, j, f] += kernel[a, b, s, f] * modulation[i, j, point] * between(row, column, c)
    return y


def convolution(x, kernel, bias=0.0, *, strides=1):
    """One image `(H, W, C)` with zeros around it, kernel `(rows, columns, C, F)` of odd size."""
    rows, columns, _, filters = kernel.shape
    padded = np.pad(x, [(rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)])
    y = np.zeros((-(-x.shape[0] // strides), -(-x.shape[1] // strides), filters))
    for i, j in np.ndindex(*y.shape[:2]):
        window = padded[i * strides : i * strides + rows, j * strides : j * strides + columns]
        y[i, j] = np.tensordot(window, kernel, 3) + bias
    return y
