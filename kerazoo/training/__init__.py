"""Recipes, training, studies and evaluation."""

from kerazoo.training.evaluate import evaluate
from kerazoo.training.fit import fit_phases
from kerazoo.training.phases import Phase
from kerazoo.training.recipe import Recipe
from kerazoo.training.study import Study, study
from kerazoo.training.train import train

__all__ = ["Phase", "Recipe", "Study", "evaluate", "fit_phases", "study", "train"]
