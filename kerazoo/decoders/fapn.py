"""Feature-aligned pyramid network: coarse features are aligned with fine ones by deformable convolution, then added.

Huang et al., 2021, https://arxiv.org/abs/2108.07058, and the authors' code, https://github.com/EMI-Group/FaPN. Differs
from FPN in two modules. Feature selection replaces the lateral 1x1 convolution: the level is multiplied by a gate per
channel and added to itself, then projected. Feature alignment replaces the upsampling: offsets, predicted from both
levels, shift the sampling points of a modulated deformable convolution over the upsampled coarse level.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_whole
from kerazoo.decoders._levels import level_names, levels_from
from kerazoo.decoders.fpn import output_conv
from kerazoo.layers import DeformableConv2D, Resize
from kerazoo.layers.blocks import conv
from kerazoo.types import Decoder, Features, Level, Tensor

POINTS = 9
"""Sampling points of the deformable convolution, which is 3x3."""


@dataclass(frozen=True, kw_only=True)
class FaPN(Decoder):
    """A top-down path whose coarse features are aligned with the finer level before they are added.

    Args:
        width: Channels of every decoded level; a multiple of `offset_groups`.
        finest_stride: Levels finer than this are left out; an encoder that starts coarser keeps all.
        offset_groups: Groups of channels of the coarse level that have offsets of their own.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`.
    Returns: the decoded levels, fine to coarse, all of `width` channels.
    Raises: ValueError if an argument is not one of those, or no level is left.
    """

    width: int = 256
    finest_stride: int = 4
    offset_groups: int = 8

    def __post_init__(self):
        for name in ("width", "finest_stride", "offset_groups"):
            check_whole("FaPN", name, getattr(self, name))
        if self.width % self.offset_groups:
            raise ValueError(
                f"FaPN's `width` must be a multiple of `offset_groups`, received {self.width} and {self.offset_groups}."
            )

    def __call__(self, features: Features) -> Features:
        *finer, coarsest = levels_from("FaPN", features, self.finest_stride)
        *names, top = level_names((*finer, coarsest))
        x = conv(coarsest.tensor, self.width, 1, use_bias=True, name=f"{top}_lateral")
        decoded = [Level(coarsest.stride, x)]
        for level, name in zip(reversed(finer), reversed(names), strict=True):
            selected = self._select(level.tensor, name=f"{name}_select")
            aligned = self._align(x, selected, name=f"{name}_align")
            x = layers.Add(name=f"{name}_merge")([aligned, selected])
            decoded.append(Level(level.stride, output_conv(x, name=name)))
        return tuple(reversed(decoded))

    def _select(self, x: Tensor, *, name: str) -> Tensor:
        """Feature selection module."""
        means = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_mean")(x)
        gate = conv(means, x.shape[-1], 1, name=f"{name}_gate")
        gate = layers.Activation("sigmoid", name=f"{name}_sigmoid")(gate)
        gated = layers.Multiply(name=f"{name}_multiply")([x, gate])
        return conv(layers.Add(name=f"{name}_add")([x, gated]), self.width, 1, name=f"{name}_project")

    def _align(self, coarse: Tensor, selected: Tensor, *, name: str) -> Tensor:
        """Feature alignment module: `coarse`, upsampled and aligned with `selected`."""
        upsampled = Resize(name=f"{name}_up")(coarse, like=selected)
        doubled = layers.Rescaling(2.0, name=f"{name}_double")(upsampled)
        both = layers.Concatenate(name=f"{name}_both")([selected, doubled])
        difference = conv(both, self.width, 1, name=f"{name}_difference")
        points = self.offset_groups * POINTS
        offsets = _predict(difference, 2 * points, name=f"{name}_offsets")
        modulation = _predict(difference, points, activation="sigmoid", name=f"{name}_modulation")
        x = DeformableConv2D(self.width, 3, offset_groups=self.offset_groups, name=f"{name}_deform")(
            upsampled, offsets, modulation
        )
        return layers.ReLU(name=f"{name}_relu")(x)


def _predict(x: Tensor, filters: int, *, activation: str | None = None, name: str) -> Tensor:
    """A 3x3 convolution initialized to zero: at first no sampling point is shifted, and all have the same weight."""
    return layers.Conv2D(filters, 3, padding="same", activation=activation, kernel_initializer="zeros", name=name)(x)
