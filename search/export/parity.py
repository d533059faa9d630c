"""Parity checks: the outputs of an export, loaded by unmodified libraries, against those of the super-adapter."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adaptare.core import DeviceError
from adaptare.profiler import Configuration
from adaptare.search.super_adapter.model import SuperAdapter

TOKENS = 24

# Runs without adaptare: only with packages that any user of PEFT has.
_LOADER = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

request = json.load(sys.stdin)
logits = []
for folder in request["folders"]:
    base = AutoModelForCausalLM.from_pretrained(request["base"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder).eval()
    with torch.inference_mode():
        logits.append(model(torch.tensor([request["tokens"]]), logits_to_keep=1).logits.flatten().tolist())
print(json.dumps(logits))
"""


def random_tokens(super_adapter: SuperAdapter, count: int) -> torch.Tensor:
    """Token ids of the vocabulary, the same on every call. Shape (count,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, super_adapter.shape.vocabulary, (count,), generator=generator)


def computed_elsewhere(script: str, request: Mapping[str, Any], *, library: str) -> Any:
    """Result of a Python script in a separate process, which has `library` and need not have adaptare.

    Args:
        script: Reads the request from standard input and prints its result, both as JSON.
        request: JSON values.
        library: Name of the library that reads the export, for messages.

    Raises:
        DeviceError: The script failed.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        input=json.dumps(request),
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode} without a message"]
        raise DeviceError(f"{library} could not run the export: {lines[-1]}; try another version of {library}")
    return json.loads(done.stdout.splitlines()[-1])


def largest_export_difference(
    super_adapter: SuperAdapter, configs: Sequence[Configuration], folders: Sequence[Path], *, base: str | Path
) -> list[float]:
    """Largest absolute difference of the logits, for each export.

    Args:
        super_adapter: The exported super-adapter.
        configs: The configuration of each folder.
        folders: Exports for PEFT.
        base: Folder of the base model; it is loaded once per export.

    Raises:
        DeviceError: PEFT did not load the exports.
    """
    tokens = random_tokens(super_adapter, TOKENS)[None]
    expected = []
    for config in configs:
        with super_adapter.activated(config), torch.inference_mode():
            expected.append(super_adapter.model(tokens, logits_to_keep=1).logits.flatten())
    request = {"base": str(base), "folders": [str(folder) for folder in folders], "tokens": tokens[0].tolist()}
    loaded = computed_elsewhere(_LOADER, request, library="PEFT")
    return [float((torch.tensor(ours) - theirs).abs().max()) for ours, theirs in zip(loaded, expected, strict=True)]
