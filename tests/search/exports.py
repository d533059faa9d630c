"""Exports of configurations of a super-adapter, by keyword arguments."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.profiler import Configuration
from adaptare.search import Origin, export_adapter
from adaptare.search.export.check import Expectation, check
from adaptare.search.export.kinds import ExportOptions, export_kind
from adaptare.search.export.peft import PEFT_LIBRARY
from adaptare.search.super_adapter.base_model import keep_masters, round_base
from adaptare.search.super_adapter.merging import dense
from adaptare.search.super_adapter.model import SuperAdapter


def exported(
    super_adapter: SuperAdapter,
    config: Configuration,
    folder: Path,
    *,
    kind: str = "peft",
    base: Path | None = None,
    base_name: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    quantisation: str = "none",
    every_site: bool = False,
    cache: Path | None = None,
    is_read: bool = True,
) -> float:
    """Largest difference from torch, or NaN if the kind is not run.

    A reader takes four seconds to start; `is_read` is False where a test loads the files itself.
    """
    adapted = super_adapter.sub_adapter(config, Origin(base, base_name, tokenizer))
    options = ExportOptions(quantisation, every_site, cache)
    form = export_kind(kind) if is_read else replace(export_kind(kind), expectations=None)
    difference = export_adapter(adapted, folder, kind=form, options=options)
    return float("nan") if difference is None else difference


def difference_in_peft(super_adapter: SuperAdapter, config: Configuration, folder: Path, base: Path) -> float:
    """Of the logits in a process with PEFT alone."""
    reader = partial(_read_by_peft, base)
    expected = Expectation("PEFT", reader, dense(super_adapter.sub_adapter(config)), tolerance=np.inf)
    return check(folder, [expected], advice="none")


def _read_by_peft(base: Path, folder: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    return PEFT_LIBRARY(base, tokens, adapter=str(folder))


def on_grid_of(super_adapter: SuperAdapter, model: PreTrainedModel) -> SuperAdapter:
    """Copy of the adapters on another model, which is rounded to 4 bits and keeps its weights beside."""
    keep_masters(model)
    round_base(model, "int4")
    copied = SuperAdapter(model, super_adapter.space, alpha=super_adapter.alpha, seed=0, layer=super_adapter.layer)
    with torch.no_grad():
        for name, tensor in copied.state().items():
            tensor.copy_(super_adapter.state()[name])
    return copied
