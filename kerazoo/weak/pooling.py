"""From a map of logits to one logit per image: what a label of the image says of its pixels.

Global max pooling ("gmp") trains the one pixel that is surest, and objects come out too small; global average pooling
("gap") trains all pixels alike, and they come out too large. Between them are global weighted rank pooling ("gwrp") and
log-sum-exp ("lse").
"""

from keras import layers

from kerazoo.layers import GlobalLogSumExpPooling2D, GlobalWeightedRankPooling2D
from kerazoo.registry import Registry

POOLINGS = Registry(
    "pooling",
    {
        "gmp": layers.GlobalMaxPooling2D,
        "gap": layers.GlobalAveragePooling2D,
        "gwrp": GlobalWeightedRankPooling2D,
        "lse": GlobalLogSumExpPooling2D,
    },
)
