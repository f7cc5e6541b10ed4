"""Strides of the outputs of a model, from shapes."""

import math

import keras

from kerazoo.outputs import as_list

_LARGE = math.lcm(256, 7 * 9 * 5)  # rows of an image at which every stride shows


def strides(model: keras.Model) -> list[int]:
    """Measure the stride of every output of an encoder, from shapes.

    Args:
        model: Model from `(B, H, W, C)` to a list of maps, of any or of fixed size. Where a small fixed size leaves a
            choice, the strides are those for a large image; if the model has none, a stride that divides the image
            exactly, or else a power of two, and if possible a multiple of the next finer stride.

    Returns: strides in the order of the outputs.

    Raises:
        ValueError: an output's rows do not divide the input's: the encoder has no exact strides.
    """
    *sides, channels = model.input_shape[1:]
    size, large = [side or _LARGE for side in sides], [_LARGE, _LARGE]
    outputs = model.outputs
    if any(None in output.shape[1:3] for output in outputs):
        outputs = as_list(model.compute_output_spec(keras.KerasTensor((1, *size, channels), dtype="float32")))
    maps = [tuple(output.shape[1:3]) for output in outputs]
    possible = {rows: _possible(size, rows) for rows in sorted(set(maps), reverse=True)}
    if any(len(choice) > 1 for choice in possible.values()):
        try:
            graph, image = keras.Model(model.inputs[0], model.outputs), keras.Input((*large, channels))
            graph = keras.models.clone_model(graph, input_tensors=image, clone_function=lambda layer: layer)
            found = [_possible(large, tuple(output.shape[1:3]))[0] for output in graph.outputs]
        except Exception:  # whatever a layer says of a size that it was not built for
            found = []
        if len(found) == len(maps) and all(s in possible[rows] for s, rows in zip(found, maps, strict=True)):
            return found
    measured: dict[tuple[int, ...], int] = {}
    finer = 1
    for rows in possible:
        measured[rows] = finer = _likely(size, rows, finer)
    return [measured[rows] for rows in maps]


def _possible(size: list[int], rows: tuple[int, ...]) -> range:
    """The strides that give ceil(size / stride) rows and columns."""
    sides = list(zip(size, rows, strict=True))
    least = max(-(-n // r) for n, r in sides)
    most = min((n - 1) // (r - 1) if r > 1 else 2 * n for n, r in sides)
    if least > most:
        raise ValueError(
            f"An encoder's output is {rows} for an image of {tuple(size)}: that is no exact stride. Where a family has "
            'the choice (KerasHub\'s CSPNet: stem_padding="same"), take the padding that keeps strides exact.'
        )
    return range(least, most + 1)


def _likely(size: list[int], rows: tuple[int, ...], finer: int) -> int:
    """The stride that is meant most likely, after a level at stride `finer`."""
    possible = [s for s in _possible(size, rows) if s % finer == 0] or _possible(size, rows)
    exact = [s for s in possible if all(n == s * r for n, r in zip(size, rows, strict=True))]
    powers = [s for s in possible if s & (s - 1) == 0]
    return next(iter([*exact, *powers, *possible]))
