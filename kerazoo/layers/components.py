"""Connected components in `keras.ops`, so that they can be part of an exported model.

Label propagation with pointer jumping, as in Shiloach and Vishkin, 1982, https://doi.org/10.1016/0196-6774(82)90008-6:
the number of rounds grows with the logarithm of a component's diameter.
"""

from keras import ops

from kerazoo.types import Tensor


def component_areas(foreground: Tensor) -> Tensor:
    """Area of the 8-connected component that each pixel belongs to.

    Every pixel starts with a label of its own. In each round it takes the largest label around it, and then the label
    of the pixel that this label points to, until nothing changes: then a component has one label, the largest in it.

    Args:
        foreground: `(B, H, W)` bool, with sizes that may be known at run time only; fewer than 2**31 pixels in all.

    Returns: `(B, H, W)` int32 pixels, 0 in the background.
    """
    shape = ops.shape(foreground)
    pixels = shape[0] * shape[1] * shape[2]
    inside = ops.cast(foreground, "int32")
    unique = ops.reshape(ops.cast(ops.arange(pixels), "int32") + 1, shape)

    def propagate(labels: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        largest = ops.reshape(largest_around(labels) * inside, (-1,))
        jumped = ops.take(ops.pad(largest, ((1, 0),)), largest)  # label 0, the background, points to 0
        updated = ops.reshape(jumped, ops.shape(labels))
        return updated, ops.any(updated != labels)

    labels, _ = ops.while_loop(lambda _, changed: changed, propagate, (unique * inside, ops.any(foreground)))
    labels = ops.reshape(labels, (-1,))
    areas = ops.segment_sum(ops.reshape(inside, (-1,)), labels, num_segments=pixels + 1)
    return ops.reshape(ops.take(areas, labels), shape)


def largest_around(values: Tensor) -> Tensor:
    """Maximum of each pixel and its up to eight neighbors.

    Args:
        values: `(B, H, W)` numbers of at least 0; integers stay exact, which backends' max pooling does not guarantee.

    Returns: the same shape and dtype.
    """
    rows = ops.pad(values, ((0, 0), (1, 1), (0, 0)))
    values = ops.maximum(ops.maximum(rows[:, :-2], rows[:, 2:]), values)
    columns = ops.pad(values, ((0, 0), (0, 0), (1, 1)))
    return ops.maximum(ops.maximum(columns[:, :, :-2], columns[:, :, 2:]), values)
