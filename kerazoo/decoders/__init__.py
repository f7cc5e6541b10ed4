"""Decoders: from the levels of an encoder to decoded levels."""

from kerazoo.decoders.deeplab_v1 import DeepLabV1
from kerazoo.decoders.deeplab_v2 import DeepLabV2
from kerazoo.decoders.deeplab_v3 import DeepLabV3
from kerazoo.decoders.deeplab_v3_plus import DeepLabV3Plus
from kerazoo.decoders.fcn import FCN
from kerazoo.decoders.fpn import FPN
from kerazoo.decoders.identity import Identity
from kerazoo.decoders.linknet import LinkNet
from kerazoo.decoders.pspnet import PSPNet
from kerazoo.decoders.unet import UNet
from kerazoo.registry import Registry

DECODERS = Registry("decoder", {"fcn": FCN, "fpn": FPN, "unet": UNet})

list = DECODERS.list
create = DECODERS.create

__all__ = ["DECODERS", "FCN", "FPN", "UNet", "create", "list"]
