"""Pictures and the HTML page of a run."""

from kerazoo.report import html, plots

__all__ = ["html", "plots"]
