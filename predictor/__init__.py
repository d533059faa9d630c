"""Latency prediction from measurements: physical features, fits for few rows, intervals, files."""

from adaptare.predictor.features import FeatureSet, columns_of
from adaptare.predictor.files.predictor_file import load_predictor, save_predictor
from adaptare.predictor.fitted_predictor import FittedPredictor
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.interpolated import bends, interpolate
from adaptare.predictor.latency_predictor import FEWEST_ROWS, LEVEL, LatencyPredictor
from adaptare.predictor.prediction import Prediction
from adaptare.predictor.regressor import LeftOutRegressor, LinearRegressor, Regressor

__all__ = [
    "FEWEST_ROWS",
    "LEVEL",
    "ErrorCard",
    "FeatureSet",
    "FittedPredictor",
    "LatencyPredictor",
    "LeftOutRegressor",
    "LinearRegressor",
    "Prediction",
    "Regressor",
    "bends",
    "columns_of",
    "interpolate",
    "load_predictor",
    "save_predictor",
]
