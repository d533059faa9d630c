"""Latency prediction from measurements: physical features, fits for few rows, intervals, files."""

from adaptare.predictor.adaptive import measure_until
from adaptare.predictor.base_curve import at_length
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitted_predictor import FittedPredictor, Prediction
from adaptare.predictor.fitting.cross_validation import ErrorCard
from adaptare.predictor.latency_predictor import LEVEL, LatencyPredictor
from adaptare.predictor.predictor_file import files_of, load_predictor, save_predictor
from adaptare.predictor.regressor import LeftOutRegressor, LinearRegressor, Regressor

__all__ = [
    "LEVEL",
    "ErrorCard",
    "FeatureSet",
    "FittedPredictor",
    "LatencyPredictor",
    "LeftOutRegressor",
    "LinearRegressor",
    "Prediction",
    "Regressor",
    "at_length",
    "files_of",
    "load_predictor",
    "measure_until",
    "save_predictor",
]
