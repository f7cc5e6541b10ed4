"""ConvMixerSeg's patch decoder: the inverse of the patch embedding, from patches to pixels by a transposed convolution.

Kernel and stride are the patch size; GELU and batch norm follow, as in the embedding.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.layers.blocks import norm
from kerazoo.types import Decoder, Features, Level

UPSAMPLINGS = ("transpose", "bilinear")


@dataclass(frozen=True, kw_only=True)
class Patch(Decoder):
    """Upsample the coarsest level to full resolution in one step.

    Args:
        width: Channels of the result of "transpose".
        upsampling: "transpose" for a learned transposed convolution. "bilinear" returns the level as it is: the logits
            of the head are resized to the image instead, which is the same at a fraction of the cost, because the
            head's convolution is linear.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`; the coarsest
        is read.
    Returns: one level: stride 1, `width` channels; with "bilinear" the coarsest one itself.
    Raises: ValueError if an argument is not one of those.
    """

    width: int = 100
    upsampling: str = "transpose"

    def __post_init__(self):
        check_whole("Patch", "width", self.width)
        check_choice("Patch", "upsampling", self.upsampling, UPSAMPLINGS)

    def __call__(self, features: Features) -> Features:
        stride, x = features[-1]
        if self.upsampling == "bilinear":
            return (Level(stride, layers.Activation("linear", name=f"d{stride}_patch")(x)),)
        x = layers.Conv2DTranspose(
            self.width, stride, strides=stride, kernel_initializer="he_normal", name="d1_patch_conv"
        )(x)
        x = layers.Activation("gelu", name="d1_patch_gelu")(x)
        return (Level(1, norm(x, name="d1_patch_bn")),)
