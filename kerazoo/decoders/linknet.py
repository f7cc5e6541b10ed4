"""LinkNet: bottleneck blocks with a transposed convolution, each added to the encoder's level.

Chaurasia and Culurciello, 2017, https://arxiv.org/abs/1707.03718. Differs from the paper, as smp's Linknet does: the
transposed convolutions are 4x4, because 3x3 kernels of stride 2 overlap unevenly (checkerboard artifacts); the level at
stride 2 is added too; and the last block is like the others.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.layers import CropLike
from kerazoo.layers.blocks import NORMS, conv, conv_norm_act, norm
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class LinkNet(Decoder):
    """Decoder blocks from the coarsest level to full resolution, each as wide as the encoder's level it is added to.

    Args:
        width: Channels at full resolution; not used if the encoder's finest level is there already.
        reduction: Ratio of a block's input channels to those of its bottleneck, which has at least 4.
        norm: Normalization after each convolution: "batch", "group", "instance", or None.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: one level per skip, with the channels of the skip, and one at full resolution; fine to coarse.
    Raises: ValueError if an argument is not one of those, or there are fewer than two levels.
    """

    width: int = 32
    reduction: int = 4
    norm: str | None = "batch"

    def __post_init__(self):
        check_whole("LinkNet", "width", self.width)
        check_whole("LinkNet", "reduction", self.reduction)
        check_choice("LinkNet", "norm", self.norm, NORMS)

    def __call__(self, features: Features) -> Features:
        if len(features) < 2:
            raise ValueError(
                "LinkNet needs at least two levels, one of them to add; received the strides "
                f"{[level.stride for level in features]}. Give the encoder a larger `depth`."
            )
        *skips, (stride, x) = features
        decoded = []
        for position, skip in enumerate(reversed(skips)):
            x = self._block(x, skip.tensor.shape[-1], factor=stride // skip.stride, name=f"d{position}")
            x = CropLike(name=f"d{position}_crop")(x, skip.tensor)
            x = layers.Add(name=f"d{position}_add")([x, skip.tensor])
            stride = skip.stride
            decoded.append(Level(stride, x))
        if stride > 1:
            x = self._block(x, self.width, factor=stride, name=f"d{len(skips)}")
            decoded.append(Level(1, x))
        return tuple(reversed(decoded))

    def _block(self, x: Tensor, width: int, *, factor: int, name: str) -> Tensor:
        narrow = max(4, x.shape[-1] // self.reduction)
        x = conv_norm_act(x, narrow, 1, norm_kind=self.norm, name=f"{name}_narrow")
        x = self._upsample(x, narrow, factor=factor, name=f"{name}_up")
        return conv_norm_act(x, width, 1, norm_kind=self.norm, name=f"{name}_widen")

    def _upsample(self, x: Tensor, width: int, *, factor: int, name: str) -> Tensor:
        """A transposed convolution whose kernel is twice its stride; a 3x3 convolution for a factor of 1."""
        if factor == 1:
            x = conv(x, width, 3, use_bias=True, name=f"{name}_conv")
        else:
            x = layers.Conv2DTranspose(
                width, 2 * factor, strides=factor, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
            )(x)
        if self.norm is not None:
            x = norm(x, kind=self.norm, name=f"{name}_bn" if self.norm == "batch" else f"{name}_norm")
        return layers.ReLU(name=f"{name}_relu")(x)
