"""Latency prediction from measurements: physical features, fits for few rows, intervals, files."""

from adaptare.predictor.estimators.averaged import Averaged
from adaptare.predictor.estimators.block_linear import BlockLinear, BlockVariances, block_variances, stacked_blocks
from adaptare.predictor.estimators.corrected import Corrected
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.estimators.few_shot import Columns, few_shot
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.roofline import Roofline
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.estimators.smooth import Smooth
from adaptare.predictor.features import FeatureSet, columns_of
from adaptare.predictor.files.predictor_file import load_predictor, save_predictor
from adaptare.predictor.fitting.candidates import BASELINES, CANDIDATES, SIMPLER
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.fitting.fitted_model import INTERPOLATED, FittedModel
from adaptare.predictor.fitting.sampling import next_rows
from adaptare.predictor.fitting.training_rows import codes_of
from adaptare.predictor.interpolated import bends, interpolate
from adaptare.predictor.intervals.conformal import Level, conformal_half_width, relevel, rows_needed
from adaptare.predictor.latency_predictor import FEWEST_ROWS, LEVEL, LatencyPredictor
from adaptare.predictor.prediction import Prediction

__all__ = [
    "BASELINES",
    "CANDIDATES",
    "FEWEST_ROWS",
    "INTERPOLATED",
    "LEVEL",
    "SIMPLER",
    "Averaged",
    "BlockLinear",
    "BlockVariances",
    "Columns",
    "Corrected",
    "Curved",
    "ErrorCard",
    "FeatureSet",
    "FittedModel",
    "LatencyPredictor",
    "Level",
    "NonNegativeLinear",
    "Prediction",
    "Roofline",
    "ShrunkenLinear",
    "Smooth",
    "bends",
    "block_variances",
    "codes_of",
    "columns_of",
    "conformal_half_width",
    "few_shot",
    "interpolate",
    "load_predictor",
    "next_rows",
    "relevel",
    "rows_needed",
    "save_predictor",
    "stacked_blocks",
]
