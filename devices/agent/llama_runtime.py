"""Programs that are GGUF files, run by llama.cpp."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.devices.agent.feeds import filled
from adaptare.devices.agent.llama_library import STEP, Library
from adaptare.devices.agent.runtime import Bound, Output, RuntimeFacts

NAME = "llama_cpp"


class LlamaRuntime:
    """Runtime of llama.cpp, with all its defaults but the number of threads and flash attention."""

    packages = ("numpy", "gguf", "xllamacpp")
    reads_adapter_files = True

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Takes `library` and `flash_attention`."""
        self._threads, self._flash_attention = threads, str(options.get("flash_attention", "auto"))
        self._library = Library(str(options.get("library", "")))
        return RuntimeFacts(f"{NAME} {self._library.version}")

    def prepare(self, source: str) -> None:
        """Imports the package that writes adapters."""
        import gguf  # noqa: F401

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int) -> LlamaModel:
        """Loads a GGUF file, whose pages all loadings share as far as the library maps them."""
        return LlamaModel(self._library, folder, source, self._threads, self._flash_attention)


class LlamaModel:
    """A model, with a context for each number of positions, which its feeds share."""

    def __init__(self, library: Library, folder: str, source: str, threads: int, flash_attention: str) -> None:
        self._library, self._folder, self._threads, self._flash_attention = library, folder, threads, flash_attention
        self._model = library.model(os.path.join(folder, source))
        self._vocabulary = library.vocabulary(self._model)
        self._contexts: dict[int, int] = {}  # by positions
        self._feeds: dict[int, object] = {}  # by context: the feed whose adapter and cache it has
        weakref.finalize(self, library.free, self._model, self._contexts.values())

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Reads the adapter of a feed, and makes it that of the context.

        Args:
            arguments: `ids`, specification of all tokens, as `filled` takes it; `before`, number of them that are in
                the cache before each call; `adapter`, name of its file, or specification of each of its tensors by
                name, `dtype` included; `architecture` of the adapter.

        Returns:
            The call, which decodes the other tokens; and the return to the position before. If another feed ran since,
            that sets the adapter, copies the cache of this feed, and decodes once: all of it is the cost of a change.
            The first return computes the cache.
        """
        ids, before = filled("ids", arguments["ids"]).astype(np.int32, copy=False), arguments["before"]
        context, library, feed, feeds = self._context(len(ids)), self._library, object(), self._feeds
        adapters = self._adapters(arguments)
        decode = library.decoding(context, ids[before:])
        # One table of logits, which the library overwrites in each call.
        logits = Output(lambda: library.logits(context, self._vocabulary), ids)
        cache: np.ndarray | None = None
        known = False

        def call() -> Output:
            decode()
            return logits

        def change() -> None:
            library.keep(context, 0)
            library.use(context, adapters)

        def restore() -> None:
            nonlocal cache, known
            if feeds.get(context) is not feed:
                change()
                if cache is not None:
                    library.set_cache(context, cache)
                elif before:
                    library.decoding(context, ids[:before])()
                    cache = library.cached(context)
                if known:
                    decode()
                feeds[context], known = feed, True
            library.keep(context, before)

        change()
        feeds.pop(context, None)
        return call, restore

    def nodes(self) -> Mapping[str, int]:
        """One node: the graph is made in each call."""
        return {NAME: 1}

    def _context(self, positions: int) -> int:
        size = -(-positions // STEP) * STEP
        if size not in self._contexts:
            self._contexts[size] = self._library.context(
                self._model, size, threads=self._threads, flash_attention=self._flash_attention
            )
        return self._contexts[size]

    def _adapters(self, arguments: Mapping[str, Any]) -> list[int]:
        """The adapter of a feed, by a file; none if it has none."""
        if not arguments["adapter"]:
            return []
        if isinstance(arguments["adapter"], str):
            return [self._library.adapter(self._model, os.path.join(self._folder, arguments["adapter"]))]
        tensors = {name: filled(name, spec) for name, spec in arguments["adapter"].items()}
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "adapter.gguf")
            write_adapter(file, str(arguments["architecture"]), tensors)
            return [self._library.adapter(self._model, str(file))]


def last_logits(model: str, adapter: str, ids: Sequence[int]) -> np.ndarray:
    """Logits of the last two tokens by the installed library, with one thread. Shape (2, vocabulary).

    Args:
        model: GGUF file.
        adapter: GGUF file of an adapter; empty for none.
        ids: All tokens, of which the last one is decoded with the cache of the others; at least 2.

    Raises:
        RuntimeError: A file cannot be loaded; the message is the library's.
    """
    library, tokens = Library(), np.array(ids, np.int32)
    loaded = library.model(model)
    context = library.context(loaded, len(tokens), threads=1, flash_attention="auto")
    try:
        library.use(context, [library.adapter(loaded, adapter)] if adapter else [])
        found = []
        for some in (tokens[:-1], tokens[-1:]):
            library.decoding(context, some)()
            found.append(library.logits(context, library.vocabulary(loaded)).copy())
        return np.stack(found)
    finally:
        library.free(loaded, [context])


def write_adapter(file: Path, architecture: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a LoRA adapter of llama.cpp.

    With an alpha of 0, the factor on B A x is 1. Any other alpha would be divided by the rank of each site.

    Args:
        file: The new file.
        architecture: `general.architecture` of its base.
        tensors: Values by name, `blk.0.attn_q.weight.lora_a` of shape (rank, in) and `.lora_b` of shape (out, rank).
    """
    import gguf

    writer = gguf.GGUFWriter(file, architecture)
    writer.add_type("adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
