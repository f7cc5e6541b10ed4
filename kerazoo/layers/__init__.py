"""Layers that own weights or read run-time shapes; a saved model needs kerazoo for these alone."""

from kerazoo.layers.adaptive_average_pool import AdaptiveAveragePool
from kerazoo.layers.aspp import ASPP
from kerazoo.layers.bed_of_nails import BedOfNails
from kerazoo.layers.bilinear_kernel import BilinearKernel
from kerazoo.layers.cbam import CBAM
from kerazoo.layers.crop_like import CropLike
from kerazoo.layers.eca import ECA
from kerazoo.layers.max_pool_with_indices import MaxPoolWithIndices
from kerazoo.layers.max_unpool import MaxUnpool
from kerazoo.layers.pad_to_multiple import PadToMultiple
from kerazoo.layers.pyramid_pooling import PyramidPooling
from kerazoo.layers.resize import Resize
from kerazoo.layers.reverse_colors import ReverseColors
from kerazoo.layers.scse import SCSE
from kerazoo.layers.spread_pool import SpreadPool
from kerazoo.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "ASPP",
    "CBAM",
    "ECA",
    "SCSE",
    "AdaptiveAveragePool",
    "BedOfNails",
    "BilinearKernel",
    "CropLike",
    "MaxPoolWithIndices",
    "MaxUnpool",
    "PadToMultiple",
    "PyramidPooling",
    "Resize",
    "ReverseColors",
    "SpreadPool",
    "SqueezeExcite",
]
