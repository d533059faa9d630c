"""From measurements to predicted latency: physical features, a shrunken linear fit, intervals, files."""

from adaptare.predictor.conformal import conformal_half_width, rows_needed
from adaptare.predictor.error_card import ErrorCard
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitted_model import FittedModel
from adaptare.predictor.latency_predictor import FEWEST_ROWS, LEVEL, LatencyPredictor
from adaptare.predictor.prediction import Prediction
from adaptare.predictor.predictor_file import load_predictor, save_predictor
from adaptare.predictor.shrunken import ShrunkenLinear

__all__ = [
    "FEWEST_ROWS",
    "LEVEL",
    "ErrorCard",
    "FeatureSet",
    "FittedModel",
    "LatencyPredictor",
    "Prediction",
    "ShrunkenLinear",
    "conformal_half_width",
    "load_predictor",
    "rows_needed",
    "save_predictor",
]
