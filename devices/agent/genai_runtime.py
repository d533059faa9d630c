"""Programs that are folders of onnxruntime-genai, run by its generator."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from adaptare.devices.agent.feeds import filled
from adaptare.devices.agent.ort_runtime import write_adapter
from adaptare.devices.agent.runtime import Bound, Output, RuntimeFacts

PACKAGE, NAME = "onnxruntime-genai", "onnxruntime_genai"
ADAPTER = "adapter"


class GenaiRuntime:
    """Runtime of onnxruntime-genai. Settings are those of the folder, but for the threads inside one operator."""

    packages = ("numpy", "onnxruntime", PACKAGE)

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Takes no options."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        self._threads = threads
        try:
            return RuntimeFacts(f"{NAME} {metadata.version(PACKAGE)}")
        except metadata.PackageNotFoundError as error:
            raise ModuleNotFoundError(f"{PACKAGE} is not installed", name=NAME) from error

    def prepare(self, source: str) -> None:
        """Imports the library."""
        import onnxruntime  # noqa: F401
        import onnxruntime_genai  # noqa: F401

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> GenaiModel:
        """Loads the model of a folder; every loading has weights of its own."""
        import onnxruntime_genai as og

        config = og.Config(folder)
        session = {"session_options": {"intra_op_num_threads": self._threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        return GenaiModel(og.Model(config))


class GenaiModel:
    """A model, with a generator of its own for each feed."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Prepares a generator.

        Args:
            arguments: `ids`, specification of all tokens, as `filled` takes it; `before`, number of them that are in
                the cache before each call; `adapter`, specification of each of its tensors, by the name of its input.

        Returns:
            The call, which appends the other tokens and computes logits; and the return to the position before.
        """
        import onnxruntime_genai as og

        ids, before = filled("ids", arguments["ids"]), arguments["before"]
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=len(ids) + 1, do_sample=False)
        generator = og.Generator(self._model, parameters)
        kept = self._activate(generator, arguments.get("adapter", {}))
        if before:
            generator.append_tokens(ids[:before])
        tokens, append = ids[before:], generator.append_tokens
        logits = Output(lambda: generator.get_logits()[:, -1], kept)

        def call() -> Output:
            append(tokens)
            return logits

        def restore() -> None:
            if generator.token_count() > before:
                generator.rewind_to(before)

        return call, restore

    def _activate(self, generator: Any, adapter: Mapping[str, Any]) -> Any:
        """Gives a generator an adapter, by a file. Returns what must be kept while it runs."""
        import onnxruntime_genai as og

        if not adapter:
            return None
        place = tempfile.TemporaryDirectory()
        file = os.path.join(place.name, ADAPTER)
        write_adapter(file, {name: filled(name, spec) for name, spec in adapter.items()})
        adapters = og.Adapters(self._model)
        adapters.load(file, ADAPTER)
        if os.name == "posix":  # the content stays as long as the library maps it; a fork ends without finalizers
            place.cleanup()
        generator.set_active_adapter(adapters, ADAPTER)
        return adapters, place

    def nodes(self) -> Mapping[str, int]:
        """One node: the library tells nothing of the graph."""
        return {NAME: 1}
