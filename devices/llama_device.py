"""llama.cpp, on GGUF files."""

from pathlib import Path
from typing import Unpack

from adaptare.core import InputError
from adaptare.devices.agent_device import AgentDevice, AgentOptions
from adaptare.devices.program import hashed

RUNTIME = "adaptare.devices.agent.llama_runtime:LlamaRuntime"
MAGIC = b"GGUF"
CHOICES = {"flash_attention": ("auto", "yes", "no"), "adapter_dtype": ("float32", "float16")}


def llama_cpu(
    *,
    file: str = "",
    library: str = "",
    flash_attention: str = "auto",
    adapter_dtype: str = "float32",
    **options: Unpack[AgentOptions],
) -> AgentDevice:
    """Device that runs GGUF files by `llama_decode` in a separate process, with adapters that are set at run time.

    Args:
        file: GGUF file that is timed as it is; default: the base of each workload, written by adaptare.
        library: Path of a `libllama` on the device; default: that of an installed package, `xllamacpp`,
            `llama-cpp-python` or `llama-cpp-py-sync`.
        flash_attention: `yes`, `no`, or `auto`, with which the library decides.
        adapter_dtype: Data type of adapters, `float32` as llama.cpp's own converter writes them, or `float16`.
        options: Options of `AgentDevice`; one thread by default.
    """
    given = {"flash_attention": flash_attention, "adapter_dtype": adapter_dtype}
    for name, value in given.items():
        if value not in CHOICES[name]:
            raise InputError(f"{name} must be one of {', '.join(CHOICES[name])}, not {value!r}")
    weights = {}
    if file:
        _check_file(file)
        weights = {"file": file, "weights": hashed(Path(file))}
    options.setdefault("threads", 1)
    usual = {"library": "", "file": "", **{name: values[0] for name, values in CHOICES.items()}}
    spelled = {"file": file, "library": library, **given}
    return AgentDevice(
        name="llama-cpu",
        runtime=RUNTIME,
        options={"library": library, "flash_attention": flash_attention},
        spelled={name: value for name, value in spelled.items() if value != usual[name]},
        described={**given, **weights},
        **options,
    )


def _check_file(file: str) -> None:
    if "," in file:
        raise InputError(f"a GGUF file is named like llama-cpu:file=FILE.gguf, without commas, not {file!r}")
    try:
        with Path(file).open("rb") as content:
            magic = content.read(len(MAGIC))
    except OSError as error:
        raise InputError(f"{file!r} cannot be read: {error.strerror}") from error
    if magic != MAGIC:
        raise InputError(f"{file!r} is no GGUF file; convert the model with llama.cpp's convert_hf_to_gguf.py")
