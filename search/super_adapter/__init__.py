"""Elastic adapters: the super-adapter, its file and its base model."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from adaptare.search.super_adapter.base_model import Base, load_rounded, load_tokenizer, original, round_base
    from adaptare.search.super_adapter.elastic import ElasticLinear
    from adaptare.search.super_adapter.file import hash_of_weights
    from adaptare.search.super_adapter.merging import (
        check_apart,
        check_still_sparse,
        dense,
        fills_zeros,
        int4_codes,
        merged_weights,
        requantised,
    )
    from adaptare.search.super_adapter.rebasis import energy_lost, ladder_space, on_space, rebase, weight_grams

__all__ = ["Base", "ElasticLinear", "check_apart", "check_still_sparse", "dense", "energy_lost", "fills_zeros"]
__all__ += ["hash_of_weights", "int4_codes", "ladder_space", "load_rounded", "load_tokenizer", "merged_weights"]
__all__ += ["on_space", "original", "rebase", "requantised", "round_base", "weight_grams"]

__getattr__ = lazy_names(__name__)
