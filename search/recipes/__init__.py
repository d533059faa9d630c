"""Recipes, and the parts they are written with.

Modules that need torch are imported on first use.
"""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.search.training.step import (
    SANDWICH,
    BudgetSampler,
    Distillation,
    LargestShareSampler,
    SpreadSampler,
    TrainingStep,
    UniformSampler,
)

if TYPE_CHECKING:
    from adaptare.search.recipes.recipe import DEFAULT_RECIPE, Recipe, all_recipes, check_widths, recipe_named
    from adaptare.search.super_adapter.elastic import ElasticLinear

__all__ = ["DEFAULT_RECIPE", "SANDWICH", "BudgetSampler", "Distillation", "ElasticLinear", "LargestShareSampler"]
__all__ += ["Recipe", "SpreadSampler", "TrainingStep", "UniformSampler", "all_recipes", "check_widths", "recipe_named"]

__getattr__ = lazy_names(__name__)
