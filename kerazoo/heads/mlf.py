"""Inverted hypercolumn and multi-level fuse block: Z = attend(F(attend(X))), X the fused levels of the decoder.

F is a stack of 3x3 convolutions (three have the receptive field of a 7x7), each with batch norm and ReLU; the attention
is by default squeeze-and-excitation (Hu et al., 2018, https://arxiv.org/abs/1709.01507).
"""

from dataclasses import dataclass

from kerazoo.arguments import check_choice, check_whole
from kerazoo.heads._logits import PRIOR, check_prior, classify
from kerazoo.heads.hypercolumn import check_hypercolumn, hypercolumn
from kerazoo.layers.blocks import ATTENTIONS, attend, conv_norm_act
from kerazoo.types import Features, Head, Level


@dataclass(frozen=True, kw_only=True)
class MLF(Head):
    """Fuse all decoded levels, apply attention, convolve, apply attention again, and classify.

    Args:
        width: Channels that each level is projected to, and of the block.
        fuse: "sum" or "concat" of the projected levels.
        attention: "se"; "eca", which has no bottleneck; "cbam" or "scse", which have spatial attention too; or None.
        before: Whether there is attention before the convolutions.
        convolutions: Number of 3x3 convolutions.
        after: Whether there is attention after the convolutions.
        reduction: Ratio of the channels to those of the attention's bottleneck, which has at least 4.
        stride: Resolution at which the head works, in input pixels per row; None takes the finest decoded level. 2
            costs a quarter of the full resolution.
        prior: Probability of foreground that the untrained head predicts.

    Call: `features`, decoded levels, fine to coarse; `num_classes`, channels of the logits.
    Returns: the logits as a level: stride and `(B, ceil(H / stride), ceil(W / stride), num_classes)`.
    Raises: ValueError if an argument is not one of those, or `stride` is coarser than every level.
    """

    width: int = 64
    fuse: str = "sum"
    attention: str | None = "se"
    before: bool = True
    convolutions: int = 3
    after: bool = True
    reduction: int = 16
    stride: int | None = None
    prior: float = PRIOR

    def __post_init__(self):
        check_hypercolumn("MLF", width=self.width, fuse=self.fuse, stride=self.stride)
        check_prior(self.prior, owner="MLF")
        check_choice("MLF", "attention", self.attention, (None, *ATTENTIONS))
        check_whole("MLF", "convolutions", self.convolutions, least=0)
        check_whole("MLF", "reduction", self.reduction)

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        stride, x = hypercolumn(features, width=self.width, fuse=self.fuse, stride=self.stride)
        if self.before:
            x = attend(x, self.attention, reduction=self.reduction, name="h_before")
        for i in range(self.convolutions):
            x = conv_norm_act(x, self.width, name=f"h_conv{i + 1}")
        if self.after:
            x = attend(x, self.attention, reduction=self.reduction, name="h_after")
        return Level(stride, classify(x, num_classes=num_classes, prior=self.prior))
