"""Which pixels speak for a class: Grad-CAM, inputs that excite a unit, first filters."""

from kerazoo.explain.explanations import activation_maximization, first_filters, grad_cam

__all__ = ["activation_maximization", "first_filters", "grad_cam"]
