"""Elastic adapters: the super-adapter, its file and its base model."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from adaptare.search.super_adapter.base_model import Base
    from adaptare.search.super_adapter.file import hash_of_weights
    from adaptare.search.super_adapter.merging import fills_zeros, requantised
    from adaptare.search.super_adapter.quantised_base import load_rounded
    from adaptare.search.super_adapter.rebasis import energy_lost, ladder_space, on_space, rebase, weight_grams

__all__ = ["Base", "energy_lost", "fills_zeros", "hash_of_weights", "ladder_space", "load_rounded", "on_space"]
__all__ += ["rebase", "requantised", "weight_grams"]

__getattr__ = lazy_names(__name__)
