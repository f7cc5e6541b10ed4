"""Optimizers that Keras does not have; learning rate schedules are Keras's own."""

from kerazoo.optimizers.radam import RAdam
from kerazoo.registry import Registry

OPTIMIZERS = Registry("optimizer", {"radam": RAdam})

list = OPTIMIZERS.list
create = OPTIMIZERS.create

__all__ = ["OPTIMIZERS", "RAdam", "create", "list"]
