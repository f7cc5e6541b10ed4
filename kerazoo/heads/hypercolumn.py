"""Hypercolumn head: all levels, upsampled and fused, classify each pixel.

Hariharan et al., 2015, https://arxiv.org/abs/1411.5752 stack the *encoder*'s levels; the inverted hypercolumn stacks
the *decoder*'s: X = sum_i up(W_i F_i), W_i a 1x1 convolution to a common width and up bilinear upsampling to the finest
level. A bias-free 1x1 convolution commutes with the upsampling, so each level is projected first, where it is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.heads._logits import PRIOR, check_prior, classify
from kerazoo.layers import Resize
from kerazoo.layers.blocks import conv
from kerazoo.types import Features, Head, Level, Tensor

FUSES = ("sum", "concat")


def check_hypercolumn(owner: str, *, width: int, fuse: str, stride: int | None) -> None:
    """Raise ValueError for invalid arguments of `hypercolumn`."""
    check_whole(owner, "width", width)
    check_choice(owner, "fuse", fuse, FUSES)
    if stride is not None:
        check_whole(owner, "stride", stride)


def hypercolumn(features: Features, *, width: int, fuse: str, stride: int | None) -> Level:
    """Project every level to `width` channels, resize all to one level, and fuse them.

    Args:
        features: Decoded levels, fine to coarse.
        width: Channels of each projection.
        fuse: "sum", or "concat" for `width` channels per level.
        stride: Resolution of the result: that of the finest level whose stride is at least this. None takes the finest.

    Returns: the fused level. Finer levels are average pooled to it, none is left out.

    Raises:
        ValueError: no level has a stride of at least `stride`.
    """
    base = _base(features, stride)
    columns = []
    for position, level in enumerate(features):
        x = level.tensor
        if level.stride < base.stride:
            pool = base.stride // level.stride
            x = layers.AveragePooling2D(pool, padding="same", name=f"h{position}_pool")(x)
        x = conv(x, width, 1, name=f"h{position}_project")
        if level is not base:
            x = Resize(name=f"h{position}_up")(x, like=base.tensor)
        columns.append(x)
    return Level(base.stride, _fuse(columns, fuse))


def _base(features: Features, stride: int | None) -> Level:
    for level in features:
        if stride is None or level.stride >= stride:
            return level
    raise ValueError(
        f"No decoded level has a stride of at least {stride}: there are {[level.stride for level in features]}. "
        "Give the head a smaller `stride`."
    )


def _fuse(columns: Sequence[Tensor], fuse: str) -> Tensor:
    if len(columns) == 1:
        return columns[0]
    merge = layers.Add if fuse == "sum" else layers.Concatenate
    return merge(name="h_fuse")(list(columns))


@dataclass(frozen=True, kw_only=True)
class Hypercolumn(Head):
    """Upsample and fuse all levels, and classify by a 1x1 convolution.

    Args:
        width: Channels that each level is projected to.
        fuse: "sum" or "concat".
        stride: Resolution at which the head works, in input pixels per row; None takes the finest decoded level.
        prior: Probability of foreground that the untrained head predicts.

    Call: `features`, decoded levels, fine to coarse; `num_classes`, channels of the logits.
    Returns: the logits as a level: stride and `(B, ceil(H / stride), ceil(W / stride), num_classes)`.
    Raises: ValueError if an argument is not one of those, or `stride` is coarser than every level.
    """

    width: int = 64
    fuse: str = "sum"
    stride: int | None = None
    prior: float = PRIOR

    def __post_init__(self):
        check_hypercolumn("Hypercolumn", width=self.width, fuse=self.fuse, stride=self.stride)
        check_prior(self.prior, owner="Hypercolumn")

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        stride, x = hypercolumn(features, width=self.width, fuse=self.fuse, stride=self.stride)
        return Level(stride, classify(x, num_classes=num_classes, prior=self.prior))
