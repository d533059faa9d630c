"""Adapters as GGUF files, for llama.cpp.

llama.cpp multiplies B A x by one alpha over the rank of each tensor, or by 1 if alpha is 0. So each scale is in its B.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import MissingPackageError
from adaptare.core.lazy_names import advice_to_install
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.export.kinds import ExportKind, ExportOptions
from adaptare.search.export.peft import check_adapter_alone

if TYPE_CHECKING:
    from adaptare.search.export.check import Expectation
    from adaptare.search.super_adapter.base_model import Base

ADAPTER_FILE: Final = "adapter.gguf"
NEEDED: Final = ("xllamacpp", "gguf")
# Keys and values have 16 bits in llama.cpp.
TOLERANCE: Final = 2e-3
_LOADER: Final = """
import json, sys
from adaptare.devices.agent.llama_runtime import last_logits

print(json.dumps(last_logits(**json.load(sys.stdin)).tolist()))
"""


def read(model: Path, tokens: Sequence[int], *, adapter: str = "") -> NDArray[np.float32]:
    """Logits of the last two tokens, in a process with llama.cpp. Shape (2, vocabulary).

    Args:
        model: GGUF file.
        tokens: All tokens.
        adapter: GGUF file of the adapter to set; none if empty.

    Raises:
        DeviceError: A file cannot be loaded, or llama.cpp ended the process.
    """
    from adaptare.search.export.check import computed_elsewhere

    request = {"model": str(model), "adapter": adapter, "ids": list(tokens)}
    return np.array(computed_elsewhere(_LOADER, request, library="llama.cpp"), dtype=np.float32)


def check_installed() -> None:
    """Raises `MissingPackageError` unless adapters can be written, and run."""
    import importlib.util

    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(f"{name} is not installed; {advice_to_install(NEEDED[0])}")


def _write(adapted: SubAdapter["Base"], folder: Path, options: ExportOptions) -> None:
    from adaptare.profiler.programs import write_gguf_adapter

    check_adapter_alone(adapted)
    write_gguf_adapter(folder / ADAPTER_FILE, adapted.halves, adapted.base.shape)


def _expectations(adapted: SubAdapter["Base"], options: ExportOptions) -> "list[Expectation]":
    from adaptare.search.export.check import Expectation
    from adaptare.search.super_adapter.merging import dense

    reader = partial(_read_on_base, adapted.without_adapter)
    return [Expectation("llama.cpp", reader, dense(adapted), TOLERANCE)]


def _read_on_base(base: SubAdapter["Base"], folder: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits with the adapter of a folder, on the base written in 32 bits."""
    from adaptare.profiler.programs import write_gguf_base

    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        model = Path(place, "base.gguf")
        write_gguf_base(model, base.base.model, base.base.shape)
        return read(model, tokens, adapter=str(folder / ADAPTER_FILE))


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
    check_installed=check_installed,
    advice="export peft-portable and convert it by llama.cpp's convert_lora_to_gguf.py, or try another xllamacpp",
)
