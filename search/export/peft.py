"""PEFT folders: adapters for PEFT itself, and for programs that read one alpha or rank for the whole adapter, or none.

All of them compute W x + scale B A x, and differ in the scale. llama.cpp keeps `lora_alpha` alone and divides it by the
rank of each tensor; vLLM (up to 0.30) and Olive divide it by `r` everywhere; OpenVINO GenAI reads the tensors alone;
PEFT also reads `rank_pattern` and `alpha_pattern`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from adaptare.core import DeviceError, InputError
from adaptare.core.content_hash import Json
from adaptare.core.strict_json import read_json
from adaptare.profiler import Configuration
from adaptare.profiler.workloads import CONFIG, WEIGHTS, Halves, SubAdapter, by_pattern, peft_arguments
from adaptare.search import super_adapter
from adaptare.search.export.check import Expectation, ExportReader, logits_of
from adaptare.search.export.kinds import Adapted, ExportKind, ExportOptions

# Its model is a base, and the adapter a folder.
PEFT_LIBRARY: Final = ExportReader(
    "PEFT",
    """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

request = json.load(sys.stdin)
base = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32, use_safetensors=True)
model = PeftModel.from_pretrained(base, request["adapter"]).eval()
with torch.inference_mode():
    logits = model(torch.tensor([request["tokens"]]), logits_to_keep=1).logits[0]
print(json.dumps(logits.tolist()))
""",
)

# Settings that are not written have PEFT's defaults, so that every version of PEFT reads the file.
_FIXED: Final[Mapping[str, Json]] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "inference_mode": True,
    "bias": "none",
    "fan_in_fan_out": False,
    "lora_dropout": 0.0,
    "modules_to_save": None,
    "use_rslora": False,
}
# Settings, module path and rank of its tensors -> factor on B A x.
Rule = Callable[[Mapping[str, Any], str, int], float]


def scale_of_tensor_rank(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of llama.cpp: an alpha of 0 means no scaling."""
    return float(settings["lora_alpha"]) / rank if settings["lora_alpha"] else 1.0


def scale_of_one_rank(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of vLLM and Olive."""
    r = settings["r"]
    return float(settings["lora_alpha"]) / (sqrt(r) if settings.get("use_rslora") else r)


def scale_of_tensors(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of OpenVINO GenAI, which does not read the settings."""
    return 1.0


def scale_of_patterns(settings: Mapping[str, Any], path: str, rank: int) -> float:
    """Rule of PEFT. Raises `DeviceError` where it would build another rank than that of the tensors."""
    built = by_pattern(settings.get("rank_pattern"), path, settings.get("r", 8))
    if built != rank:
        raise DeviceError(f"PEFT would build rank {built} at {path}, whose tensors have rank {rank}")
    alpha = by_pattern(settings.get("alpha_pattern"), path, settings.get("lora_alpha", 8))
    return float(alpha) / (sqrt(rank) if settings.get("use_rslora") else rank)


def read_halves(folder: Path, rule: Rule) -> dict[str, Halves]:
    """Module path -> update of a PEFT folder, with the scale that a rule gives."""
    settings, tensors, updates = read_json(folder / CONFIG), read_tensors(folder / WEIGHTS), {}
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            updates[path] = Halves(A, tensors[name.replace(".lora_A.", ".lora_B.")], rule(settings, path, len(A)))
    return updates


def read_tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """Name -> array of the weights in a file of PEFT."""
    import safetensors.torch

    loaded = safetensors.torch.load(file.read_bytes())
    return {name: tensor.float().numpy() for name, tensor in loaded.items()}


def _read(rule: Rule, adapted: Adapted, folder: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits of the base of an adapter with the update that a program reads by its rule."""
    plain = replace(adapted.base, layer=super_adapter.ElasticLinear)
    return logits_of(super_adapter.dense(SubAdapter(Configuration(), read_halves(folder, rule), plain)), tokens)


def _write(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    check_adapter_alone(adapted)
    _write_files(adapted, folder)


def _write_portable(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    """Keeps every rank, and folds scales into B such that one `lora_alpha` over the rank of each site remains."""
    check_adapter_alone(adapted)
    alpha = max(adapted.configuration.by_path.values())
    halves = {
        path: Halves(own.A, own.B * np.float32(own.scale * own.rank / alpha), alpha / own.rank)
        for path, own in adapted.halves.items()
    }
    _write_files(replace(adapted, halves=halves), folder, {"lora_alpha": alpha, "alpha_pattern": {}})


def _write_folded(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    """Keeps every rank, and folds scales into B entirely."""
    check_adapter_alone(adapted)
    halves = {path: Halves(own.A, own.B * np.float32(own.scale)) for path, own in adapted.halves.items()}
    _write_files(replace(adapted, halves=halves), folder)


def _write_uniform(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    """Pads every site to the largest rank with zeros, and folds scales into B entirely: every rule gives 1.

    Sites without adapter are absent: padding them would make them cost latency, and no reader needs them.
    """
    check_adapter_alone(adapted)
    largest = max(adapted.configuration.by_path.values())
    halves = {}
    for path, own in adapted.halves.items():
        missing, scaled = (0, largest - own.rank), own.B * np.float32(own.scale)
        halves[path] = Halves(np.pad(own.A, (missing, (0, 0))), np.pad(scaled, ((0, 0), missing)))
    config = Configuration.of(dict.fromkeys(halves, largest))
    _write_files(SubAdapter(config, halves, adapted.base), folder)


def check_adapter_alone(adapted: Adapted) -> None:
    """Raises `InputError` for adapters that do not go onto the base that others have."""
    config = adapted.configuration
    if not config.ranks:
        raise InputError("an adapter without any site cannot be written for PEFT; the base model is the result")
    if config.cuts_base:
        cut = "narrower layers" if config.by_layer else "a model of fewer layers"
        raise InputError(
            f"an adapter for PEFT goes onto the complete base, and this one belongs to {cut}; export the model, as "
            "merged or onnx"
        )
    super_adapter.check_apart(adapted)
    for path, own in adapted.halves.items():
        if not (np.isfinite(own.A).all() and np.isfinite(own.B).all()):
            raise InputError(f"the adapter of {path!r} has NaN or infinite values; train it again, or choose another")


def _write_files(adapted: Adapted, folder: Path, settings: Mapping[str, Json] | None = None) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, in which some settings can be replaced.

    The config names every site by its full path, with a separate rank and alpha; sites without adapter are absent.
    """
    tensors = {
        f"base_model.model.{path}.lora_{half}.weight": np.ascontiguousarray(array)
        for path, own in adapted.halves.items()
        for half, array in (("A", own.A), ("B", own.B))
    }
    arguments = peft_arguments(adapted.configuration, {path: own.scale for path, own in adapted.halves.items()})
    content = {**_FIXED, "base_model_name_or_path": adapted.base.origin.name, **arguments, **(settings or {})}
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _read_by(rules: Mapping[str, Rule]) -> Callable[[Adapted, ExportOptions], list[Expectation]]:
    def expectations(adapted: Adapted, options: ExportOptions) -> list[Expectation]:
        model = super_adapter.dense(adapted)
        return [Expectation(name, partial(_read, rule, adapted), model) for name, rule in rules.items()]

    return expectations


_SNIPPET: Final = """
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = "BASE"  # folder or hub id
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="float32"), ".")
inputs = tokenizer("Once upon a time", return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(tokens[0]))
"""
PEFT: Final = ExportKind(
    "peft",
    "adapter for PEFT and transformers",
    _SNIPPET,
    _write,
    _read_by({"PEFT": scale_of_patterns}),
    options=("base_name",),
)
PORTABLE: Final = replace(
    PEFT,
    name="peft-portable",
    summary="adapter for llama.cpp and PEFT: one alpha, unequal ranks",
    write=_write_portable,
    expectations=_read_by({"llama.cpp": scale_of_tensor_rank, "PEFT": scale_of_patterns}),
    commands={"llama.cpp": "python convert_lora_to_gguf.py {folder} --base {base}"},
)
FOLDED: Final = replace(
    PEFT,
    name="peft-folded",
    summary="adapter for OpenVINO GenAI and PEFT: no scale, unequal ranks",
    write=_write_folded,
    expectations=_read_by({"OpenVINO GenAI": scale_of_tensors, "PEFT": scale_of_patterns}),
)
UNIFORM: Final = replace(
    PEFT,
    name="peft-uniform",
    summary="adapter for vLLM and Olive: one rank and one alpha",
    write=_write_uniform,
    expectations=_read_by(
        {"vLLM or Olive": scale_of_one_rank, "llama.cpp": scale_of_tensor_rank, "PEFT": scale_of_patterns}
    ),
    commands={
        "vLLM": "vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules NAME={folder}",
        "Olive": "olive convert-adapters --adapter_path {folder} --output_path FILE",
    },
    pads_ranks=True,
)
