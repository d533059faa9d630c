"""Search for adapters within a budget, from predicted latency and measured quality.

Modules that need torch or pymoo are imported on first use.
"""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.search.algorithms.algorithm import Algorithm
from adaptare.search.algorithms.budget_repair import InfeasibleBudgetError
from adaptare.search.algorithms.random_search import RandomSearch
from adaptare.search.budget.front import Front, pick_winners
from adaptare.search.budget.limits import read_budget
from adaptare.search.budget.objective import Limit, Objective, PredictedLatency, PredictedUpperEnd
from adaptare.search.budgeted_search import search
from adaptare.search.training.chatterbot import chatterbot_examples
from adaptare.search.training.example_files import read_examples

if TYPE_CHECKING:
    from adaptare.search.algorithms.nsga2 import Nsga2
    from adaptare.search.export.kinds import ExportKind, export_adapter
    from adaptare.search.super_adapter.base_model import Origin, load_base
    from adaptare.search.super_adapter.file import load_super_adapter
    from adaptare.search.super_adapter.model import SuperAdapter
    from adaptare.search.training.quality import CompletionLoss
    from adaptare.search.training.record import TrainingSettings
    from adaptare.search.training.token_examples import tokenize_split
    from adaptare.search.training.train import train_super_adapter

__all__ = ["Algorithm", "CompletionLoss", "ExportKind", "Front", "InfeasibleBudgetError", "Limit"]
__all__ += ["Nsga2", "Objective", "Origin", "PredictedLatency", "PredictedUpperEnd", "RandomSearch", "SuperAdapter"]
__all__ += ["TrainingSettings", "chatterbot_examples", "export_adapter", "load_base", "load_super_adapter"]
__all__ += ["pick_winners", "read_budget", "read_examples", "search", "tokenize_split", "train_super_adapter"]

__getattr__ = lazy_names(__name__)
