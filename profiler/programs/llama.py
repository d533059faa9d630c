"""Programs of llama.cpp: one GGUF file for each base, and adapters that are set at run time."""

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.content_hash import Json, content_hash
from adaptare.core.lazy_names import check_installed
from adaptare.devices import DeviceInfo, Program, ProgramFile, program_file
from adaptare.devices.agent.llama_runtime import write_adapter
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.programs.builders import (
    Need,
    Programs,
    check_whole,
    embedding_bytes,
    name_of,
    prompt_feed,
    with_tasks,
)
from adaptare.profiler.programs.gguf_base import TYPES, base_file, check_file, check_writable
from adaptare.profiler.programs.gguf_names import adapter_names, architecture_of
from adaptare.profiler.workloads.sub_adapter import random_adapter
from adaptare.profiler.workloads.workload import BYTES, Mode, Workload

# Tokens that llama.cpp computes at once, for each of which its buffer has room for logits in 32 bits.
AT_ONCE = 512


class LlamaPrograms(Programs):
    """The GGUF file that the device names, or else one of the base of a workload; adapters differ in their feeds.

    A merged model is one more file, so there is no merged reference of each adapter: outputs with an adapter must
    differ from those without.

    Args:
        device: Device that runs them.
        cache: Folder for written files; default: the user's cache folder.
        weights: A model whose weights files of its shape have; others have random ones.
    """

    def __init__(
        self, device: DeviceInfo, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        check_installed("gguf", "torch")
        options = dict(option.split("=", 1) for option in device.options)
        self._given = Path(options["file"]) if "file" in options else None
        self._dtype = options.get("adapter_dtype", "float32")
        self._kept, self._weights = KeptFolders(cache, "gguf"), weights

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """Application modes; the weights of a file that the device names are never written anew."""
        if self._given is not None:
            return ("swappable",)
        return ("swappable", "merged" if workload.quantisation == "none" else "requantised")

    def check(self, workload: Workload) -> None:
        check_whole(workload, "llama.cpp", self.modes(workload))
        architecture_of(workload.shape)
        if self._given is None and workload.quantisation not in ("none", *TYPES):
            raise InputError(f"llama.cpp rounds activations beside 4-bit weights: int4, not {workload.quantisation}")
        if self._given is None:
            check_writable(workload.shape)
            return
        if workload.quantisation != "none" or workload.dtype != "float32":
            raise InputError(f"a GGUF file has the weights that it has; leave {workload.weight_format} out")
        check_file(self._given, workload.shape)

    def need(self, workload: Workload) -> Need:
        self.check(workload)
        buffer = 4 * AT_ONCE * workload.shape.vocabulary
        # The cache has 16 bits, and a copy of it is kept.
        cache = 4 * workload.cache_bytes // BYTES[workload.dtype]
        adapter = workload.adapter_bytes * BYTES[self._dtype] // BYTES[workload.dtype]
        return Need(self._name(workload), self._base_bytes(workload) + buffer, cache + adapter + 8)

    def disk_bytes(self, base: Workload) -> int:
        return self._base_bytes(base)

    def program(self, workload: Workload) -> Program:
        self.check(workload)
        merged = workload.configuration.by_path if workload.in_weights else {}
        brought = self._brought or program_file(
            base_file(self._kept, workload.shape, TYPES[workload.weight_format], weights=self._weights, merged=merged)
        )
        own: dict[str, Json] = {"adapter": self._adapter(workload), "architecture": architecture_of(workload.shape)}
        feeds = (prompt_feed(workload, own),)
        return Program(name_of(workload), brought.name, "{}", feeds, (brought,), self._base_bytes(workload))

    def of_tasks(self, workload: Workload, tasks: int, folder: Path) -> Program:
        """The program with a feed for each of several tasks, whose adapter is read from a file that is written here."""
        program = self.program(workload)
        arguments = json.loads(program.feeds[0].arguments)
        files = [folder / f"task-{task}.gguf" for task in range(tasks)]

        def write(tensors: dict[str, NDArray[Any]], file: Path) -> None:
            write_adapter(file, arguments["architecture"], tensors)

        return with_tasks(program, arguments, arguments["adapter"], files, write)

    def _name(self, workload: Workload) -> str:
        merged = f" {content_hash(workload.configuration.to_json())}" if workload.in_weights else ""
        return str(self._given or f"{workload.shape.hash} {TYPES[workload.weight_format]}{merged}")

    def _base_bytes(self, workload: Workload) -> int:
        return self._given.stat().st_size if self._given else workload.base_bytes + embedding_bytes(workload)

    @cached_property
    def _brought(self) -> ProgramFile | None:
        return program_file(self._given, keep=False) if self._given else None

    def _adapter(self, workload: Workload) -> dict[str, Json]:
        """Specifications of random tensors by name. The order of their rows does not matter."""
        made = dict[str, Json]()
        for path, rank in () if workload.in_weights else workload.configuration.ranks:
            site = workload.shape.site_by_path[path]
            halves = random_adapter(path, rank, site.in_features, site.out_features)
            for name, half in zip(adapter_names(path), halves, strict=True):
                made[name] = replace(half, shape=half.shape[::-1]).spec(self._dtype)
        return made
