"""Where samples come from; each source is a function that returns a `Source`, and a row here."""

from kerazoo.data.sources.cityscapes import cityscapes as cityscapes
from kerazoo.data.sources.coco import coco as coco
from kerazoo.data.sources.folder import folder as folder
from kerazoo.data.sources.lits import lits as lits
from kerazoo.data.sources.prepared import prepared as prepared
from kerazoo.data.sources.siim import siim as siim
from kerazoo.data.sources.synthetic import synthetic as synthetic
from kerazoo.data.sources.table import table as table
from kerazoo.data.sources.voc import voc as voc
from kerazoo.registry import Registry

SOURCES = Registry(
    "source",
    {
        "cityscapes": cityscapes,
        "coco": coco,
        "folder": folder,
        "lits": lits,
        "prepared": prepared,
        "siim": siim,
        "synthetic": synthetic,
        "table": table,
        "voc": voc,
    },
)

list = SOURCES.list
create = SOURCES.create

__all__ = [
    "SOURCES",
    "cityscapes",
    "coco",
    "create",
    "folder",
    "list",
    "lits",
    "prepared",
    "siim",
    "synthetic",
    "table",
    "voc",
]
