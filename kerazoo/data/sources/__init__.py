"""Where samples come from; each source is a function that returns a `Source`, and a row here."""

from kerazoo.data.sources.folder import folder as folder
from kerazoo.data.sources.synthetic import synthetic as synthetic
from kerazoo.registry import Registry

SOURCES = Registry("source", {"folder": folder, "synthetic": synthetic})

list = SOURCES.list
create = SOURCES.create

__all__ = ["SOURCES", "create", "folder", "list", "synthetic"]
