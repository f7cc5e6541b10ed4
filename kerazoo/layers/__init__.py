"""Custom Keras layers: all that a saved model needs kerazoo for."""

from kerazoo.layers.adaptive_average_pool import AdaptiveAveragePool
from kerazoo.layers.antialias_resize import AntialiasResize
from kerazoo.layers.aspp import ASPP
from kerazoo.layers.bed_of_nails import BedOfNails
from kerazoo.layers.bilinear_kernel import BilinearKernel
from kerazoo.layers.cbam import CBAM
from kerazoo.layers.crop_like import CropLike
from kerazoo.layers.deformable_conv import DeformableConv2D
from kerazoo.layers.eca import ECA
from kerazoo.layers.fast_normalized_fusion import FastNormalizedFusion
from kerazoo.layers.gaussian_smooth import GaussianSmooth
from kerazoo.layers.global_log_sum_exp_pooling import GlobalLogSumExpPooling2D
from kerazoo.layers.global_weighted_rank_pooling import GlobalWeightedRankPooling2D
from kerazoo.layers.halve_max import HalveMax
from kerazoo.layers.image_gate import ImageGate
from kerazoo.layers.max_pool_with_indices import MaxPoolWithIndices
from kerazoo.layers.max_unpool import MaxUnpool
from kerazoo.layers.mirror_pad import MirrorPad
from kerazoo.layers.pad_to_multiple import PadToMultiple
from kerazoo.layers.position_attention import PositionAttention
from kerazoo.layers.pyramid_pooling import PyramidPooling
from kerazoo.layers.resize import Resize
from kerazoo.layers.resized_concat_conv import ResizedConcatConv
from kerazoo.layers.reverse_colors import ReverseColors
from kerazoo.layers.scse import SCSE
from kerazoo.layers.spread_pool import SpreadPool
from kerazoo.layers.squeeze_excite import SqueezeExcite
from kerazoo.layers.with_maps import WithMaps

__all__ = [
    "ASPP",
    "CBAM",
    "ECA",
    "SCSE",
    "AdaptiveAveragePool",
    "AntialiasResize",
    "BedOfNails",
    "BilinearKernel",
    "CropLike",
    "DeformableConv2D",
    "FastNormalizedFusion",
    "GaussianSmooth",
    "GlobalLogSumExpPooling2D",
    "GlobalWeightedRankPooling2D",
    "HalveMax",
    "ImageGate",
    "MaxPoolWithIndices",
    "MaxUnpool",
    "MirrorPad",
    "PadToMultiple",
    "PositionAttention",
    "PyramidPooling",
    "Resize",
    "ResizedConcatConv",
    "ReverseColors",
    "SpreadPool",
    "SqueezeExcite",
    "WithMaps",
]
