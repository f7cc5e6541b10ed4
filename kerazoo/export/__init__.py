"""Export for deployment: each export is loaded again and compared with the model."""

from kerazoo.export.saved_model import saved_model

__all__ = ["saved_model"]
