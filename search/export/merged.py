"""Base models with an adapter merged into their weights, for transformers."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptare.profiler import models
from adaptare.search import super_adapter
from adaptare.search.export.check import Expectation, ExportReader
from adaptare.search.export.kinds import Adapted, ExportKind, ExportOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def merged_model(adapted: Adapted) -> "PreTrainedModel":
    """The model with the adapter in the weights that the base had before it was rounded for training.

    One width of all layers becomes the `intermediate_size`; layers left out make `num_hidden_layers` smaller.
    """
    fields = adapted.configuration.transformers_fields(adapted.base.shape)
    adapted = before_rounding(adapted)
    super_adapter.check_still_sparse(adapted)
    model = super_adapter.dense(adapted)
    model.config.update(fields)
    return model


def save_tokenizer(adapted: Adapted, folder: Path) -> None:
    """Saves the tokenizer of the base, if it has one."""
    if adapted.base.origin.tokenizer is not None:
        adapted.base.origin.tokenizer.save_pretrained(folder)


def _write(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    with models.without_bars():
        merged_model(adapted).save_pretrained(folder)
    save_tokenizer(adapted, folder)


def before_rounding(adapted: Adapted) -> Adapted:
    """The adapter on the weights that its base had before it was rounded for training."""
    return adapted if adapted.base.origin.quantisation == "none" else super_adapter.original(adapted, "none")


def _expectations(adapted: Adapted, options: ExportOptions) -> list[Expectation]:
    return [Expectation(TRANSFORMERS.name, TRANSFORMERS, super_adapter.dense(before_rounding(adapted)))]


TRANSFORMERS: Final = ExportReader(
    "transformers",
    """
import json, sys
import torch
from transformers import AutoModelForCausalLM

request = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32, local_files_only=True).eval()
with torch.inference_mode():
    print(json.dumps(model(torch.tensor([request["tokens"]]), logits_to_keep=1).logits[0].tolist()))
""",
)
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
