"""Smaller output strides for any convolutional graph: strides become dilation, weights stay.

Beyond the wanted stride a strided layer steps by 1, and every later window is spread by what was not stepped over. The
original features are then found unchanged at every r-th position of the new ones. Chen et al., 2017,
https://arxiv.org/abs/1706.05587
"""

import keras

from kerazoo.encoders.graph import IMAGE, Change, Node, fresh
from kerazoo.layers import SpreadPool
from kerazoo.types import Tensor

POOLINGS = {keras.layers.MaxPooling2D: "max", keras.layers.AveragePooling2D: "average"}


def dilate(nodes: tuple[Node, ...], output_stride: int) -> Change:
    """The change that `graph.wire` needs to keep the features at `output_stride` or finer.

    Convolutions look at as many rows above as below, also where the family pads unevenly before a strided one; poolings
    and even kernels keep their windows, which start at the position itself. (Xception adds a pooling to a strided 1x1
    convolution: both have to start there.)
    """
    strides = {IMAGE: 1}
    for index, node in enumerate(nodes):
        strides[index] = max(strides[read] for read in node.reads) * node.strides

    def change(index: int, node: Node, outputs: dict[int, Tensor]) -> Tensor | None:
        stride = max(strides[read] for read in node.reads)
        dilation = max(1, stride // output_stride)
        unstepped = strides[index] > max(stride, output_stride)
        if not unstepped and (dilation == 1 or node.kernel == 1):
            return None
        (read,) = node.reads
        if node.kind in POOLINGS and node.kernel > 1:
            pool = SpreadPool(POOLINGS[node.kind], size=node.kernel, dilation=dilation, name=node.name)
            return pool(outputs[read])
        if node.kernel == 1:
            return fresh(node, strides=1)(outputs[read])
        if read != IMAGE and nodes[read].kind is keras.layers.ZeroPadding2D and node.config["padding"] == "valid":
            (read,) = nodes[read].reads  # "same" pads now
        if node.kernel % 2 == 0:  # no row is the middle one
            reach = dilation * (node.kernel - 1)
            padded = keras.layers.ZeroPadding2D(((0, reach), (0, reach)), name=f"{node.name}_pad")(outputs[read])
            return fresh(node, strides=1, dilation_rate=dilation, padding="valid")(padded)
        return fresh(node, strides=1, dilation_rate=dilation, padding="same")(outputs[read])

    return change
