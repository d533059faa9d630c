"""From predicted latency and measured quality to adapters that fit.

What needs torch or pymoo is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

from adaptare.devices import MissingPackageError
from adaptare.search.algorithm import Algorithm
from adaptare.search.baselines import Baseline, baselines, midpoint
from adaptare.search.budget import MEDIAN, Budget, latency_limit_s, read_budget
from adaptare.search.budget_repair import BudgetRepair, InfeasibleBudgetError
from adaptare.search.budgeted_search import search
from adaptare.search.candidate import Candidate, evaluate
from adaptare.search.chatterbot import chatterbot_examples
from adaptare.search.front import Front, front_of, hypervolume, non_dominated, pick_winners
from adaptare.search.objective import CodesPredictor, Limit, Objective, PredictedLatency, PredictedUpperEnd
from adaptare.search.random_search import RandomSearch
from adaptare.search.scaling import Scaling
from adaptare.search.screen import AdditiveScreen, Screen
from adaptare.search.step_sampler import SandwichSampler, StepSampler, UniformSampler
from adaptare.search.training_data import Example, Split, read_examples, split_examples

if TYPE_CHECKING:
    from adaptare.search.base_model import load_base
    from adaptare.search.nsga2 import Nsga2
    from adaptare.search.onnx_check import OnnxKind, check_onnx_export, onnx_difference
    from adaptare.search.onnx_export import export_onnx, export_onnx_adapter
    from adaptare.search.peft_export import export_merged, export_peft
    from adaptare.search.peft_import import import_peft
    from adaptare.search.quality import CompletionLoss
    from adaptare.search.quantised_base import on_base, requantised, round_base
    from adaptare.search.super_adapter import SuperAdapter
    from adaptare.search.super_adapter_file import load_super_adapter, save_super_adapter
    from adaptare.search.token_examples import (
        TokenExample,
        TokenExamples,
        TokenSplit,
        tokenize_examples,
        tokenize_split,
    )
    from adaptare.search.training import TrainingOutcome, check_examples, train_super_adapter

# What the extra `torch` brings.
OF_TORCH = ("torch", "peft", "accelerate")
_LATER = {
    "load_base": "base_model",
    "Nsga2": "nsga2",
    "OnnxKind": "onnx_check",
    "check_onnx_export": "onnx_check",
    "onnx_difference": "onnx_check",
    "export_onnx": "onnx_export",
    "export_onnx_adapter": "onnx_export",
    "export_merged": "peft_export",
    "export_peft": "peft_export",
    "import_peft": "peft_import",
    "CompletionLoss": "quality",
    "on_base": "quantised_base",
    "requantised": "quantised_base",
    "round_base": "quantised_base",
    "SuperAdapter": "super_adapter",
    "load_super_adapter": "super_adapter_file",
    "save_super_adapter": "super_adapter_file",
    "TokenExample": "token_examples",
    "TokenExamples": "token_examples",
    "TokenSplit": "token_examples",
    "tokenize_examples": "token_examples",
    "tokenize_split": "token_examples",
    "TrainingOutcome": "training",
    "check_examples": "training",
    "train_super_adapter": "training",
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
    "hypervolume",
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


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_LATER[name]}")
    except ModuleNotFoundError as error:
        if error.name not in OF_TORCH:
            raise
        raise MissingPackageError(
            f"{error.name} is not installed; install it with: pip install 'adaptare[torch]'"
        ) from error
    return getattr(module, name)
