"""Recipes, and the parts they are written with.

Modules that need torch are imported on first use.
"""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.search.training.samplers import LargestShareSampler, SpreadSampler, UniformSampler
from adaptare.search.training.step import SANDWICH, TrainingStep

if TYPE_CHECKING:
    from adaptare.search.recipes.recipe import Recipe
    from adaptare.search.super_adapter.elastic import ElasticLinear
    from adaptare.search.super_adapter.scaling import Scaling

_LATER = {
    "ElasticLinear": "super_adapter.elastic",
    "Recipe": "recipes.recipe",
    "Scaling": "super_adapter.scaling",
}

__all__ = [
    "SANDWICH",
    "ElasticLinear",
    "LargestShareSampler",
    "Recipe",
    "Scaling",
    "SpreadSampler",
    "TrainingStep",
    "UniformSampler",
]

__getattr__ = lazy_names("adaptare.search", _LATER)
