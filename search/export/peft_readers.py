"""Scaling rules of programs that read PEFT folders, and the parity check of an export read by such a rule.

All of them compute W x + scale B A x, and differ in the scale. llama.cpp keeps `lora_alpha` alone and divides it by the
rank of each tensor; vLLM (up to 0.30) and Olive divide it by `r` everywhere; PEFT also reads `rank_pattern` and
`alpha_pattern`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from adaptare.core import DeviceError
from adaptare.profiler import Configuration
from adaptare.search.export.parity import TOKENS, random_tokens
from adaptare.search.super_adapter.model import SuperAdapter

TOLERANCE = 1e-4  # of logits, relative to the largest
# Values that vLLM takes for --max-lora-rank, from its default on.
VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)
# Settings, module path and rank of its tensors -> factor on B A x.
Rule = Callable[[Mapping[str, Any], str, int], float]
Update = tuple[torch.Tensor, torch.Tensor, float]


def scale_of_tensor_rank(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of llama.cpp: an alpha of 0 means no scaling."""
    return float(settings["lora_alpha"]) / rank if settings["lora_alpha"] else 1.0


def scale_of_one_rank(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of vLLM and Olive."""
    r = settings["r"]
    return float(settings["lora_alpha"]) / (sqrt(r) if settings.get("use_rslora") else r)


def scale_of_patterns(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of PEFT. Raises `DeviceError` where it would build another rank than that of the tensors."""
    built = _by_pattern(settings.get("rank_pattern"), path, settings["r"])
    if built != rank:
        raise DeviceError(f"PEFT would build rank {built} at {path}, whose tensors have rank {rank}")
    alpha = _by_pattern(settings.get("alpha_pattern"), path, settings["lora_alpha"])
    return float(alpha) / (sqrt(rank) if settings.get("use_rslora") else rank)


def reading_commands(kind: str, folder: Path, base: str, largest: int) -> tuple[str, ...]:
    """Commands of the programs that a kind of export is for, on a base model and an adapter with a largest rank."""
    if kind == "peft-portable":
        return (f"llama.cpp: python convert_lora_to_gguf.py {folder} --base {base}",)
    if kind == "peft-uniform":
        rank = next((size for size in VLLM_RANKS if size >= largest), largest)
        return (
            f"vLLM: vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules NAME={folder}",
            f"Olive: olive convert-adapters --adapter_path {folder} --output_path FILE",
        )
    return ()


def check_readers(super_adapter: SuperAdapter, config: Configuration, folder: Path, rules: Mapping[str, Rule]) -> float:
    """Largest absolute difference of the logits from the sub-adapter's, over the largest of those if that is above 1.

    Reads the files again by each rule and applies them to the base model of the super-adapter, on random tokens.

    Args:
        super_adapter: The exported super-adapter.
        config: The exported sites and ranks.
        folder: The export.
        rules: Name of a reader -> its rule.

    Raises:
        DeviceError: A difference is too large.
    """
    model, differences = super_adapter.model, []
    tokens = random_tokens(super_adapter, TOKENS)[None].to(model.device)
    with super_adapter.activated(config), torch.inference_mode():
        expected = model(tokens).logits.float()
    for name, rule in rules.items():
        with super_adapter.lifted(), _applied(model, read_updates(folder, rule)), torch.inference_mode():
            logits = model(tokens).logits.float()
        differences.append(float((logits - expected).abs().max() / max(1.0, float(expected.abs().max()))))
        if not differences[-1] <= TOLERANCE:
            raise DeviceError(
                f"logits of the export, as {name} reads it, differ from the adapter's by {differences[-1]:.2g} of the "
                f"largest, and {TOLERANCE:g} is allowed; export the merged model instead"
            )
    return max(differences)


def read_updates(folder: Path, rule: Rule) -> dict[str, Update]:
    """Module path -> A, B and scale of a PEFT folder."""
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = safetensors.torch.load((folder / "adapter_model.safetensors").read_bytes())
    updates = {}
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            updates[path] = A, tensors[name.replace(".lora_A.", ".lora_B.")], rule(settings, path, len(A))
    return updates


@contextmanager
def _applied(model: nn.Module, updates: Mapping[str, Update]) -> Iterator[None]:
    """Adds the updates to the outputs of their linears within the context."""

    def added(update: Update, module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        A, B, scale = update
        x = inputs[0].to(A.dtype)
        low = functional.linear(x, A.to(x.device))
        return output + (scale * functional.linear(low, B.to(x.device))).to(output.dtype)

    with ExitStack() as hooks:
        for path, update in updates.items():
            hooks.enter_context(model.get_submodule(path).register_forward_hook(partial(added, update)))
        yield


def _by_pattern(pattern: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    matches = (value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", path))
    return next(matches, default)
