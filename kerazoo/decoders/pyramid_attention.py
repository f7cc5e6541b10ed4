"""Pyramid Attention Network: feature pyramid attention on top, global attention upsampling along the top-down path.

Li et al., 2018, https://arxiv.org/abs/1805.10180, called PAN by its authors and by smp. The other PAN, the Path
Aggregation Network, is `kerazoo.decoders.PAN` here: a different network.

Feature pyramid attention (FPA): the coarsest level, projected, is multiplied by an attention map, made by 7x7, 5x5 and
3x3 convolutions at a half, a quarter and an eighth of its resolution; its global mean, projected, is added. Global
attention upsampling (GAU): a skip is convolved and scaled by channel gates from the global mean of the coarser map,
which is upsampled and added. Differs from the paper, as smp does: the attention map has one channel, the gates end in a
sigmoid.

smp's PAN is `PyramidAttention(use_bias=True, align_corners=True)` under
`Linear(kernel_size=3, upsampling=4, align_corners=True)`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_choice, check_whole
from kerazoo.decoders._levels import level_names, levels_from
from kerazoo.layers import HalveMax, Resize
from kerazoo.layers.blocks import conv, norm
from kerazoo.layers.resize import INTERPOLATIONS
from kerazoo.types import Decoder, Features, Level, Tensor


@dataclass(frozen=True, kw_only=True)
class PyramidAttention(Decoder):
    """Feature pyramid attention on the coarsest level, then global attention upsampling to the finest.

    Args:
        width: Channels of every decoded level.
        finest_stride: Levels finer than this are left out; an encoder that starts coarser keeps all.
        interpolation: Upsampling of a level to the next finer one, "bilinear" or "nearest"; attention maps are always
            upsampled bilinearly.
        align_corners: Whether corner pixels coincide in bilinear upsampling.
        use_bias: Whether convolutions have a bias although a batch norm follows, as smp's weights have.

    Call: `features`, levels fine to coarse, each `(stride, (B, ceil(H / stride), ceil(W / stride), C))`. Below eight
        rows and columns of the coarsest level, the last maps of the attention's pyramid are a single pixel.
    Returns: the decoded levels, fine to coarse: one per finer level, and the attended coarsest one.
    Raises: ValueError if an argument is not one of those, or no level is left.
    """

    width: int = 32
    finest_stride: int = 4
    interpolation: str = "bilinear"
    align_corners: bool = False
    use_bias: bool = False

    output_stride = 16

    def __post_init__(self):
        check_whole("PyramidAttention", "width", self.width)
        check_whole("PyramidAttention", "finest_stride", self.finest_stride)
        check_choice("PyramidAttention", "interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, features: Features) -> Features:
        used = levels_from("PyramidAttention", features, self.finest_stride)
        names = level_names(used)
        *skips, coarsest = used
        x = self._feature_pyramid_attention(coarsest.tensor)
        decoded = [Level(coarsest.stride, x)]
        for (stride, skip), name in zip(reversed(skips), reversed(names[:-1]), strict=True):
            x = self._global_attention_upsample(x, skip, name=name)
            decoded.append(Level(stride, x))
        return tuple(reversed(decoded))

    def _feature_pyramid_attention(self, x: Tensor) -> Tensor:
        mean = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="d_fpa_mean")(x)
        mean = self._conv(mean, self.width, 1, name="d_fpa_mean")
        projected = self._conv(x, self.width, 1, name="d_fpa_mid")

        half = self._conv(HalveMax(name="d_fpa_pool1")(x), 1, 7, name="d_fpa_down1")
        quarter = self._conv(HalveMax(name="d_fpa_pool2")(half), 1, 5, name="d_fpa_down2")
        eighth = self._conv(HalveMax(name="d_fpa_pool3")(quarter), 1, 3, name="d_fpa_down3")
        weights = self._conv(eighth, 1, 3, name="d_fpa_conv3")
        for lateral, kernel_size, index in ((quarter, 5, 2), (half, 7, 1)):
            weights = self._upsample(weights, lateral, name=f"d_fpa_up{index}")
            lateral = self._conv(lateral, 1, kernel_size, name=f"d_fpa_conv{index}")
            weights = layers.Add(name=f"d_fpa_merge{index}")([lateral, weights])
        weights = self._upsample(weights, projected, name="d_fpa_up")
        x = layers.Multiply(name="d_fpa_weigh")([projected, weights])
        return layers.Add(name="d_fpa_out")([x, mean])

    def _global_attention_upsample(self, x: Tensor, skip: Tensor, *, name: str) -> Tensor:
        gate = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_gau_mean")(x)
        gate = self._conv(gate, self.width, 1, activation="sigmoid", name=f"{name}_gau_gate")
        skip = self._conv(skip, self.width, 3, name=f"{name}_gau_skip")
        skip = layers.Multiply(name=f"{name}_gau_weigh")([skip, gate])
        x = self._upsample(x, skip, interpolation=self.interpolation, name=f"{name}_gau_up")
        return layers.Add(name=f"{name}_gau_merge")([x, skip])

    def _upsample(self, x: Tensor, like: Tensor, *, interpolation: str = "bilinear", name: str) -> Tensor:
        align_corners = self.align_corners and interpolation == "bilinear"
        return Resize(interpolation=interpolation, align_corners=align_corners, name=name)(x, like=like)

    def _conv(self, x: Tensor, filters: int, kernel_size: int, *, activation: str = "relu", name: str) -> Tensor:
        x = conv(x, filters, kernel_size, use_bias=self.use_bias, name=f"{name}_conv")
        x = norm(x, name=f"{name}_bn")
        return layers.Activation(activation, name=f"{name}_{activation}")(x)
