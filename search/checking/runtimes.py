"""Runtimes that apply an adapter: how their files are read, or the rule that they follow."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from adaptare.core import DeviceError, InputError
from adaptare.core.extensions import named_extension
from adaptare.core.lazy_names import check_installed
from adaptare.core.strict_json import read_json
from adaptare.profiler.programs import GENAI, gguf_site, rounds
from adaptare.profiler.workloads import CONFIG, WEIGHTS, Halves
from adaptare.search.export.check import ExportReader, computed_elsewhere
from adaptare.search.export.folder import MARK
from adaptare.search.export.llama import LLAMA_CPP
from adaptare.search.export.llama import TOLERANCE as LLAMA_TOLERANCE
from adaptare.search.export.merged import TRANSFORMERS
from adaptare.search.export.onnx import ADAPTER_FILE, GENAI_RUNTIME, ONNX_RUNTIME
from adaptare.search.export.openvino import OPENVINO_RUNTIME
from adaptare.search.export.peft import PEFT_LIBRARY, Rule, read_tensors, scale_of_one_rank

# Entry points are named after their runtime; each is an `AdapterRuntime`.
RUNTIMES: Final = "adaptare.checks"
NAME: Final = re.compile(r"(layers\.\d+)[./](?:self_)?(attn|mlp)[./](\w+)[./]lora_([AB])\b")
# Types of rounded weights in a graph of OpenVINO.
ROUNDED: Final = re.compile(r'<data element_type="(?:bf16|f16|[iu][48])"')
# Largest differences of logits over the largest.
EXACT, CLOSE = 1e-4, 1e-3


@dataclass(frozen=True)
class LoadedFiles:
    """Files that a runtime loads.

    Args:
        folder: Model or adapter; of a runtime that loads one file, this file.
        adapter: Adapter that is given to the model at run time; `None` for the model alone.
        base: Folder of the base model.
        exported: Contents of an export of adaptare; empty for other folders.
    """

    folder: Path
    adapter: Path | None
    base: Path
    exported: Mapping[str, Any]


@dataclass(frozen=True)
class Tensor:
    """Facts of one half of an adapter in a file: width of its linear, and whether values are non-zero and finite."""

    width: int
    nonzero: bool
    finite: bool


# Module path -> facts of A and of B.
Tensors = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class AdapterRuntime:
    """Runtime in which an adapter is checked; registered as an entry point in the group `adaptare.checks`.

    Args:
        name: Name of the entry point.
        summary: One line: the runtime, and the files that it is given.
        holds: File that its folder must have, or `*.SUFFIX` if it loads one file; empty if only a rule is known.
        packages: Packages that reading needs.
        read: Logits of the last n >= 1 tokens, shape (n, vocabulary), with activations that are not rounded if the
            runtime can be asked for them.
        tensors: Facts of the adapter's tensors, if the files have some apart from the weights.
        rule: Factor on B A x by the adapter's config, for a runtime that is not run.
        tolerance: Largest difference from torch over the largest logit.
        rounds: True for a folder whose weights may be rounded in a way that nothing tells.
        swaps: True if the model also runs without its adapter file.
    """

    name: str
    summary: str
    holds: str = ""
    packages: tuple[str, ...] = ()
    read: Callable[[LoadedFiles, Sequence[int]], NDArray[np.float32]] | None = None
    tensors: Callable[[LoadedFiles], Tensors] | None = None
    rule: Rule | None = None
    tolerance: float = EXACT
    rounds: Callable[[Path], bool] = lambda folder: False
    swaps: bool = False

    def to_json(self) -> str:
        """The name."""
        return self.name

    def files(self, file: Path, adapter: Path | None, base: Path) -> LoadedFiles:
        """Files in a folder, or beside a file of it. Raises `InputError`, and `MissingPackageError`."""
        check_installed(*self.packages)
        for path in (file, *([adapter] if adapter else [])):
            if not path.exists():
                raise InputError(f"there is no {str(path)!r}; name what the runtime loads")
        if adapter and not self.swaps:
            raise InputError(f"{self.name} takes no adapter file beside its folder; leave {str(adapter)!r} out")
        if self.holds.startswith("*"):
            if not file.match(self.holds):
                raise InputError(f"{str(file)!r} is no file for {self.name}; name one such as {self.holds}")
            return LoadedFiles(file.absolute(), adapter and adapter.absolute(), base, exported={})
        folder = file.parent if file.is_file() else file
        if not (folder / self.holds).is_file():
            raise InputError(f"{str(file)!r} is no folder for {self.name}, and lies in none: no {folder / self.holds}")
        beside = folder / ADAPTER_FILE
        given = adapter or (beside if self.swaps and beside.is_file() else None)
        return LoadedFiles(folder, given and given.absolute(), base, exported=_exported(folder))


def _exported(folder: Path) -> Mapping[str, Any]:
    try:
        mark = read_json(folder / MARK)
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}


def adapter_runtime(name: str) -> AdapterRuntime:
    """The registered runtime of this name. Raises `InputError`."""
    return named_extension(RUNTIMES, name, AdapterRuntime, kind="runtime")


def faults(tensors: Tensors, halves: Mapping[str, Halves]) -> dict[str, str]:
    """Module path -> fault of the tensors in a file, for the sites of an adapter that have one."""
    found = {path: _fault(tensors.get(path, {}), own) for path, own in halves.items()}
    return {path: words for path, words in found.items() if words}


def _fault(pair: Mapping[str, Tensor], own: Halves) -> str:
    if set(pair) != {"A", "B"}:
        return "the file has no A and B of this site"
    if not all(half.finite for half in pair.values()):
        return "the file has NaN or infinite values"
    widths, right = (pair["A"].width, pair["B"].width), (own.A.shape[1], own.B.shape[0])
    if widths != right:
        return f"the file has a linear of {widths[0]} x {widths[1]}, the adapter one of {right[0]} x {right[1]}"
    zero = [name for name, half in pair.items() if not half.nonzero]
    return f"{zero[0]} is zero in the file" if zero and own.A.any() and own.B.any() else ""


def _read_by(library: ExportReader) -> Callable[[LoadedFiles, Sequence[int]], NDArray[np.float32]]:
    return lambda files, tokens: library(files.folder, tokens, adapter=str(files.adapter or ""), rounded=False)


def _by_site(facts: Mapping[str, tuple[int, bool, bool]]) -> Tensors:
    found: dict[str, dict[str, Tensor]] = {}
    for name, each in facts.items():
        if match := NAME.search(name):
            path = f"model.{match[1]}.{'self_attn' if match[2] == 'attn' else 'mlp'}.{match[3]}"
            found.setdefault(path, {})[match[4]] = Tensor(*each)
    return found


def _peft_tensors(file: Path) -> Tensors:
    if not file.is_file():
        return {}
    try:
        halves = {name: each for name, each in read_tensors(file).items() if each.ndim == 2}
    except SafetensorError as error:
        raise DeviceError(f"{file.name} cannot be read, it may be incomplete: {error}") from error
    return _by_site({name: (each.shape["lora_A." in name], *_values(each)) for name, each in halves.items()})


def _values(array: NDArray[np.float32]) -> tuple[bool, bool]:
    return bool(array.any()), bool(np.isfinite(array).all())


_ADAPTER_READER = """
import json, sys
import numpy, onnxruntime

file = json.load(sys.stdin)["adapter"]
facts = {}
for name, value in onnxruntime.AdapterFormat.read_adapter(file).get_parameters().items():
    half = value.numpy()
    facts[name] = half.shape["lora_B" in name], bool(half.any()), bool(numpy.isfinite(half).all())
print(json.dumps(facts))
"""


def _onnx_tensors(files: LoadedFiles) -> Tensors:
    if files.adapter is None:
        return {}
    facts: dict[str, Any] = computed_elsewhere(_ADAPTER_READER, {"adapter": str(files.adapter)}, library="ONNX Runtime")
    return _by_site(facts)


def _gguf_tensors(files: LoadedFiles) -> Tensors:
    import gguf

    if files.adapter is None:
        return {}
    found: dict[str, dict[str, Tensor]] = {}
    try:
        for tensor in gguf.GGUFReader(files.adapter).tensors:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            half = tensor.name[-1].upper()
            found.setdefault(gguf_site(tensor.name), {})[half] = Tensor(array.shape[half == "A"], *_values(array))
    except Exception as error:  # invalid files raise many types of errors
        raise DeviceError(f"{str(files.adapter)!r} cannot be read as GGUF: {error}") from error
    return found


def _rounded_file(file: Path) -> bool:
    """True unless a GGUF file tells that all of its weights have 32 bits. Raises `InputError` for other files."""
    import gguf

    try:
        kind = gguf.GGUFReader(file).fields.get(gguf.Keys.General.FILE_TYPE)
    except Exception as error:  # invalid files raise many types of errors
        raise InputError(f"{str(file)!r} cannot be read as GGUF: {error}; convert or fetch it again") from error
    return kind is None or kind.contents() != gguf.LlamaFileType.ALL_F32


PEFT: Final = AdapterRuntime(
    "peft",
    "PEFT, with an adapter folder",
    CONFIG,
    ("torch", "peft"),
    lambda files, tokens: PEFT_LIBRARY(files.base, tokens, adapter=str(files.folder.absolute())),
    lambda files: _peft_tensors(files.folder / WEIGHTS),
)
MERGED: Final = AdapterRuntime(
    "merged",
    "transformers, with the folder of a merged model",
    "config.json",
    ("torch",),
    _read_by(TRANSFORMERS),
)
ONNX: Final = AdapterRuntime(
    "onnx",
    "ONNX Runtime, with a folder that adaptare exported",
    ONNX_RUNTIME.file,
    ("torch", "onnxruntime"),
    _read_by(ONNX_RUNTIME),
    _onnx_tensors,
    tolerance=CLOSE,
    swaps=True,
)
GENAI_FOLDER: Final = replace(
    ONNX,
    name="genai",
    summary="onnxruntime-genai, with its folder",
    holds=GENAI,
    packages=("torch", "onnxruntime", "onnxruntime_genai"),
    read=_read_by(GENAI_RUNTIME),
    rounds=rounds,
)
LLAMA: Final = AdapterRuntime(
    "llama",
    "llama.cpp, with a GGUF file and an adapter in another one",
    "*.gguf",
    ("torch", "gguf", "xllamacpp"),
    _read_by(LLAMA_CPP),
    _gguf_tensors,
    tolerance=LLAMA_TOLERANCE,
    rounds=_rounded_file,
    swaps=True,
)
OPENVINO: Final = AdapterRuntime(
    "openvino",
    "OpenVINO, with the folder of a model and, as in OpenVINO GenAI, the tensors of an adapter",
    OPENVINO_RUNTIME.file,
    ("torch", "openvino"),
    _read_by(OPENVINO_RUNTIME),
    lambda files: _peft_tensors(files.adapter) if files.adapter else {},
    tolerance=CLOSE,
    rounds=lambda folder: bool(ROUNDED.search((folder / OPENVINO_RUNTIME.file).read_text(encoding="utf-8"))),
    swaps=True,
)
VLLM: Final = AdapterRuntime("vllm", "vLLM up to 0.30, by its rule: nothing is run", rule=scale_of_one_rank)
OLIVE: Final = replace(VLLM, name="olive", summary="Olive's convert-adapters, by its rule: nothing is run")
