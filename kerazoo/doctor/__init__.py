"""What is wrong before training starts, in words.

`kerazoo.doctor(model, batches)` looks at a model and the first batches of its data; this package is that function, too.
"""

import sys
from types import ModuleType
from typing import Any

import keras

from kerazoo.doctor.examine import doctor
from kerazoo.doctor.findings import Finding, Report

__all__ = ["Finding", "Report", "doctor"]


class _Callable(ModuleType):
    """A package of the name of its one function: whichever of the two is imported first, `kerazoo.doctor` is both."""

    def __call__(
        self,
        model: keras.Model,
        dataset: Any,
        *,
        batches: int = 8,
        batch_size: int | None = None,
        verbose: bool = True,
    ) -> Report:
        return doctor(model, dataset, batches=batches, batch_size=batch_size, verbose=verbose)


_Callable.__call__.__doc__ = doctor.__doc__
sys.modules[__name__].__class__ = _Callable
