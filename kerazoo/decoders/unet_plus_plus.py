"""U-Net++ decoder: nested skip pathways, densely connected along each row.

Zhou et al., 2018, https://arxiv.org/abs/1807.10165: a node convolves the concatenation of all previous nodes of its row
and of the upsampled node of the row below. Differs from the paper: batch norm, bilinear upsampling by default, and the
last node of each row has a width of its own; the others have that of their row's skip, which is the paper's rule for
all.

smp's UnetPlusPlus is `UNetPlusPlus(upsampling="nearest")` under `Linear(kernel_size=3)`; its
`decoder_attention_type="scse"` is `attention="scse"`, its `decoder_use_norm` of "batchnorm", "instancenorm" or False is
`norm` of "batch", "instance" or None.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_wholes
from kerazoo.decoders._stages import Stage, check_stages, double_conv, plan_stages, upsample
from kerazoo.layers.blocks import ATTENTIONS, attend
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class UNetPlusPlus(Decoder):
    """Nested U-Nets: a top-down path from every level, whose nodes read all previous nodes of their row.

    Node x_d_l is that of row l, counted from the coarsest skip, on the path that starts at the d-th coarsest level.

    Args:
        widths: Channels of the last node of each row, coarse to fine: one per skip, and a last one, if given, for a
            stage at full resolution. None takes (256, 128, 64, 32, 16, …), one per skip and, if the finest skip is at
            stride 2, one more.
        upsampling: "bilinear", "nearest", or "transpose" for a transposed 2x2 convolution to the node's width.
        norm: Normalization of the convolutions: "batch", "group", "instance", or None.
        attention: Attention before and after the convolutions of a node: "se", "eca", "cbam", "scse", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the last node of each row, fine to coarse; the first is what a plain head reads.
    Raises: ValueError if an argument is not one of those, there are fewer than two levels, or `widths` does not fit the
        number of skips.
    """

    widths: tuple[int, ...] | None = None
    upsampling: str = "bilinear"
    norm: str | None = "batch"
    attention: str | None = None

    def __post_init__(self):
        if self.widths is not None:
            object.__setattr__(self, "widths", check_wholes("UNetPlusPlus", "widths", self.widths))
        check_stages("UNetPlusPlus", upsampling=self.upsampling, norm=self.norm)
        check_choice("UNetPlusPlus", "attention", self.attention, (None, *ATTENTIONS))

    def __call__(self, features: Features) -> Features:
        encoded = [level.tensor for level in reversed(features)]
        below: list[Tensor] = []  # row below, by path
        decoded = []
        for row, stage in enumerate(plan_stages("UNetPlusPlus", features, self.widths)):
            if stage.skip is None:
                x = self._node(below[0], [], stage, name=f"{stage.name}_x_0_{row}")
                decoded.append(Level(stage.stride, x))
                break
            below.append(encoded[row])
            nodes: list[Tensor] = []  # of this row, from the shortest path to the longest
            for path in range(row, -1, -1):
                node = stage._replace(width=stage.width if path == 0 else stage.skip.shape[-1])
                x = self._node(below[path], [*reversed(nodes), stage.skip], node, name=f"{stage.name}_x_{path}_{row}")
                nodes.append(x)
            below = nodes[::-1]
            decoded.append(Level(stage.stride, below[0]))
        return tuple(reversed(decoded))

    def _node(self, x: Tensor, row: list[Tensor], stage: Stage, *, name: str) -> Tensor:
        """Upsample `x`, concatenate the previous nodes of the row and its skip, convolve."""
        x = upsample(x, stage, upsampling=self.upsampling, name=f"{name}_up")
        if row:
            x = layers.Concatenate(name=f"{name}_merge")([x, *row])
            x = attend(x, self.attention, min_channels=1, name=f"{name}_attend1")
        x = double_conv(x, stage.width, norm=self.norm, name=name)
        return attend(x, self.attention, min_channels=1, name=f"{name}_attend2")
