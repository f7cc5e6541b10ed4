"""DeconvNet: fully connected bottleneck, then max unpooling with switches and transposed convolutions.

Noh et al., 2015, https://arxiv.org/abs/1505.04366; with `vgg16_bn` this is its network. Differs from the paper, whose
images have 224 pixels: the bottleneck pads by default, so that it takes maps of every size; `padding="valid"` is the
paper's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_odd, check_whole, check_wholes
from kerazoo.decoders._unpooling import plan_unpooling, unpool
from kerazoo.layers.blocks import norm
from kerazoo.types import Decoder, Features, Level, Tensor

PADDINGS = ("same", "valid")


@dataclass(frozen=True, kw_only=True)
class DeconvNet(Decoder):
    """A bottleneck of two fully connected layers as convolutions, then stages of unpooling and deconvolution.

    Args:
        fc_width: Channels of the fully connected layers.
        kernel_size: Odd size of the first of them and of the transposed convolution; 7 covers the coarsest map of an
            image of 224 pixels.
        padding: Of these two: "same" for maps of every size, or "valid", which needs maps of at least `kernel_size`
            rows (224 pixels at stride 32).
        dropout: Dropout rate after each fully connected layer.
        convolutions: How many 3x3 transposed convolutions follow each unpooling, coarse to fine; the last of them goes
            to the channels of the next one. None takes VGG-16's: 2 at strides 1 and 2, 3 at others.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`; `switches`, by
        the stride after the pooling, int32 positions inside its windows, shaped as what the pooling gave.
    Returns: the decoded levels, fine to coarse.
    Raises: ValueError if an argument is not one of those, `convolutions` does not fit the poolings, or there are no
        switches for the coarsest level.
    """

    fc_width: int = 4096
    kernel_size: int = 7
    padding: str = "same"
    dropout: float = 0.5
    convolutions: tuple[int, ...] | None = None

    switches = True

    def __post_init__(self):
        check_whole("DeconvNet", "fc_width", self.fc_width)
        check_odd("DeconvNet", "kernel_size", self.kernel_size)
        check_choice("DeconvNet", "padding", self.padding, PADDINGS)
        check_fraction("DeconvNet", "dropout", self.dropout)
        if self.convolutions is not None:
            object.__setattr__(self, "convolutions", check_wholes("DeconvNet", "convolutions", self.convolutions))

    def __call__(self, features: Features, switches: Mapping[int, Tensor]) -> Features:
        stages = plan_unpooling("DeconvNet", features, switches, self.convolutions)
        x = self._bottleneck(features[-1].tensor, stages[0].switches.shape[-1])
        decoded = []
        for stage in stages:
            name = f"d{stage.stride}"
            x = unpool(x, stage, name=f"{name}_unpool")
            for i in range(1, stage.convolutions + 1):
                width = stage.width if i == stage.convolutions else x.shape[-1]
                x = _deconvolve(x, width, 3, name=f"{name}_deconv{i}")
            decoded.append(Level(stage.stride, x))
        return tuple(reversed(decoded))

    def _bottleneck(self, x: Tensor, width: int) -> Tensor:
        for layer, kernel_size in (("d_fc6", self.kernel_size), ("d_fc7", 1)):
            x = layers.Conv2D(
                self.fc_width,
                kernel_size,
                padding=self.padding,
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"{layer}_conv",
            )(x)
            x = layers.ReLU(name=f"{layer}_relu")(norm(x, name=f"{layer}_bn"))
            x = layers.Dropout(self.dropout, name=f"{layer}_drop")(x)
        return _deconvolve(x, width, self.kernel_size, padding=self.padding, name="d_fc6_deconv")


def _deconvolve(x: Tensor, filters: int, kernel_size: int, *, padding: str = "same", name: str) -> Tensor:
    """Transposed convolution of stride 1 without bias, batch norm, ReLU; `(B, H, W, C)` to `(B, H, W, filters)`."""
    x = layers.Conv2DTranspose(
        filters, kernel_size, padding=padding, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = norm(x, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)
