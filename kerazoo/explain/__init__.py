"""Which pixels speak for a class: Grad-CAM, inputs that excite a unit, first filters."""

from kerazoo.explain.filters import first_filters
from kerazoo.explain.gradient_cam import grad_cam
from kerazoo.explain.maximization import activation_maximization

__all__ = ["activation_maximization", "first_filters", "grad_cam"]
