"""Figures and the HTML report of a run."""

from kerazoo.report import html, plots

__all__ = ["html", "plots"]
