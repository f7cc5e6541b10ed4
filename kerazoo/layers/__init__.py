"""Layers that own weights or read run-time shapes; a saved model needs kerazoo for these alone."""

from kerazoo.layers.cbam import CBAM
from kerazoo.layers.crop_like import CropLike
from kerazoo.layers.eca import ECA
from kerazoo.layers.pad_to_multiple import PadToMultiple
from kerazoo.layers.resize import Resize
from kerazoo.layers.reverse_colors import ReverseColors
from kerazoo.layers.scse import SCSE
from kerazoo.layers.spread_pool import SpreadPool
from kerazoo.layers.squeeze_excite import SqueezeExcite

__all__ = ["CBAM", "ECA", "SCSE", "CropLike", "PadToMultiple", "Resize", "ReverseColors", "SpreadPool", "SqueezeExcite"]
