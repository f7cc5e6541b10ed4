"""U-Net++ decoder: the gap between encoder and decoder is filled with nodes that are densely connected along each row.

Zhou et al., 2018, https://arxiv.org/abs/1807.10165: a node convolves the concatenation of all nodes of its row before
it and of the one below, upsampled. Differs from the paper: batch norm, bilinear upsampling by default, and the last
node of each row has a width of its own; the nodes inside have that of their row's skip, which is the paper's rule for
all.

smp's UnetPlusPlus is `UNetPlusPlus(upsampling="nearest")` under `Linear(kernel_size=3)`; its attention and norm are as
in `kerazoo.decoders.UNet`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_wholes
from kerazoo.decoders._climb import Step, check_climb, climb, convolve_twice, grow
from kerazoo.layers.blocks import ATTENTIONS, attend
from kerazoo.types import Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class UNetPlusPlus:
    """Merge features from every level to every finer one.

    Node x_d_l is that of row l, counted from the coarsest skip, on the path that starts at the d-th coarsest level.

    Args:
        widths: Channels of the last node of each row, coarse to fine: one per skip, and a last one, if given, for a
            step beyond the finest skip to the full resolution. None takes (256, 128, 64, 32, 16, …), one per skip and,
            if the finest skip is at stride 2, one more.
        upsampling: "bilinear", "nearest", or "transpose" for a transposed 2x2 convolution to the node's width.
        norm: What normalizes the convolutions: "batch", "group", "instance", or None.
        attention: What weighs each merged map before the convolutions, and each node's after them: "se", "eca", "cbam",
            "scse", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the last node of each row, fine to coarse; the first is what a plain head reads.
    Raises: ValueError if an argument is not one of those, there are fewer than two levels, or `widths` does not fit the
        number of skips.
    """

    widths: tuple[int, ...] | None = None
    upsampling: str = "bilinear"
    norm: str | None = "batch"
    attention: str | None = None

    output_stride = 32
    depth = None

    def __post_init__(self):
        if self.widths is not None:
            object.__setattr__(self, "widths", check_wholes("UNetPlusPlus", "widths", self.widths))
        check_climb("UNetPlusPlus", upsampling=self.upsampling, norm=self.norm)
        check_choice("UNetPlusPlus", "attention", self.attention, (None, *ATTENTIONS))

    def __call__(self, features: Features) -> Features:
        encoded = [level.tensor for level in reversed(features)]
        below: list[Tensor] = []  # row below, by path
        decoded = []
        for row, step in enumerate(climb("UNetPlusPlus", features, self.widths)):
            if step.skip is None:
                x = self._node(below[0], [], step, name=f"{step.name}_x_0_{row}")
                decoded.append(Level(step.stride, x))
                break
            below.append(encoded[row])
            nodes: list[Tensor] = []  # of this row, from the shortest path to the longest
            for path in range(row, -1, -1):
                node = step._replace(width=step.width if path == 0 else step.skip.shape[-1])
                x = self._node(below[path], [*reversed(nodes), step.skip], node, name=f"{step.name}_x_{path}_{row}")
                nodes.append(x)
            below = nodes[::-1]
            decoded.append(Level(step.stride, below[0]))
        return tuple(reversed(decoded))

    def _node(self, x: Tensor, beside: list[Tensor], step: Step, *, name: str) -> Tensor:
        x = grow(x, step, upsampling=self.upsampling, name=f"{name}_up")
        if beside:
            x = layers.Concatenate(name=f"{name}_merge")([x, *beside])
            x = attend(x, self.attention, min_channels=1, name=f"{name}_attend1")
        x = convolve_twice(x, step.width, norm=self.norm, name=name)
        return attend(x, self.attention, min_channels=1, name=f"{name}_attend2")
