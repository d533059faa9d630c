"""Parity check of exported adapters: unmodified PEFT, in a separate process, against the super-adapter."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from adaptare.devices import DeviceError
from adaptare.profiler import Configuration
from adaptare.search import SuperAdapter

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
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, super_adapter.shape.vocabulary, (1, TOKENS), generator=generator)
    expected = []
    for config in configs:
        with super_adapter.activated(config), torch.inference_mode():
            expected.append(super_adapter.model(tokens, logits_to_keep=1).logits.flatten())
    request = {"base": str(base), "folders": [str(folder) for folder in folders], "tokens": tokens[0].tolist()}
    done = subprocess.run(
        [sys.executable, "-c", _LOADER], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DeviceError(f"PEFT could not load the export: {done.stderr.strip()[-500:] or 'it ended without a word'}")
    loaded = json.loads(done.stdout.splitlines()[-1])
    return [float((torch.tensor(ours) - theirs).abs().max()) for ours, theirs in zip(loaded, expected, strict=True)]
