"""Adapters as GGUF files, for llama.cpp.

llama.cpp multiplies B A x by one alpha over the rank of each tensor, or by 1 if alpha is 0. So each scale is in its B.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core.lazy_names import check_installed
from adaptare.profiler import programs
from adaptare.search import super_adapter
from adaptare.search.export.check import Expectation, ExportReader
from adaptare.search.export.kinds import Adapted, ExportKind, ExportOptions
from adaptare.search.export.peft import check_adapter_alone

ADAPTER_FILE: Final = "adapter.gguf"
# Keys and values have 16 bits in llama.cpp.
TOLERANCE: Final = 2e-3
LLAMA_CPP: Final = ExportReader(
    "llama.cpp",
    """
import json, sys
from adaptare.devices.agent.llama_runtime import last_logits

request = json.load(sys.stdin)
print(json.dumps(last_logits(request["model"], request["adapter"], request["tokens"]).tolist()))
""",
)


def _write(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    check_adapter_alone(adapted)
    programs.write_gguf_adapter(folder / ADAPTER_FILE, adapted.halves, adapted.base.shape)


def _expectations(adapted: Adapted, options: ExportOptions) -> list[Expectation]:
    reader = partial(_read_on_base, adapted.without_adapter)
    return [Expectation(LLAMA_CPP.name, reader, super_adapter.dense(adapted), TOLERANCE)]


def _read_on_base(base: Adapted, folder: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits with the adapter of a folder, on the base written in 32 bits."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        model = Path(place, "base.gguf")
        programs.write_gguf_base(model, base.base.model, base.base.shape)
        return LLAMA_CPP(model, tokens, adapter=str(folder / ADAPTER_FILE))


_SNIPPET: Final = """
import xllamacpp
parameters, prompt = xllamacpp.CommonParams(), "Once upon a time"
parameters.model.path = "MODEL"  # GGUF file of the base
parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo("adapter.gguf", 1.0)]
server = xllamacpp.Server(parameters)
answer = server.handle_completions({"prompt": prompt, "max_tokens": 32, "temperature": 0})
print(prompt + answer["choices"][0]["text"])
"""
GGUF: Final = ExportKind(
    "gguf",
    "adapter for llama.cpp",
    _SNIPPET,
    _write,
    _expectations,
    options=("base_name",),
    commands={"llama.cpp": "llama-cli -m BASE.gguf --lora {folder}/adapter.gguf"},
    check_installed=partial(check_installed, "xllamacpp", "gguf"),
    advice="export peft-portable and convert it by llama.cpp's convert_lora_to_gguf.py, or try another xllamacpp",
)
