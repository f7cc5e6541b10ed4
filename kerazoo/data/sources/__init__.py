"""Where samples come from; each source is a function that returns a `Source`, and a row here."""

from kerazoo.data.sources.coco import coco as coco
from kerazoo.data.sources.folder import folder as folder
from kerazoo.data.sources.lits import lits as lits
from kerazoo.data.sources.prepared import prepared as prepared
from kerazoo.data.sources.siim import siim as siim
from kerazoo.data.sources.synthetic import synthetic as synthetic
from kerazoo.registry import Registry

SOURCES = Registry(
    "source", {"coco": coco, "folder": folder, "lits": lits, "prepared": prepared, "siim": siim, "synthetic": synthetic}
)

list = SOURCES.list
create = SOURCES.create

__all__ = ["SOURCES", "coco", "create", "folder", "list", "lits", "prepared", "siim", "synthetic"]
