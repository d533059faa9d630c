"""From measurements to predicted latency: physical features, fits for few rows, intervals, files."""

from adaptare.predictor.averaged import Averaged
from adaptare.predictor.block_linear import BlockLinear, BlockVariances, block_variances, stacked_blocks
from adaptare.predictor.candidates import BASELINES, CANDIDATES, SIMPLER
from adaptare.predictor.conformal import Level, conformal_half_width, relevel, rows_needed
from adaptare.predictor.corrected import Corrected
from adaptare.predictor.curved import Curved
from adaptare.predictor.error_card import ErrorCard
from adaptare.predictor.features import FeatureSet, columns_of
from adaptare.predictor.few_shot import Columns, few_shot
from adaptare.predictor.fitted_model import INTERPOLATED, FittedModel
from adaptare.predictor.interpolated import bends, interpolate
from adaptare.predictor.latency_predictor import FEWEST_ROWS, LEVEL, LatencyPredictor
from adaptare.predictor.nonnegative import NonNegativeLinear
from adaptare.predictor.prediction import Prediction
from adaptare.predictor.predictor_file import load_predictor, save_predictor
from adaptare.predictor.roofline import Roofline
from adaptare.predictor.sampling import next_rows
from adaptare.predictor.shrunken import ShrunkenLinear
from adaptare.predictor.smooth import Smooth
from adaptare.predictor.training_rows import codes_of

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
