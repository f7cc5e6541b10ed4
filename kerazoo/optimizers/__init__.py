"""Optimizers that Keras does not have; learning rate schedules are Keras's own."""

from kerazoo.optimizers.angular_grad import AngularGrad
from kerazoo.optimizers.radam import RAdam
from kerazoo.registry import Registry

OPTIMIZERS = Registry("optimizer", {"angular_grad": AngularGrad, "radam": RAdam})

list = OPTIMIZERS.list
create = OPTIMIZERS.create

__all__ = ["OPTIMIZERS", "AngularGrad", "RAdam", "create", "list"]
