"""MA-Net decoder: position-wise attention at the coarsest level, channel attention at every merge.

Fan et al., 2020, https://ieeexplore.ieee.org/document/9201310: a position-wise attention block (PAB), then multi-scale
fusion attention blocks (MFAB), whose channel gates from the coarse map and from the skip are added and scale the coarse
map. Differs from the paper: a plain stage at full resolution, and batch norm. The gates are computed before upsampling:
nearest and bilinear upsampling by 2 keep the mean of each channel, so the result is the same at a quarter of the cost.

smp's MAnet is `MANet(upsampling="nearest", attention="joint", min_channels=1)` under `Linear(kernel_size=3)`; its
`decoder_use_norm` of "batchnorm", "instancenorm" or False is `norm` of "batch", "instance" or None.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole, check_wholes
from kerazoo.decoders._stages import Stage, check_stages, double_conv, plan_stages, upsample
from kerazoo.layers import PositionAttention
from kerazoo.layers.blocks import conv, conv_norm_act
from kerazoo.layers.position_attention import NORMALIZATIONS
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class MANet(Decoder):
    """Self-attention on the coarsest level, then stages that upsample, merge with the skip and convolve.

    Args:
        widths: Channels of each stage, coarse to fine: one per skip, and a last one, if given, for a stage at full
            resolution. None takes (256, 128, 64, 32, 16, …), one per skip and, if the finest skip is at stride 2, one
            more.
        attention_width: Channels of queries and keys.
        attention: "row" for attention weights that sum to 1 for each position, "joint" for smp's, which sum to 1 over
            all pairs of positions.
        reduction: Ratio of the channels of a gate to those of its bottleneck.
        min_channels: Least width of that bottleneck; the fewer, the likelier all of them start dead behind the ReLU.
        upsampling: "bilinear" or "nearest".
        norm: Normalization of the convolutions: "batch", "group", "instance", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`. The memory of
        the self-attention grows with the square of the coarsest level's number of pixels.
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

    def __post_init__(self):
        if self.widths is not None:
            object.__setattr__(self, "widths", check_wholes("MANet", "widths", self.widths))
        check_choice("MANet", "upsampling", self.upsampling, INTERPOLATIONS)
        check_stages("MANet", upsampling=self.upsampling, norm=self.norm)
        check_whole("MANet", "attention_width", self.attention_width)
        check_choice("MANet", "attention", self.attention, NORMALIZATIONS)
        check_whole("MANet", "reduction", self.reduction)
        check_whole("MANet", "min_channels", self.min_channels)

    def __call__(self, features: Features) -> Features:
        stages = plan_stages("MANet", features, self.widths)
        x = self._position_attention(features[-1].tensor)
        decoded = []
        for stage in stages:
            if stage.skip is None:
                x = upsample(x, stage, upsampling=self.upsampling, name=f"{stage.name}_up")
            else:
                x = self._merge(x, stage.skip, stage)
            x = double_conv(x, stage.width, norm=self.norm, name=stage.name)
            decoded.append(Level(stage.stride, x))
        return tuple(reversed(decoded))

    def _position_attention(self, x: Tensor) -> Tensor:
        """Position-wise attention block: self-attention with a residual connection and a 3x3 convolution."""
        channels = x.shape[-1]
        query = conv(x, self.attention_width, 1, use_bias=True, name="d_position_query")
        # A bias of the keys adds the same to all scores of a query, which a softmax per query cancels.
        key = conv(x, self.attention_width, 1, use_bias=self.attention == "joint", name="d_position_key")
        value = conv(x, channels, 3, use_bias=True, name="d_position_value")
        context = PositionAttention(normalize=self.attention, name="d_position_attention")(query, key, value)
        x = layers.Add(name="d_position_merge")([x, context])
        return conv(x, channels, 3, use_bias=True, name="d_position_out")

    def _merge(self, x: Tensor, skip: Tensor, stage: Stage) -> Tensor:
        """Multi-scale fusion attention block, up to its last convolutions."""
        name, channels = stage.name, skip.shape[-1]
        x = conv_norm_act(x, x.shape[-1], norm_kind=self.norm, name=f"{name}_reduce1")
        x = conv_norm_act(x, channels, 1, norm_kind=self.norm, name=f"{name}_reduce2")
        gates = [self._gate(x, name=f"{name}_gate"), self._gate(skip, name=f"{name}_skip_gate")]
        x = layers.Multiply(name=f"{name}_weigh")([x, layers.Add(name=f"{name}_gates")(gates)])
        x = upsample(x, stage, upsampling=self.upsampling, name=f"{name}_up")
        return layers.Concatenate(name=f"{name}_merge")([x, skip])

    def _gate(self, x: Tensor, *, name: str) -> Tensor:
        """Squeeze-and-excitation gate of `(B, H, W, C)`: `(B, 1, 1, C)` in [0, 1]."""
        channels = x.shape[-1]
        x = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_mean")(x)
        x = conv(x, max(self.min_channels, channels // self.reduction), 1, use_bias=True, name=f"{name}_squeeze")
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = conv(x, channels, 1, use_bias=True, name=f"{name}_excite")
        return layers.Activation("sigmoid", name=f"{name}_sigmoid")(x)
