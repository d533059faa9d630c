"""Base models with an adapter merged into their weights, for transformers."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptare.profiler.workloads import SubAdapter
from adaptare.search.export.kinds import ExportKind, ExportOptions

if TYPE_CHECKING:
    from adaptare.search.super_adapter.base_model import Base


def _write(adapted: SubAdapter["Base"], folder: Path, options: ExportOptions) -> None:
    """Writes a model with the weights that the base had before it was rounded for training.

    One width of all layers becomes the `intermediate_size`; layers left out make `num_hidden_layers` smaller.
    """
    from adaptare.profiler.models import without_bars
    from adaptare.search.super_adapter.merging import check_still_sparse, dense
    from adaptare.search.super_adapter.quantised_base import original

    fields = adapted.configuration.transformers_fields(adapted.base.shape)
    if adapted.base.origin.quantisation != "none":
        adapted = replace(adapted, base=original(adapted.base, "none"))
    check_still_sparse(adapted)
    model = dense(adapted)
    model.config.update(fields)
    with without_bars():
        model.save_pretrained(folder)
    if adapted.base.origin.tokenizer is not None:
        adapted.base.origin.tokenizer.save_pretrained(folder)


MERGED: Final = ExportKind(
    "merged",
    "model for transformers, with the adapter in its weights",
    "AutoModelForCausalLM.from_pretrained({folder!r})",
    _write,
)
