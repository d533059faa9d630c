"""The C API of llama.cpp, by ctypes, for any build whose symbols and defaults are known.

Parameters are structs that are passed by value, and their fields change between builds. A larger block in their place
is handed over in the same way by the calling conventions of x86-64 and AArch64: the callee reads its own fields at the
start. Fields that are changed are found by known defaults; a library with other defaults is refused.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

# Packages that carry the library: requirement, module, pattern of the file in the module's folder.
CARRIERS = (
    ("xllamacpp", "xllamacpp", "xllamacpp*"),
    ("llama-cpp-python", "llama_cpp", "lib/*llama.*"),
    ("llama-cpp-py-sync", "llama_cpp_py_sync", "*llama.*"),
)
SUFFIXES = (".so", ".dylib", ".dll", ".pyd")
WARNING, CONTINUED = 3, 5
# Leading context defaults: positions, tokens of a batch, tokens computed at once, sequences.
CONTEXT_DEFAULTS = [512, 2048, 512, 1]
# Types of rope scaling, pooling, attention and flash attention, unspecified, before a rope frequency of 0.
UNSPECIFIED = [-1, -1, -1, -1, 0, 0]
FLASH_ATTENTION = {"auto": -1, "no": 0, "yes": 1}
# The library rounds positions up to it.
STEP = 256

pointer, text, int32 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
Log = ctypes.CFUNCTYPE(None, ctypes.c_int, text, pointer)


class Parameters(ctypes.Structure):
    """A block that is larger than every struct of parameters."""

    _fields_ = (("words", int32 * 512),)


class Batch(ctypes.Structure):
    """A block that is larger than `llama_batch`: number of tokens, address of their ids, and more."""

    _fields_ = (("tokens", int32), ("ids", pointer), ("others", pointer * 30))


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_adapter_lora_init": (pointer, (pointer, text)),
    "llama_backend_init": (None, ()),
    "llama_batch_get_one": (Batch, (pointer, int32)),
    "llama_context_default_params": (Parameters, ()),
    "llama_decode": (int32, (pointer, Batch)),
    "llama_free": (None, (pointer,)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (pointer, int32)),
    "llama_get_memory": (pointer, (pointer,)),
    "llama_init_from_model": (pointer, (pointer, Parameters)),
    "llama_log_set": (None, (Log, pointer)),
    "llama_memory_seq_rm": (ctypes.c_bool, (pointer, int32, int32, int32)),
    "llama_model_default_params": (Parameters, ()),
    "llama_model_free": (None, (pointer,)),
    "llama_model_get_vocab": (pointer, (pointer,)),
    "llama_model_load_from_file": (pointer, (text, Parameters)),
    "llama_n_ctx": (ctypes.c_uint32, (pointer,)),
    "llama_set_n_threads": (None, (pointer, int32, int32)),
    "llama_state_seq_get_data": (ctypes.c_size_t, (pointer, pointer, ctypes.c_size_t, int32)),
    "llama_state_seq_get_size": (ctypes.c_size_t, (pointer, int32)),
    "llama_state_seq_set_data": (ctypes.c_size_t, (pointer, pointer, ctypes.c_size_t, int32)),
    "llama_synchronize": (None, (pointer,)),
    "llama_vocab_n_tokens": (int32, (pointer,)),
}
# The first replaces all adapters of a context; builds before it have the other two.
REPLACING = {"llama_set_adapters_lora": (int32, (pointer, pointer, ctypes.c_size_t, pointer))}
ADDING: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_clear_adapter_lora": (None, (pointer,)),
    "llama_set_adapter_lora": (int32, (pointer, pointer, ctypes.c_float)),
}
VERSION = "llama_version"


class Library:
    """A loaded library. Its functions raise `RuntimeError` with the library's own words.

    Args:
        path: Shared library with the API; default: the one of an installed package.

    Raises:
        ValueError: It is no such library, or of an unknown build.
        ModuleNotFoundError: No package carries one.
    """

    def __init__(self, path: str = "") -> None:
        found, self.build = (path, "") if path else carried()
        if not os.path.isfile(found):
            raise ValueError(f"there is no library {found!r}; name a libllama, or leave it out to use an installed one")
        try:
            self._functions = ctypes.CDLL(os.path.abspath(found))
        except OSError as error:
            raise ValueError(f"{found!r} cannot be loaded as a library: {error}") from error
        self._replaces = hasattr(self._functions, *REPLACING)
        signatures = {**SIGNATURES, **(REPLACING if self._replaces else ADDING)}
        missing = [name for name in signatures if not hasattr(self._functions, name)]
        if missing:
            raise ValueError(
                f"{found!r} is no llama.cpp of 2025 or later: it lacks {', '.join(missing[:3])}; name another library, "
                "or leave it out to use an installed one"
            )
        for name, (result, arguments) in signatures.items():
            function = getattr(self._functions, name)
            function.restype, function.argtypes = result, arguments
        self.version = self._version(found)
        self._lines: list[str] = []
        self._log = Log(self._note)  # the library calls it as long as the process lives
        self._functions.llama_log_set(self._log, None)
        self._functions.llama_backend_init()
        defaults = list(self._functions.llama_context_default_params().words[:32])
        places = [at for at in range(4, 26) if defaults[at : at + len(UNSPECIFIED)] == UNSPECIFIED]
        probe = np.zeros(1, np.int32)
        batch = self._functions.llama_batch_get_one(probe.ctypes.data, 1)
        if defaults[:4] != CONTEXT_DEFAULTS or not places or (batch.tokens, batch.ids) != (1, probe.ctypes.data):
            raise ValueError(
                f"{found!r} is a build of llama.cpp with unknown parameters ({self.version}); name another"
            )
        self._flash_attention = places[0] + 3

    def model(self, file: str) -> int:
        """Loads a GGUF file."""
        given = self._functions.llama_model_default_params()
        return self._made(f"load {file!r}", lambda: self._functions.llama_model_load_from_file(file.encode(), given))

    def adapter(self, model: int, file: str) -> int:
        """Loads an adapter for a model, which owns it."""
        return self._made(f"load {file!r}", lambda: self._functions.llama_adapter_lora_init(model, file.encode()))

    def context(self, model: int, positions: int, *, threads: int, flash_attention: str) -> int:
        """A context of one sequence that takes all of its positions in one batch."""
        given, whole = self._functions.llama_context_default_params(), -(-positions // STEP) * STEP
        given.words[0] = given.words[1] = whole
        given.words[self._flash_attention] = FLASH_ATTENTION[flash_attention]
        made = self._made("make a context", lambda: self._functions.llama_init_from_model(model, given))
        if (taken := self._functions.llama_n_ctx(made)) != whole:
            self._functions.llama_free(made)
            raise RuntimeError(f"llama.cpp took {taken} positions for {whole}; not timed")
        self._functions.llama_set_n_threads(made, threads, threads)
        return made

    def use(self, context: int, adapters: Sequence[int]) -> None:
        """Makes these the adapters of a context, at a scale of 1."""
        if self._replaces:
            given, scales = (
                (pointer * len(adapters))(*adapters),
                (ctypes.c_float * len(adapters))(*[1.0] * len(adapters)),
            )
            failed = self._functions.llama_set_adapters_lora(context, given, len(adapters), scales)
        else:
            self._functions.llama_clear_adapter_lora(context)
            failed = any(self._functions.llama_set_adapter_lora(context, adapter, 1.0) for adapter in adapters)
        if failed:
            raise RuntimeError(f"llama.cpp could not set an adapter: {self._told()}")

    def decoding(self, context: int, ids: np.ndarray) -> Callable[[], None]:
        """Function that decodes these tokens after those in the cache. `ids` has 32-bit integers and must live on."""
        batch = self._functions.llama_batch_get_one(ids.ctypes.data, len(ids))
        decode, finish = self._functions.llama_decode, self._functions.llama_synchronize

        def call() -> None:
            if decode(context, batch):
                raise RuntimeError(f"llama.cpp could not decode {len(ids)} tokens: {self._told()}")
            finish(context)

        return call

    def keep(self, context: int, positions: int) -> None:
        """Removes all positions but the first ones from the cache."""
        memory = self._functions.llama_get_memory(context)
        if not self._functions.llama_memory_seq_rm(memory, 0, positions, -1):
            raise RuntimeError("this model's cache cannot be cut; it is not timed")

    def cached(self, context: int) -> np.ndarray:
        """A copy of the cache."""
        size = self._functions.llama_state_seq_get_size(context, 0)
        state = np.empty(size, np.uint8)
        if self._functions.llama_state_seq_get_data(context, state.ctypes.data, size, 0) != size:
            raise RuntimeError(f"llama.cpp could not copy its cache: {self._told()}")
        return state

    def set_cache(self, context: int, state: np.ndarray) -> None:
        """Makes a copy the cache, which must be empty."""
        if self._functions.llama_state_seq_set_data(context, state.ctypes.data, len(state), 0) != len(state):
            raise RuntimeError(f"llama.cpp could not restore its cache: {self._told()}")

    def logits(self, context: int, vocabulary: int) -> np.ndarray:
        """Logits of the last token, until the next call. Shape (vocabulary,)."""
        return np.ctypeslib.as_array(self._functions.llama_get_logits_ith(context, -1), (vocabulary,))

    def vocabulary(self, model: int) -> int:
        """Number of logits."""
        return int(self._functions.llama_vocab_n_tokens(self._functions.llama_model_get_vocab(model)))

    def free(self, model: int, contexts: Iterable[int]) -> None:
        """Frees a model with its adapters, and its contexts before it."""
        for context in contexts:
            self._functions.llama_free(context)
        self._functions.llama_model_free(model)

    def _made(self, doing: str, make: Callable[[], int | None]) -> int:
        self._lines.clear()
        made = make()
        if not made:
            raise RuntimeError(f"llama.cpp could not {doing}: {self._told()}")
        self._lines.clear()  # warnings of a success explain no later failure
        return made

    def _note(self, level: int, line: bytes, data: Any) -> None:
        """Keeps warnings and errors, and their other lines."""
        if WARNING <= level < CONTINUED:
            self._lines.append(line.decode(errors="replace").strip())

    def _told(self) -> str:
        return "; ".join(self._lines[:2]) or "it gave no reason"

    def _version(self, path: str) -> str:
        """Version of the library, and its package or, for any other library, digits of the hash of its file."""
        number = "0"
        if hasattr(self._functions, VERSION):
            function = getattr(self._functions, VERSION)
            function.restype = text
            number = function().decode()
        return f"{number}+{self.build or hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}"


def carried() -> tuple[str, str]:
    """File of the library in the first installed package that carries one, and name and version of the package."""
    for requirement, module, pattern in CARRIERS:
        for file in _files(module, pattern):
            return str(file), f"{requirement}.{metadata.version(requirement)}"
    raise ModuleNotFoundError("no package with llama.cpp is installed", name=CARRIERS[0][1])


def _files(module: str, pattern: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (file for file in sorted(Path(folder).glob(pattern)) if file.suffix in SUFFIXES)
