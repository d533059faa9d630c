"""Search for adapters within a budget, from predicted latency and measured quality.

Modules that need torch or pymoo are imported on first use.
"""

from typing import TYPE_CHECKING

from adaptare.devices.lazy_names import lazy_names
from adaptare.search.algorithms.algorithm import Algorithm
from adaptare.search.algorithms.baselines import Baseline, baselines, midpoint
from adaptare.search.algorithms.budget_repair import BudgetRepair, InfeasibleBudgetError
from adaptare.search.algorithms.random_search import RandomSearch
from adaptare.search.algorithms.screen import AdditiveScreen, Screen
from adaptare.search.budget.candidate import Candidate, evaluate
from adaptare.search.budget.front import Front, front_of, non_dominated, pick_winners
from adaptare.search.budget.limits import MEDIAN, Budget, latency_limit_s, read_budget
from adaptare.search.budget.objective import CodesPredictor, Limit, Objective, PredictedLatency, PredictedUpperEnd
from adaptare.search.budgeted_search import search
from adaptare.search.super_adapter.scaling import Scaling
from adaptare.search.training.chatterbot import chatterbot_examples
from adaptare.search.training.data import Example, Split, read_examples, split_examples
from adaptare.search.training.step_sampler import SandwichSampler, StepSampler, UniformSampler

if TYPE_CHECKING:
    from adaptare.search.algorithms.nsga2 import Nsga2
    from adaptare.search.export.onnx import export_onnx, export_onnx_adapter
    from adaptare.search.export.onnx_check import OnnxKind, check_onnx_export, onnx_difference
    from adaptare.search.export.peft import export_merged, export_peft
    from adaptare.search.export.peft_import import import_peft
    from adaptare.search.super_adapter.base_model import load_base
    from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
    from adaptare.search.super_adapter.model import SuperAdapter
    from adaptare.search.super_adapter.quantised_base import on_base, requantised, round_base
    from adaptare.search.training.quality import CompletionLoss
    from adaptare.search.training.token_examples import (
        TokenExample,
        TokenExamples,
        TokenSplit,
        tokenize_examples,
        tokenize_split,
    )
    from adaptare.search.training.train import TrainingOutcome, check_examples, train_super_adapter

_LATER = {
    "load_base": "super_adapter.base_model",
    "Nsga2": "algorithms.nsga2",
    "OnnxKind": "export.onnx_check",
    "check_onnx_export": "export.onnx_check",
    "onnx_difference": "export.onnx_check",
    "export_onnx": "export.onnx",
    "export_onnx_adapter": "export.onnx",
    "export_merged": "export.peft",
    "export_peft": "export.peft",
    "import_peft": "export.peft_import",
    "CompletionLoss": "training.quality",
    "on_base": "super_adapter.quantised_base",
    "requantised": "super_adapter.quantised_base",
    "round_base": "super_adapter.quantised_base",
    "SuperAdapter": "super_adapter.model",
    "load_super_adapter": "super_adapter.file",
    "save_super_adapter": "super_adapter.file",
    "TokenExample": "training.token_examples",
    "TokenExamples": "training.token_examples",
    "TokenSplit": "training.token_examples",
    "tokenize_examples": "training.token_examples",
    "tokenize_split": "training.token_examples",
    "TrainingOutcome": "training.train",
    "check_examples": "training.train",
    "train_super_adapter": "training.train",
}

__all__ = [
    "MEDIAN",
    "AdditiveScreen",
    "Algorithm",
    "Baseline",
    "Budget",
    "BudgetRepair",
    "Candidate",
    "CodesPredictor",
    "CompletionLoss",
    "Example",
    "Front",
    "InfeasibleBudgetError",
    "Limit",
    "Nsga2",
    "Objective",
    "OnnxKind",
    "PredictedLatency",
    "PredictedUpperEnd",
    "RandomSearch",
    "SandwichSampler",
    "Scaling",
    "Screen",
    "Split",
    "StepSampler",
    "SuperAdapter",
    "TokenExample",
    "TokenExamples",
    "TokenSplit",
    "TrainingOutcome",
    "UniformSampler",
    "baselines",
    "chatterbot_examples",
    "check_examples",
    "check_onnx_export",
    "evaluate",
    "export_merged",
    "export_onnx",
    "export_onnx_adapter",
    "export_peft",
    "front_of",
    "import_peft",
    "latency_limit_s",
    "load_base",
    "load_super_adapter",
    "midpoint",
    "non_dominated",
    "on_base",
    "onnx_difference",
    "pick_winners",
    "read_budget",
    "read_examples",
    "requantised",
    "round_base",
    "save_super_adapter",
    "search",
    "split_examples",
    "tokenize_examples",
    "tokenize_split",
    "train_super_adapter",
]

__getattr__ = lazy_names(__name__, _LATER)
