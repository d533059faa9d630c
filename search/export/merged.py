"""Base models with an adapter merged into their weights, for transformers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.workloads import SubAdapter
from adaptare.search.export.kinds import ExportKind, ExportOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from adaptare.search.export.check import Expectation
    from adaptare.search.super_adapter.base_model import Base


def merged_model(adapted: SubAdapter["Base"]) -> "PreTrainedModel":
    """The model with the adapter in the weights that the base had before it was rounded for training.

    One width of all layers becomes the `intermediate_size`; layers left out make `num_hidden_layers` smaller.
    """
    from adaptare.search.super_adapter.merging import check_still_sparse, dense

    fields = adapted.configuration.transformers_fields(adapted.base.shape)
    adapted = _before_rounding(adapted)
    check_still_sparse(adapted)
    model = dense(adapted)
    model.config.update(fields)
    return model


def save_tokenizer(adapted: SubAdapter["Base"], folder: Path) -> None:
    """Saves the tokenizer of the base, if it has one."""
    if adapted.base.origin.tokenizer is not None:
        adapted.base.origin.tokenizer.save_pretrained(folder)


def _write(adapted: SubAdapter["Base"], folder: Path, options: ExportOptions) -> None:
    from adaptare.profiler.models import without_bars

    with without_bars():
        merged_model(adapted).save_pretrained(folder)
    save_tokenizer(adapted, folder)


def _before_rounding(adapted: SubAdapter["Base"]) -> SubAdapter["Base"]:
    from adaptare.search.super_adapter.quantised_base import original

    if adapted.base.origin.quantisation == "none":
        return adapted
    return replace(adapted, base=original(adapted.base, "none"))


_LOADER = """
import json, sys
import torch
from transformers import AutoModelForCausalLM

request = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(request["folder"], dtype=torch.float32, local_files_only=True).eval()
with torch.inference_mode():
    print(json.dumps(model(torch.tensor([request["tokens"]]), logits_to_keep=1).logits[0].tolist()))
"""


def read(folder: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits of the last token, in a process that has transformers."""
    from adaptare.search.export.check import computed_elsewhere

    request = {"folder": str(folder), "tokens": list(tokens)}
    return np.array(computed_elsewhere(_LOADER, request, library="transformers"), dtype=np.float32)


def _expectations(adapted: SubAdapter["Base"], options: ExportOptions) -> "list[Expectation]":
    from adaptare.search.export.check import Expectation
    from adaptare.search.super_adapter.merging import dense

    return [Expectation("transformers", read, dense(_before_rounding(adapted)))]


_SNIPPET: Final = """
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".", dtype="float32")
inputs = tokenizer("Once upon a time", return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(tokens[0]))
"""
MERGED: Final = ExportKind(
    "merged",
    "model for transformers, with the adapter in its weights",
    _SNIPPET,
    _write,
    _expectations,
    advice="try another version of transformers",
)
