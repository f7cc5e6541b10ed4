"""Decoders: from the levels of an encoder to decoded levels."""

from kerazoo.decoders.fpn import FPN
from kerazoo.decoders.unet import UNet
from kerazoo.registry import Registry

DECODERS = Registry("decoder", {"fpn": FPN, "unet": UNet})

list = DECODERS.list
create = DECODERS.create

__all__ = ["DECODERS", "FPN", "UNet", "create", "list"]
