"""Models with an adapter as graphs of OpenVINO."""

from functools import partial
from pathlib import Path
from typing import Final

from adaptare.core.lazy_names import check_installed
from adaptare.profiler import programs
from adaptare.search.export.check import Expectation, ExportReader
from adaptare.search.export.kinds import Adapted, ExportKind, ExportOptions
from adaptare.search.export.merged import merged_model, save_tokenizer

MODEL_FILE: Final = "openvino_model.xml"
# Rounds nothing. An adapter has the tensors of PEFT, and is applied as OpenVINO GenAI does, without alpha.
OPENVINO_RUNTIME: Final = ExportReader(
    "OpenVINO",
    """
import json, sys
from safetensors.numpy import load_file
from adaptare.devices.agent.openvino_runtime import last_logits

request = json.load(sys.stdin)
tensors, end = load_file(request["adapter"]) if request["adapter"] else {}, ".lora_A.weight"
halves = {
    name.removesuffix(end).removeprefix("base_model.model."): (A, tensors[name.replace("lora_A", "lora_B")])
    for name, A in tensors.items()
    if name.endswith(end)
}
print(json.dumps(last_logits(request["model"], request["tokens"], halves).tolist()))
""",
    MODEL_FILE,
)


def _write(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    model = merged_model(adapted)
    programs.write_openvino_graph(model, folder / MODEL_FILE, "float32")
    model.config.save_pretrained(folder)
    save_tokenizer(adapted, folder)


def _expectations(adapted: Adapted, options: ExportOptions) -> list[Expectation]:
    return [Expectation(OPENVINO_RUNTIME.name, OPENVINO_RUNTIME, merged_model(adapted))]


_SNIPPET: Final = """
import numpy as np, openvino, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
exact = {"EXECUTION_MODE_HINT": "ACCURACY"}  # without it, faster and rounded where the processor can
request = openvino.compile_model("openvino_model.xml", "CPU", exact).create_infer_request()
tokens, seen = tokenizer.encode("Once upon a time").ids, 0
for _ in range(32):
    new, mask = np.array([tokens[seen:]]), np.ones((1, len(tokens)), np.int64)
    places = np.arange(seen, len(tokens))[None]
    inputs = {"input_ids": new, "attention_mask": mask, "position_ids": places, "beam_idx": np.zeros(1, np.int32)}
    seen = len(tokens)
    tokens.append(int(request.infer(inputs)["logits"][0, -1].argmax()))
print(tokenizer.decode(tokens))
"""
OPENVINO: Final = ExportKind(
    "openvino",
    "model for OpenVINO, with the adapter in its weights and the cache in states",
    _SNIPPET,
    _write,
    _expectations,
    check_installed=partial(check_installed, "openvino"),
    advice="try another version of openvino",
)
