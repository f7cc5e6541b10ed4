"""From a trained model to masks: any sizes, tiles, flips, decision rules, two stages, whole folders."""

from kerazoo.compose import without_aux
from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.folder import predict_folder
from kerazoo.inference.predictor import Prediction, Predictor, predict, stream
from kerazoo.inference.stitching import shift_and_stitch
from kerazoo.inference.tuning import Tuning, tune
from kerazoo.inference.two_stage import TwoStage

__all__ = [
    "DecisionRule",
    "Prediction",
    "Predictor",
    "Tuning",
    "TwoStage",
    "predict",
    "predict_folder",
    "shift_and_stitch",
    "stream",
    "tune",
    "without_aux",
]
