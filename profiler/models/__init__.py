"""Base models: sources, random substitutes, and the cache of converted files."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.profiler.models.model_cache import dequantised_file
from adaptare.profiler.models.model_source import ModelSource, published_name

if TYPE_CHECKING:
    from adaptare.profiler.models.model_cache import without_bars
    from adaptare.profiler.models.random_model import cache_argument

__all__ = ["ModelSource", "cache_argument", "dequantised_file", "published_name", "without_bars"]

__getattr__ = lazy_names(__name__)
