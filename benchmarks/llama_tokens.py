"""Tokens that llama.cpp generates greedily with exported adapters of mixed ranks and scales, against those of PEFT.

python benchmarks/llama_tokens.py [--json] [--python PYTHON]

The models and both adapters are those of genai_tokens.py, exported by `adaptare export --to gguf`. Bases are GGUF files
as the device `llama-cpu` writes them. Logits are read by the public C API of the installed library, in a process that
imports only the agent's module for llama.cpp. `--python` names its interpreter; default: this one.

`logits_difference` is the largest difference from PEFT's in 32 bits, at the prompt's last token, over the largest
logit. `without` is the same of the base alone: the error of the weights themselves.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import genai_tokens
import numpy as np

from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.gguf_base import base_file

WEIGHTS = ("F32", "F16", "Q8_0", "Q4_0")
GENERATE = """
import json, sys
import numpy as np
from adaptare.devices.agent.llama_runtime import Library

given, library, found = json.load(sys.stdin), Library(), []
model = library.model(given["model"])
for adapter in given["adapters"]:
    context = library.context(model, len(given["prompt"]) + given["new"], threads=1, flash_attention="auto")
    library.use(context, [library.adapter(model, adapter)] if adapter else [])
    tokens, answers = np.array(given["prompt"], np.int32), []
    for _ in range(given["new"]):
        library.decoding(context, tokens)()
        logits = library.logits(context, library.vocabulary(model)).copy()
        answers.append(logits)
        tokens = np.array([logits.argmax()], np.int32)
    found.append({"logits": answers[0].tolist(), "tokens": [int(each.argmax()) for each in answers]})
print(json.dumps({"version": library.version, "runs": found}))
"""


def compared(name: str, base: Path, folder: Path, python: str) -> list[dict[str, Any]]:
    """Rows of one model."""
    adapters = genai_tokens.saved_adapters(base, folder)
    files = []
    for adapter in adapters:
        out = folder / f"{adapter.name}-gguf"
        words = [str(adapter), "--base", str(base), "--to", "gguf", "-o", str(out)]
        subprocess.run([sys.executable, "-m", "adaptare", "export", *words], check=True, capture_output=True)
        files.append(str(out / "adapter.gguf"))
    source = open_model(str(base))
    prompt = np.random.default_rng(1).integers(1, source.shape.vocabulary, genai_tokens.PROMPT).tolist()
    *expected, alone = (genai_tokens.of_peft(base, each, prompt, rounded=False) for each in (*adapters, None))
    rows = []
    for weights in WEIGHTS:
        model = base_file(KeptFolders(folder, "gguf"), source.shape, weights, weights=source)
        asked = {"model": str(model), "adapters": [*files, ""], "prompt": prompt, "new": genai_tokens.NEW}
        request = json.dumps(asked)
        done = subprocess.run([python, "-c", GENERATE], input=request, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        output = json.loads(done.stdout.splitlines()[-1])
        *runs, bare = output["runs"]
        for adapter, theirs, ours in zip(("first", "second"), expected, runs, strict=True):
            same = [a == b for a, b in zip(theirs["tokens"], ours["tokens"], strict=True)]
            rows.append(
                {
                    "model": name,
                    "weights": weights,
                    "adapter": adapter,
                    "equal_tokens": same.index(False) if False in same else genai_tokens.NEW,
                    "tokens": genai_tokens.NEW,
                    "logits_difference": difference(ours, theirs),
                    "without": difference(bare, alone),
                    "library": output["version"],
                }
            )
    return rows


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Largest difference of logits over the largest logit."""
    expected = np.array(theirs["logits"])
    return float(np.abs(np.array(ours["logits"]) - expected).max() / np.abs(expected).max())


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    return (
        f"{row['model']:13} {row['weights']:5} {row['adapter']:7} {row['equal_tokens']} of {row['tokens']} tokens are "
        f"PEFT's; logits differ by {row['logits_difference']:.1e}, without adapter by {row['without']:.1e}"
    )


if __name__ == "__main__":
    genai_tokens.compare_all(__doc__, compared, line)
