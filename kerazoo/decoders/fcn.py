"""Fully convolutional network: score the coarsest level, upsample by transposed convolution, add finer scores.

Long et al., 2015, https://arxiv.org/abs/1411.4038. The paper's scores are the logits themselves; here they have a width
of their own, and the head's 1x1 convolution, which commutes with the bilinear upsampling, turns them into logits. The
paper's last step, 8x upsampling by a fixed bilinear kernel, is the bilinear resizing of the logits to the image.

`FCN(context="fc")` is FCN-8s, with `skips=1` FCN-16s and with `skips=0` FCN-32s; `kerazoo.pairs.create("fcn_8s")` adds
VGG-16 with the paper's skips from its poolings. `FCN(skips=0)` over ResNet-50 at an output stride of 8, under the
linear head, is torchvision's `fcn_resnet50`; `pad=False` gives its logits at every size.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_fraction, check_odd, check_whole
from kerazoo.decoders._context import fully_connected
from kerazoo.decoders._levels import level_names
from kerazoo.layers import BilinearKernel, CropLike
from kerazoo.layers.blocks import conv, conv_norm_act
from kerazoo.types import Decoder, Features, Level, Tensor

CONTEXTS = ("conv", "fc", None)


@dataclass(frozen=True, kw_only=True)
class FCN(Decoder):
    """Scores of the coarsest levels, upsampled and summed.

    Args:
        skips: How many levels finer than the coarsest add their scores: 2 for FCN-8s, 1 for FCN-16s, 0 for FCN-32s.
        width: Channels of the scores; the paper's are the classes. None takes 64, or with `skips=0` what `context`
            gives, so that the head alone projects.
        context: What comes before the scores of the coarsest level: "conv" for one convolution with batch norm, ReLU
            and dropout, as in torchvision; "fc" for the two fully connected layers of VGG as convolutions, with ReLU
            and dropout each, as in the paper; None for nothing.
        context_width: Channels of the context. None takes a quarter of the encoder's for "conv", 4096 for "fc".
        kernel_size: Odd size of the context's first convolution. None takes 3 for "conv", 7 for "fc".
        dropout: Dropout rate of the context. None takes 0.1 for "conv", 0.5 for "fc".

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the summed scores at the strides of the coarsest `skips + 1` levels, fine to coarse.
    Raises: ValueError if an argument is not one of those, there are too few levels for `skips`, or a stride does not
        divide the next.
    """

    skips: int = 2
    width: int | None = None
    context: str | None = "conv"
    context_width: int | None = None
    kernel_size: int | None = None
    dropout: float | None = None

    def __post_init__(self):
        check_whole("FCN", "skips", self.skips, least=0)
        check_choice("FCN", "context", self.context, CONTEXTS)
        for name in ("width", "context_width"):
            if getattr(self, name) is not None:
                check_whole("FCN", name, getattr(self, name))
        if self.kernel_size is not None:
            check_odd("FCN", "kernel_size", self.kernel_size)
        if self.dropout is not None:
            check_fraction("FCN", "dropout", self.dropout)

    def __call__(self, features: Features) -> Features:
        strides = [level.stride for level in features]
        if len(features) <= self.skips:
            raise ValueError(
                f"FCN with skips={self.skips} needs {self.skips + 1} levels, received strides {strides}. "
                f"Take skips={len(features) - 1} at most."
            )
        used = features[-1 - self.skips :]
        names = level_names(used)
        x = self._context(used[-1].tensor)
        width = self.width or (64 if self.skips else None)
        if width is not None:
            x = conv(x, width, 1, use_bias=True, name=f"{names[-1]}_score")
        decoded = [Level(used[-1].stride, x)]
        for level, name in zip(reversed(used[:-1]), reversed(names[:-1]), strict=True):
            above = decoded[-1]
            if above.stride % level.stride:
                raise ValueError(
                    f"FCN upsamples each level by a whole factor, and {above.stride} is no multiple of {level.stride}: "
                    f"strides {strides}. Take fewer `skips`."
                )
            score = conv(level.tensor, above.tensor.shape[-1], 1, use_bias=True, name=f"{name}_score")
            x = _upsample(above.tensor, score, factor=above.stride // level.stride, name=f"{name}_up")
            decoded.append(Level(level.stride, layers.Add(name=f"{name}_merge")([score, x])))
        return tuple(reversed(decoded))

    def _context(self, x: Tensor) -> Tensor:
        if self.context is None:
            return x
        if self.context == "fc":
            dropout = 0.5 if self.dropout is None else self.dropout
            width, kernel_size = self.context_width or 4096, self.kernel_size or 7
            return fully_connected(x, width, kernel_size=kernel_size, rate=1, dropout=dropout, name="d")
        width = self.context_width or max(1, x.shape[-1] // 4)
        x = conv_norm_act(x, width, self.kernel_size or 3, name="d_context")
        return layers.Dropout(0.1 if self.dropout is None else self.dropout, name="d_context_drop")(x)


def _upsample(x: Tensor, like: Tensor, *, factor: int, name: str) -> Tensor:
    """Learned transposed convolution, initialized to bilinear upsampling, cropped to the size of `like`."""
    x = layers.Conv2DTranspose(
        x.shape[-1],
        2 * factor - factor % 2,
        strides=factor,
        padding="same",
        use_bias=False,
        kernel_initializer=BilinearKernel(),
        name=name,
    )(x)
    return CropLike(name=f"{name}_crop")(x, like)
