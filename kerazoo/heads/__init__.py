"""Heads: from decoded features to logits."""

from kerazoo.heads.hypercolumn import Hypercolumn
from kerazoo.heads.linear import Linear
from kerazoo.heads.mlf import MLF
from kerazoo.heads.smooth import Smooth
from kerazoo.registry import Registry

HEADS = Registry("head", {"hypercolumn": Hypercolumn, "linear": Linear, "mlf": MLF, "smooth": Smooth})

list = HEADS.list
create = HEADS.create

__all__ = ["HEADS", "MLF", "Hypercolumn", "Linear", "Smooth", "create", "list"]
