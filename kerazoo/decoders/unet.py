"""U-Net decoder: upsample, merge with the skip, convolve twice.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597. Differs from the paper: "same" convolutions, batch norm, and
bilinear upsampling by default. `skip="sum"` is cheaper than concatenation, because both inputs of a merge are projected
to the width of the stage first.

smp's Unet is `UNet(skip="concat", upsampling="nearest")` under `Linear(kernel_size=3)`; its
`decoder_attention_type="scse"` is `attention="scse"`, its `decoder_use_norm` of "batchnorm", "instancenorm" or False is
`norm` of "batch", "instance" or None.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_wholes
from kerazoo.decoders._stages import Stage, check_stages, double_conv, plan_stages, upsample
from kerazoo.layers.blocks import ATTENTIONS, attend, conv
from kerazoo.types import Decoder, Features, Level, Tensor

SKIPS = ("sum", "concat")


@dataclass(frozen=True, kw_only=True)
class UNet(Decoder):
    """Stages that upsample, merge with the skip and convolve, from the coarsest to the finest level.

    Args:
        widths: Channels of each stage, coarse to fine: one per skip, and a last one, if given, for a stage at full
            resolution. None takes (256, 128, 64, 32, 16, …), one per skip and, if the finest skip is at stride 2, one
            more.
        skip: "sum" adds the skip, both sides projected to the width by a 1x1 convolution; "concat" concatenates it.
        upsampling: "bilinear", "nearest", or "transpose" for a transposed 2x2 convolution to the width.
        norm: Normalization of the convolutions: "batch", "group", "instance", or None.
        attention: Attention before and after the convolutions of a stage: "se", "eca", "cbam", "scse", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse; the first is what a plain head reads.
    Raises: ValueError if an argument is not one of those, there are fewer than two levels, or `widths` does not fit the
        number of skips.
    """

    widths: tuple[int, ...] | None = None
    skip: str = "sum"
    upsampling: str = "bilinear"
    norm: str | None = "batch"
    attention: str | None = None

    def __post_init__(self):
        if self.widths is not None:
            object.__setattr__(self, "widths", check_wholes("UNet", "widths", self.widths))
        check_choice("UNet", "skip", self.skip, SKIPS)
        check_stages("UNet", upsampling=self.upsampling, norm=self.norm)
        check_choice("UNet", "attention", self.attention, (None, *ATTENTIONS))

    def __call__(self, features: Features) -> Features:
        x = features[-1].tensor
        decoded = []
        for stage in plan_stages("UNet", features, self.widths):
            x = self._merge(x, stage)
            x = double_conv(x, stage.width, norm=self.norm, name=stage.name)
            x = attend(x, self.attention, min_channels=1, name=f"{stage.name}_attend2")
            decoded.append(Level(stage.stride, x))
        return tuple(reversed(decoded))

    def _merge(self, x: Tensor, stage: Stage) -> Tensor:
        name, skip = stage.name, stage.skip
        if skip is None:
            return upsample(x, stage, upsampling=self.upsampling, name=f"{name}_up")
        if self.skip == "sum":
            if self.upsampling != "transpose":
                # before upsampling: the same result, at a quarter of the cost
                x = conv(x, stage.width, 1, name=f"{name}_reduce")
            x = upsample(x, stage, upsampling=self.upsampling, name=f"{name}_up")
            x = layers.Add(name=f"{name}_merge")([x, conv(skip, stage.width, 1, name=f"{name}_project")])
        else:
            x = upsample(x, stage, upsampling=self.upsampling, name=f"{name}_up")
            x = layers.Concatenate(name=f"{name}_merge")([x, skip])
        return attend(x, self.attention, min_channels=1, name=f"{name}_attend1")
