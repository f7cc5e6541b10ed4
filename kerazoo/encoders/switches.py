"""Max-pool switches of encoders: where each maximum was, for decoders that put values back there."""

import keras

from kerazoo.encoders.graph import IMAGE, Change, Node
from kerazoo.layers import MaxPoolWithIndices
from kerazoo.types import Tensor


def check_undilated(owner: str, output_stride: int) -> None:
    """Raise ValueError unless `output_stride` leaves every pooling as it is."""
    if output_stride != 32:
        raise ValueError(
            f"{owner} has max-pool switches at `output_stride` 32 only, received {output_stride}: a pooling that keeps "
            "the resolution cannot be undone."
        )


def remember_maxima(owner: str, nodes: tuple[Node, ...]) -> tuple[Change, dict[int, Tensor]]:
    """The change for `graph.wire` that makes every max pooling tell its switches.

    Args:
        owner: Whose graph it is, for errors.
        nodes: Of the graph.

    Returns: the change, and the switches by the stride after the pooling, which wiring fills.

    Raises:
        ValueError: something else than a max pooling of windows that do not overlap lowers the resolution.
    """
    strides = {IMAGE: 1}
    for index, node in enumerate(nodes):
        strides[index] = max(strides[read] for read in node.reads) * node.strides
        pools = node.kind is keras.layers.MaxPooling2D and node.kernel == node.strides
        if node.strides > 1 and not pools:
            raise ValueError(
                f"{owner} has no max-pool switches: {node.name!r} lowers the resolution, and is no max pooling of "
                "windows that do not overlap. Take an encoder that has them, such as 'vgg16', 'vgg19' or 'vgg16_bn'."
            )
    switches: dict[int, Tensor] = {}

    def change(index: int, node: Node, outputs: dict[int, Tensor]) -> Tensor | None:
        if node.strides == 1:
            return None
        (read,) = node.reads
        x, switches[strides[index]] = MaxPoolWithIndices(pool_size=node.strides, name=node.name)(outputs[read])
        return x

    return change, switches
