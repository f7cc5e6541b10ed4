"""Decoders: from encoder features to decoded features."""

from kerazoo.decoders.bifpn import BiFPN
from kerazoo.decoders.deconvnet import DeconvNet
from kerazoo.decoders.deeplab_v1 import DeepLabV1
from kerazoo.decoders.deeplab_v2 import DeepLabV2
from kerazoo.decoders.deeplab_v3 import DeepLabV3
from kerazoo.decoders.deeplab_v3_plus import DeepLabV3Plus
from kerazoo.decoders.fapn import FaPN
from kerazoo.decoders.fcn import FCN
from kerazoo.decoders.fpn import FPN
from kerazoo.decoders.identity import Identity
from kerazoo.decoders.linknet import LinkNet
from kerazoo.decoders.manet import MANet
from kerazoo.decoders.pan import PAN
from kerazoo.decoders.patch import Patch
from kerazoo.decoders.pspnet import PSPNet
from kerazoo.decoders.pyramid_attention import PyramidAttention
from kerazoo.decoders.segformer import SegFormer
from kerazoo.decoders.segnet import SegNet
from kerazoo.decoders.semantic_fpn import SemanticFPN
from kerazoo.decoders.unet import UNet
from kerazoo.decoders.unet_original import UNetOriginal
from kerazoo.decoders.unet_plus_plus import UNetPlusPlus
from kerazoo.decoders.upernet import UPerNet
from kerazoo.registry import Registry

DECODERS = Registry(
    "decoder",
    {
        "bifpn": BiFPN,
        "deconvnet": DeconvNet,
        "deeplab_v1": DeepLabV1,
        "deeplab_v2": DeepLabV2,
        "deeplab_v3": DeepLabV3,
        "deeplab_v3_plus": DeepLabV3Plus,
        "fapn": FaPN,
        "fcn": FCN,
        "fpn": FPN,
        "identity": Identity,
        "linknet": LinkNet,
        "manet": MANet,
        "pan": PAN,
        "patch": Patch,
        "pspnet": PSPNet,
        "pyramid_attention": PyramidAttention,
        "segformer": SegFormer,
        "segnet": SegNet,
        "semantic_fpn": SemanticFPN,
        "unet": UNet,
        "unet_original": UNetOriginal,
        "unet_plus_plus": UNetPlusPlus,
        "upernet": UPerNet,
    },
)

list = DECODERS.list
create = DECODERS.create

__all__ = [
    "DECODERS",
    "FCN",
    "FPN",
    "PAN",
    "BiFPN",
    "DeconvNet",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV3",
    "DeepLabV3Plus",
    "FaPN",
    "Identity",
    "LinkNet",
    "MANet",
    "PSPNet",
    "Patch",
    "PyramidAttention",
    "SegFormer",
    "SegNet",
    "SemanticFPN",
    "UNet",
    "UNetOriginal",
    "UNetPlusPlus",
    "UPerNet",
    "create",
    "list",
]
