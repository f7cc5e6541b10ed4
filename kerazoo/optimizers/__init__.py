"""Optimizers that Keras does not have, and the warm-up; learning rate schedules are Keras's own."""

from kerazoo.optimizers._warm_up import WarmUp
from kerazoo.optimizers.angular_grad import AngularGrad
from kerazoo.optimizers.radam import RAdam
from kerazoo.registry import Registry

OPTIMIZERS = Registry("optimizer", {"angular_grad": AngularGrad, "radam": RAdam})

list = OPTIMIZERS.list
create = OPTIMIZERS.create

__all__ = ["OPTIMIZERS", "AngularGrad", "RAdam", "WarmUp", "create", "list"]
