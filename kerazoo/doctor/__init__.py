"""What is wrong before training starts, in words.

The package is also its one function: `kerazoo.doctor(model, batches)`, whichever of the two is imported first.
"""

import sys
from types import ModuleType
from typing import Any

import keras

from kerazoo.doctor.examine import doctor
from kerazoo.findings import Finding, Report

__all__ = ["Finding", "Report", "doctor"]


class _CallableModule(ModuleType):
    """A module that can be called as its function of the same name."""

    def __call__(
        self, model: keras.Model, dataset: Any, *, batches: int = 8, batch_size: int | None = None, verbose: bool = True
    ) -> Report:
        return doctor(model, dataset, batches=batches, batch_size=batch_size, verbose=verbose)


_CallableModule.__call__.__doc__ = doctor.__doc__
sys.modules[__name__].__class__ = _CallableModule
