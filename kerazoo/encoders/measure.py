"""Strides of the outputs of a model, from shapes."""

import math

import keras


def strides(model: keras.Model) -> list[int]:
    """Measure the stride of every output of an encoder, from shapes.

    Args:
        model: Model from `(B, H, W, C)` to a list of maps, of any or of fixed size. A small fixed size can leave a
            choice: then a stride that divides the image exactly is taken, or else a power of two, and where it can be a
            multiple of the next finer stride.

    Returns: strides in the order of the outputs.

    Raises:
        ValueError: an output's rows do not divide the input's: the encoder has no exact strides.
    """
    shape = model.input_shape
    size = [n or math.lcm(256, 7 * 9 * 5) for n in shape[1:3]]
    outputs = model.outputs
    if any(None in output.shape[1:3] for output in outputs):
        outputs = model.compute_output_spec(keras.KerasTensor((1, *size, shape[3]), dtype="float32"))
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    maps = [tuple(output.shape[1:3]) for output in outputs]
    measured: dict[tuple[int, ...], int] = {}
    finer = 1
    for rows in sorted(set(maps), reverse=True):
        measured[rows] = finer = _stride(size, rows, finer)
    return [measured[rows] for rows in maps]


def _stride(size: list[int], rows: tuple[int, ...], finer: int) -> int:
    """The stride that gives ceil(size / stride) rows and columns, after a level at stride `finer`."""
    sides = list(zip(size, rows, strict=True))
    least = max(-(-n // r) for n, r in sides)
    most = min((n - 1) // (r - 1) if r > 1 else 2 * n for n, r in sides)
    if least > most:
        raise ValueError(
            f"An encoder's output is {rows} for an image of {tuple(size)}: that is no exact stride. Where a family has "
            'the choice (KerasHub\'s CSPNet: stem_padding="same"), take the padding that keeps strides exact.'
        )
    possible = [s for s in range(least, most + 1) if s % finer == 0] or range(least, most + 1)
    exact = [s for s in possible if all(n == s * r for n, r in sides)]
    powers = [s for s in possible if s & (s - 1) == 0]
    return next(iter([*exact, *powers, *possible]))
