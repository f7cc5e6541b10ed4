"""Connected components inside of a model, so that a decision on them can be exported.

Label propagation with pointer jumping, as in Shiloach and Vishkin, 1982, https://doi.org/10.1016/0196-6774(82)90008-6:
the number of rounds grows with the logarithm of a component's longest way and not with its length.
"""

from keras import ops

from kerazoo.types import Tensor


def component_areas(there: Tensor) -> Tensor:
    """Area of the connected component that each pixel belongs to; neighbors share a side or a corner.

    Every pixel starts with a number of its own. In each round it takes the largest number around it, and then the one
    that the pixel of that number has; until nothing changes, and a component has the largest number in it.

    Args:
        there: `(B, H, W)` bool, with sizes that may be known at run time only; fewer than 2**31 pixels in all.

    Returns: `(B, H, W)` int32 pixels, 0 where `there` is False.
    """
    shape = ops.shape(there)
    pixels = shape[0] * shape[1] * shape[2]
    inside = ops.cast(there, "int32")
    numbers = ops.reshape(ops.cast(ops.arange(pixels), "int32") + 1, shape)

    def spread(labels: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        around = ops.reshape(largest_around(labels) * inside, (-1,))
        pointed = ops.take(ops.pad(around, ((1, 0),)), around)  # number 0, of what is outside, points to 0
        wider = ops.reshape(pointed, ops.shape(labels))
        return wider, ops.any(wider != labels)

    labels, _ = ops.while_loop(lambda _, changed: changed, spread, (numbers * inside, ops.any(there)))
    cells = ops.reshape(labels, (-1,))
    sizes = ops.segment_sum(ops.reshape(inside, (-1,)), cells, num_segments=pixels + 1)
    return ops.reshape(ops.take(sizes, cells), shape)


def largest_around(values: Tensor) -> Tensor:
    """The largest of each pixel and its up to eight neighbors.

    Args:
        values: `(B, H, W)` numbers, none negative; integers stay exact, which max pooling does not offer everywhere.

    Returns: the same shape and dtype.
    """
    rows = ops.pad(values, ((0, 0), (1, 1), (0, 0)))
    values = ops.maximum(ops.maximum(rows[:, :-2], rows[:, 2:]), values)
    columns = ops.pad(values, ((0, 0), (0, 0), (1, 1)))
    return ops.maximum(ops.maximum(columns[:, :, :-2], columns[:, :, 2:]), values)
