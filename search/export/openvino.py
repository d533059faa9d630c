"""Models with an adapter as graphs of OpenVINO."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import MissingPackageError
from adaptare.core.lazy_names import advice_to_install
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.export.kinds import ExportKind, ExportOptions
from adaptare.search.export.merged import merged_model, save_tokenizer

if TYPE_CHECKING:
    from adaptare.search.export.check import Expectation
    from adaptare.search.super_adapter.base_model import Base

MODEL_FILE: Final = "openvino_model.xml"
_LOADER: Final = """
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
print(json.dumps(last_logits(request["model"], request["ids"], halves).tolist()))
"""


def read(folder: Path, tokens: Sequence[int], *, adapter: str = "") -> NDArray[np.float32]:
    """Logits of the last two tokens, in a process with OpenVINO, where nothing is rounded. Shape (2, vocabulary).

    Args:
        folder: Folder with `openvino_model.xml`.
        tokens: All tokens.
        adapter: Tensors of an adapter in a file of PEFT, which are applied as OpenVINO GenAI does, without alpha. None
            if empty.

    Raises:
        DeviceError: A file cannot be loaded, or OpenVINO ended the process.
    """
    from adaptare.search.export.check import computed_elsewhere

    request = {"model": str(folder / MODEL_FILE), "adapter": adapter, "ids": list(tokens)}
    return np.array(computed_elsewhere(_LOADER, request, library="OpenVINO"), dtype=np.float32)


def check_installed() -> None:
    """Raises `MissingPackageError` unless graphs can be written, and run."""
    import importlib.util

    if importlib.util.find_spec("openvino") is None:
        raise MissingPackageError(f"openvino is not installed; {advice_to_install('openvino')}")


def _write(adapted: SubAdapter["Base"], folder: Path, options: ExportOptions) -> None:
    from adaptare.profiler.programs import write_openvino_graph

    model = merged_model(adapted)
    write_openvino_graph(model, folder / MODEL_FILE, "float32")
    model.config.save_pretrained(folder)
    save_tokenizer(adapted, folder)


def _expectations(adapted: SubAdapter["Base"], options: ExportOptions) -> "list[Expectation]":
    from adaptare.search.export.check import Expectation

    return [Expectation("OpenVINO", read, merged_model(adapted))]


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
    check_installed=check_installed,
    advice="try another version of openvino",
)
