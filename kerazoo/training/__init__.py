"""Recipes, training and evaluation."""

from kerazoo.training.evaluate import evaluate
from kerazoo.training.recipe import Recipe
from kerazoo.training.train import train

__all__ = ["Recipe", "evaluate", "train"]
