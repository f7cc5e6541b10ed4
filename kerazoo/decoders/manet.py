"""MA-Net decoder: attention of positions at the coarsest level, attention of channels in every merge.

Fan et al., 2020, https://ieeexplore.ieee.org/document/9201310: a position-wise attention block (PAB), then multi-scale
fusion attention blocks (MFAB) whose gates, from the coarse map and from the skip, are added and weigh the coarse map.
Differs from the paper: a plain step to the full resolution, and batch norm. The gates are computed before the coarse
map grows: nearest and bilinear doubling keep the mean of each channel, so that is the same at a quarter of the cost.

smp's MAnet is `MANet(upsampling="nearest", attention="joint", min_channels=1)` under `Linear(kernel_size=3)`; its norm
is as in `kerazoo.decoders.UNet`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole, check_wholes
from kerazoo.decoders._climb import Step, check_climb, climb, convolve_twice, grow
from kerazoo.layers import PositionAttention
from kerazoo.layers.blocks import conv, conv_norm_act
from kerazoo.layers.position_attention import NORMALIZATIONS
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class MANet:
    """Attend to all positions of the coarsest level, then merge features from the coarsest to the finest level.

    Args:
        widths: Channels after each merge, coarse to fine: one per skip, and a last one, if given, for a step beyond the
            finest skip to the full resolution. None takes (256, 128, 64, 32, 16, …), one per skip and, if the finest
            skip is at stride 2, one more.
        attention_width: Channels in which positions are compared.
        attention: "row" for weights that sum to 1 for each position, "joint" for smp's; see
            `kerazoo.layers.PositionAttention`.
        reduction: Channels of a skip per channel of its gate's bottleneck.
        min_channels: Least width of that bottleneck; the fewer, the likelier all of it starts dead behind its ReLU.
        upsampling: "bilinear" or "nearest".
        norm: What normalizes the convolutions: "batch", "group", "instance", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`. The coarsest
        one's attention needs memory with the square of its number of pixels.
    Returns: the decoded levels, fine to coarse; the first is what a plain head reads.
    Raises: ValueError if an argument is not one of those, there are fewer than two levels, or `widths` does not fit the
        number of skips.
    """

    widths: tuple[int, ...] | None = None
    attention_width: int = 64
    attention: str = "row"
    reduction: int = 16
    min_channels: int = 8
    upsampling: str = "bilinear"
    norm: str | None = "batch"

    output_stride = 32
    depth = None

    def __post_init__(self):
        if self.widths is not None:
            object.__setattr__(self, "widths", check_wholes("MANet", "widths", self.widths))
        check_choice("MANet", "upsampling", self.upsampling, INTERPOLATIONS)
        check_climb("MANet", upsampling=self.upsampling, norm=self.norm)
        check_whole("MANet", "attention_width", self.attention_width)
        check_choice("MANet", "attention", self.attention, NORMALIZATIONS)
        check_whole("MANet", "reduction", self.reduction)
        check_whole("MANet", "min_channels", self.min_channels)

    def __call__(self, features: Features) -> Features:
        steps = climb("MANet", features, self.widths)
        x = self._attend(features[-1].tensor)
        decoded = []
        for step in steps:
            if step.skip is None:
                x = grow(x, step, upsampling=self.upsampling, name=f"{step.name}_up")
            else:
                x = self._merge(x, step.skip, step)
            x = convolve_twice(x, step.width, norm=self.norm, name=step.name)
            decoded.append(Level(step.stride, x))
        return tuple(reversed(decoded))

    def _attend(self, x: Tensor) -> Tensor:
        """Position-wise attention block: the map and what each position sees of all others, convolved."""
        channels = x.shape[-1]
        query = conv(x, self.attention_width, 1, use_bias=True, name="d_position_query")
        # A bias of the keys adds the same to all scores of a position: only "joint" weights feel it.
        key = conv(x, self.attention_width, 1, use_bias=self.attention == "joint", name="d_position_key")
        value = conv(x, channels, 3, use_bias=True, name="d_position_value")
        context = PositionAttention(normalize=self.attention, name="d_position_attention")(query, key, value)
        x = layers.Add(name="d_position_merge")([x, context])
        return conv(x, channels, 3, use_bias=True, name="d_position_out")

    def _merge(self, x: Tensor, skip: Tensor, step: Step) -> Tensor:
        """Multi-scale fusion attention block, up to its last convolutions."""
        name, channels = step.name, skip.shape[-1]
        x = conv_norm_act(x, x.shape[-1], norm_kind=self.norm, name=f"{name}_reduce1")
        x = conv_norm_act(x, channels, 1, norm_kind=self.norm, name=f"{name}_reduce2")
        gates = [self._gate(x, name=f"{name}_gate"), self._gate(skip, name=f"{name}_skip_gate")]
        x = layers.Multiply(name=f"{name}_weigh")([x, layers.Add(name=f"{name}_gates")(gates)])
        x = grow(x, step, upsampling=self.upsampling, name=f"{name}_up")
        return layers.Concatenate(name=f"{name}_merge")([x, skip])

    def _gate(self, x: Tensor, *, name: str) -> Tensor:
        """`(B, H, W, C)` to a factor in [0, 1] per channel, `(B, 1, 1, C)`, from the means of all channels."""
        channels = x.shape[-1]
        x = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_mean")(x)
        x = conv(x, max(self.min_channels, channels // self.reduction), 1, use_bias=True, name=f"{name}_squeeze")
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = conv(x, channels, 1, use_bias=True, name=f"{name}_excite")
        return layers.Activation("sigmoid", name=f"{name}_sigmoid")(x)
