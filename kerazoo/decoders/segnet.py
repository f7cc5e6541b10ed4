"""SegNet: the mirrored encoder, with max unpooling by the encoder's own pooling indices (switches).

Badrinarayanan et al., 2017, https://arxiv.org/abs/1511.00561: with `vgg16_bn` and the linear head this is SegNet, 13
convolutions down and 13 up. The released Caffe model merges the last of the 13 with the classifier:
`convolutions=(3, 3, 3, 2, 1)` and `Linear(kernel_size=3)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kerazoo.arguments import check_wholes
from kerazoo.decoders._unpooling import plan_unpooling, unpool
from kerazoo.layers.blocks import conv_norm_act
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class SegNet(Decoder):
    """Stages of max unpooling and convolutions; skips carry pooling indices, not features.

    Args:
        convolutions: How many 3x3 convolutions follow each unpooling, coarse to fine; the last of them goes to the
            channels of the next one. None takes VGG-16's: 2 at strides 1 and 2, 3 at others.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`; `switches`, by
        the stride after the pooling, int32 positions inside its windows, shaped as what the pooling gave. Where the
        coarsest level has other channels than its switches, one convolution more fits it to them.
    Returns: the decoded levels, fine to coarse.
    Raises: ValueError if `convolutions` does not fit the poolings, or there are no switches for the coarsest level.
    """

    convolutions: tuple[int, ...] | None = None

    switches = True

    def __post_init__(self):
        if self.convolutions is not None:
            object.__setattr__(self, "convolutions", check_wholes("SegNet", "convolutions", self.convolutions))

    def __call__(self, features: Features, switches: Mapping[int, Tensor]) -> Features:
        stages = plan_unpooling("SegNet", features, switches, self.convolutions)
        x = features[-1].tensor
        if x.shape[-1] != stages[0].switches.shape[-1]:
            x = conv_norm_act(x, stages[0].switches.shape[-1], name=f"d{features[-1].stride}_fit")
        decoded = []
        for stage in stages:
            name = f"d{stage.stride}"
            x = unpool(x, stage, name=f"{name}_unpool")
            for i in range(1, stage.convolutions + 1):
                width = stage.width if i == stage.convolutions else x.shape[-1]
                x = conv_norm_act(x, width, name=f"{name}_fuse{i}")
            decoded.append(Level(stage.stride, x))
        return tuple(reversed(decoded))
