"""Tokens that OpenVINO generates greedily with exported adapters of mixed ranks and scales, against those of PEFT.

python benchmarks/openvino_tokens.py [--json] [--python PYTHON]

The models and the first adapter are those of genai_tokens.py. `openvino` is the merged model of `adaptare export`, in a
process of nothing but OpenVINO: `--python` names the interpreter of its environment; default: this one. `states` is the
base with the export `peft-folded` in states, as OpenVINO GenAI inserts them. Each runs with everything in 32 bits
(`accuracy`) and with the library's defaults for this processor (`performance`).
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import genai_tokens
import numpy as np
import openvino

from adaptare.devices.agent.openvino_runtime import HALVES, OpenvinoRuntime
from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.openvino import base_graph
from adaptare.search.export.peft import read_halves, scale_of_tensors

GENERATE = """
import json, sys
import numpy as np, openvino

given = json.load(sys.stdin)
exact = {"EXECUTION_MODE_HINT": given["mode"].upper(), "INFERENCE_NUM_THREADS": 1}
request = openvino.compile_model(given["file"], "CPU", exact).create_infer_request()
values = np.load(given["states"]) if given["states"] else {}
for state in request.query_state():
    if state.name in values:
        state.state = openvino.Tensor(values[state.name])
tokens, seen = list(given["prompt"]), 0
for _ in range(given["new"]):
    new, mask = np.array([tokens[seen:]]), np.ones((1, len(tokens)), np.int64)
    places = np.arange(seen, len(tokens))[None]
    inputs = {"input_ids": new, "attention_mask": mask, "position_ids": places, "beam_idx": np.zeros(1, np.int32)}
    seen = len(tokens)
    tokens.append(int(request.infer(inputs)["logits"][0, -1].argmax()))
print(json.dumps({"version": openvino.__version__, "tokens": tokens[-given["new"] :]}))
"""


def graphs(base: Path, adapter: Path, folder: Path) -> dict[str, dict[str, str]]:
    """Graph, and values of its states, for each way to apply an adapter."""
    for kind in ("openvino", "peft-folded"):
        words = [str(adapter), "--base", str(base), "--to", kind, "-o", str(folder / kind)]
        subprocess.run([sys.executable, "-m", "adaptare", "export", *words], check=True, capture_output=True)
    source, halves = open_model(str(base)), read_halves(folder / "peft-folded", scale_of_tensors)
    file, _ = base_graph(KeptFolders(folder, "openvino"), source.shape, "float32", weights=source)
    runtime = OpenvinoRuntime()
    runtime.setup(1, {})
    openvino.save_model(runtime.graph(str(file), {"sites": list(halves)}), folder / "s.xml", compress_to_fp16=False)
    values = {path: (own.A, np.ones((1, own.rank), np.float32), own.B) for path, own in halves.items()}
    named = {f"{path}.{half}": each for path, own in values.items() for half, each in zip(HALVES, own, strict=True)}
    np.savez(folder / "s.npz", **named)
    return {
        "openvino": {"file": str(folder / "openvino" / "openvino_model.xml"), "states": ""},
        "states": {"file": str(folder / "s.xml"), "states": str(folder / "s.npz")},
    }


def compared(name: str, base: Path, folder: Path, python: str) -> list[dict[str, Any]]:
    """Rows of one model."""
    adapter = genai_tokens.saved_adapters(base, folder)[0]
    vocabulary = json.loads((base / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    prompt = np.random.default_rng(1).integers(1, vocabulary, genai_tokens.PROMPT).tolist()
    expected = genai_tokens.of_peft(base, adapter, prompt, rounded=False)["tokens"]
    rows = []
    for way, files in graphs(base, adapter, folder).items():
        for mode in ("accuracy", "performance"):
            asked = json.dumps({**files, "mode": mode, "prompt": prompt, "new": genai_tokens.NEW})
            command = [python, "-I", "-c", GENERATE]
            done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            same = [a == b for a, b in zip(expected, found["tokens"], strict=True)]
            equal = same.index(False) if False in same else genai_tokens.NEW
            row = {"model": name, "adapter": way, "mode": mode, "equal_tokens": equal, "tokens": genai_tokens.NEW}
            rows.append({**row, "openvino": found["version"]})
    return rows


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    equal = f"{row['equal_tokens']} of {row['tokens']} tokens are PEFT's"
    return f"{row['model']:13} {row['adapter']:9} {row['mode']:12} {equal}"


if __name__ == "__main__":
    genai_tokens.compare_all(__doc__, compared, line)
