"""Builders that turn workloads into the programs that a device loads."""

import importlib.metadata
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.content_hash import Json, canonical_json, content_hash
from adaptare.core.extensions import extension
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.devices import DeviceInfo, Feed, Program, ProgramFile, program_file
from adaptare.devices.agent.feeds import filled
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.shape import part_of
from adaptare.profiler.workloads.workload import BYTES, Mode, Workload

# Entry points are named after their runtime; each is called as `builder(device, cache=…, weights=…)`.
BUILDERS = "adaptare.programs"
TORCH_FACTORY = "adaptare.profiler.programs.torch.programs:build"
# Options of torch devices that prepare a program for many calls.
PREPARED = {"compile=yes", "graphs=yes"}
EXACT = "float32"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Files of an older layout are regenerated.
LAYOUT = 1


@dataclass(frozen=True)
class Need:
    """Memory that a worker needs for one workload.

    Args:
        program: Identifies the loaded program; workloads that differ only in their inputs share it.
        program_bytes: Incremental bytes of the program; excludes base weights that are already loaded.
        feed_bytes: Bytes of its inputs: KV cache, and the adapter if it is passed at run time.
    """

    program: str
    program_bytes: int
    feed_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of the program with this workload's inputs only."""
        return self.program_bytes + self.feed_bytes


class Programs(Protocol):
    """Builds the programs of one runtime; registered as an entry point in the group `adaptare.programs`.

    A class that derives from it has the methods with a body unless it defines its own.
    """

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """Application modes that this base supports, those with a swappable adapter first."""
        ...

    def check(self, workload: Workload) -> None:
        """Raises `InputError` if this runtime does not run the workload; writes no file."""
        ...

    def need(self, workload: Workload) -> Need:
        """Memory estimate; checks the workload too, and writes no file."""
        ...

    def disk_bytes(self, base: Workload) -> int:
        """Bytes on disk of the weights of a base, as a user would ship them; default: linears, head and embedding."""
        return base.base_bytes + embedding_bytes(base)

    def program(self, workload: Workload) -> Program:
        """The program, with one feed named by the hash of the workload; writes the files that it needs."""
        ...

    def merged_reference(self, workload: Workload) -> Program:
        """Merged reference: a program of the same function and inputs, with the adapter merged into the weights.

        Default: the program itself, which is then compared with its base only.
        """
        return self.program(workload)

    def unrounded(self, workload: Workload) -> Program:
        """The program, computed without the rounding of activations by fast kernels; it is compared, never timed.

        Default: the program itself, of a runtime that rounds none.
        """
        return self.program(workload)


@runtime_checkable
class TaskPrograms(Programs, Protocol):
    """A builder for runtimes that read an adapter from a file of its own."""

    def of_tasks(self, workload: Workload, tasks: int, folder: Path) -> Program:
        """The program with a feed for each task, whose adapter is read from a file that is written to the folder."""
        ...


def check_whole(workload: Workload, runtime: str, modes: Sequence[Mode], *, open_graphs: bool = False) -> None:
    """Raises `InputError` for a workload that a runtime of whole models does not run."""
    workload.shape.check_positions(workload.positions)
    config = workload.configuration
    if workload.scope != "model" or workload.batch != 1:
        raise InputError(f"{runtime} is timed with a whole model, one sequence at a time")
    if config.cuts_base or config.kind != "lora" or (workload.graph == "open" and not open_graphs):
        ranks = "" if open_graphs else " of rank 1 or more"
        raise InputError(f"{runtime} is timed with complete models, and LoRA{ranks}")
    if config.ranks and workload.mode not in modes:
        known = " or ".join(modes)
        raise InputError(f"{runtime} applies adapters of this base {known}, not {workload.mode}; choose another mode")


def programs_for(
    device: DeviceInfo, *, cache: str | Path | None = None, weights: ModelSource | None = None
) -> Programs:
    """The program builder registered for the runtime of a device.

    Args:
        device: Device whose runtime selects the builder.
        cache: Folder for exported models; default: the user's cache folder.
        weights: A model whose weights replace the random ones of exported programs. Latency does not depend on them,
            but one export then serves both measuring and deployment.

    Raises:
        InputError: No builder is registered for the runtime.
        MissingPackageError: Building programs needs a package that is not installed.
    """
    build: Callable[..., Programs] = extension(BUILDERS, device.runtime_name, kind="runtime")
    return build(device, cache=cache, weights=weights)


class TorchPrograms(Programs):
    """Modules built in the worker by a factory, from a weights file shared by all programs of one base.

    Files are loaded like a user's checkpoint: mapped, not created in memory. Weights in memory-mapped pages are read a
    few per cent slower than those in memory allocated by the process (`benchmarks/stock_process.py` compares with
    processes that load a checkpoint).

    Args:
        device: Device that runs them; default: one with caches of the usual size.
        cache: Folder for the files; default: the user's cache folder.
        weights: Not used; weights are random.
    """

    def __init__(
        self, device: DeviceInfo | None = None, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        self._cache_bytes = device.cache_bytes if device else DeviceInfo.cache_bytes
        self._is_eager = not device or PREPARED.isdisjoint(device.options)
        self._kept = KeptFolders(cache, "torch")

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        return ("swappable", "merged")

    def check(self, workload: Workload) -> None:
        workload.shape.check_positions(workload.positions)
        if workload.mode not in self.modes(workload):
            raise InputError(f"torch applies adapters {' or '.join(self.modes(workload))}, not {workload.mode!r}")
        if workload.graph == "open":
            raise InputError("torch has no adapters of rank 0, so no graph with every site open; use an ort device")
        if workload.quantisation != "none":
            raise InputError(f"torch times bases of full precision, not {workload.quantisation}; use an ort device")

    def need(self, workload: Workload) -> Need:
        self.check(workload)
        name = f"{self._arguments(workload)}{copies_name(workload)}"
        whole = workload.configuration == Configuration()
        held = own_bytes(workload) + (embedding_bytes(workload) if whole else 0)
        return Need(name, held + copies_bytes(workload, self._cache_bytes), workload.cache_bytes)

    def program(self, workload: Workload) -> Program:
        self.check(workload)
        return Program(
            name_of(workload),
            TORCH_FACTORY,
            self._arguments(workload),
            (_feed(workload),),
            self._files(workload),
            own_bytes(workload),
            *cache_traffic(workload),
        )

    def merged_reference(self, workload: Workload) -> Program:
        """Reference with the same weights, computed in 32 bits if they have 16; neither compiled nor captured."""
        merged = replace(self.program(workload.merged), feeds=(_feed(workload),))
        rounded = workload.dtype != EXACT
        if self._is_eager and not rounded:
            return merged
        exact: dict[str, Json] = {"dtype": EXACT, "rounded": workload.dtype} if rounded else {}
        arguments = canonical_json({**json.loads(merged.arguments), **exact, "prepared": False})
        files = self._files(replace(workload, mode="swappable")) if rounded else merged.files
        return replace(merged, arguments=arguments, files=files)

    def _files(self, workload: Workload) -> tuple[ProgramFile, ...]:
        """Config and random weights of the base, or of one with the adapter merged into the part that it applies to."""
        ranks = _running(workload) if workload.mode == "merged" else {}
        config, merged = part_of(json.loads(workload.shape.config), ranks, scope=workload.scope)
        parts, kind, dtype = workload.parts if merged else {}, workload.configuration.kind, workload.dtype
        versions = [importlib.metadata.version(name) for name in ("torch", "transformers")]
        narrow: list[Json] = [{path: part.to_json() for path, part in parts.items()}] if parts else []
        key = content_hash([LAYOUT, *versions, config, dict(merged), kind if merged else "", dtype, *narrow])

        def write(fresh: Path) -> None:
            from adaptare.profiler.models.model_cache import without_bars
            from adaptare.profiler.models.random_model import random_model
            from adaptare.profiler.programs.torch.cut import merge, narrowed, random_sub_adapter

            model = random_model(config, dtype=dtype)
            adapter = random_sub_adapter(narrowed(model, parts), merged, kind)
            merge(model, adapter.halves, kind=kind, parts=parts)
            with without_bars():
                model.save_pretrained(fresh)
            # Written unchanged, independent of how this version of transformers normalises it.
            (fresh / CONFIG).write_text(json.dumps(dict(config)), encoding="utf-8")

        return tuple(map(program_file, self._kept.files(self._kept.root / key, (CONFIG, WEIGHTS), write)))

    def _arguments(self, workload: Workload) -> str:
        parts: dict[str, Json] = {path: part.to_json() for path, part in workload.parts.items()}
        left_out: list[Json] = list(workload.configuration.left_out)
        return canonical_json(
            {
                **({"parts": parts} if parts else {}),
                **({"left_out": left_out} if left_out else {}),
                "config": json.loads(workload.shape.config),
                "ranks": _running(workload),
                "kind": workload.configuration.kind,
                "mode": workload.mode,
                "scope": workload.scope,
                "dtype": workload.dtype,
            }
        )


class SimulatedPrograms(Programs):
    """Programs that consist of a description of their workload; all modes and bases are supported.

    Args:
        device: Not used; all are alike.
        cache: Not used; no file is made.
        weights: Not used; weights are random.
    """

    def __init__(
        self, device: DeviceInfo | None = None, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        """Nothing to prepare."""

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        return ("swappable", "merged")

    def check(self, workload: Workload) -> None:
        workload.shape.check_positions(workload.positions)

    def need(self, workload: Workload) -> Need:
        self.check(workload)
        return Need(workload.hash, own_bytes(workload), workload.cache_bytes)

    def program(self, workload: Workload) -> Program:
        arguments = canonical_json(workload.to_json())
        held = memory_bytes(workload) - workload.cache_bytes
        return Program(
            name_of(workload), "simulated", arguments, (_feed(workload),), (), held, *cache_traffic(workload)
        )

    def merged_reference(self, workload: Workload) -> Program:
        return replace(self.program(workload.merged), feeds=(_feed(workload),))


def name_of(workload: Workload) -> str:
    """Name of the program of a workload."""
    return f"{workload.scope} {workload.phase} {workload.mode} {workload.hash}"


def _running(workload: Workload) -> dict[str, int]:
    """Ranks of the adapted linears in the scope."""
    ranks = workload.configuration.by_path
    return {site.path: ranks[site.path] for site in workload.scope_sites if site.path in ranks}


def _feed(workload: Workload) -> Feed:
    arguments = {"phase": workload.phase, "batch": workload.batch, "length": workload.length}
    return Feed(workload.hash, canonical_json(arguments), workload.work())


def prompt_feed(workload: Workload, own: Mapping[str, Json]) -> Feed:
    """Feed of a runtime that keeps its cache itself, with further arguments of its `own`.

    `ids` specifies all tokens, and `before` is the number of those that are not timed.
    """
    before, new = (workload.past, 1) if workload.phase == "decode" else (0, workload.tokens)
    vocabulary = workload.shape.vocabulary
    ids: Json = {"dtype": "int32", "shape": [before + new], "integers": vocabulary, "seed": zlib.crc32(b"ids")}
    return Feed(workload.hash, canonical_json({"ids": ids, "before": before, **own}), workload.work())


def with_tasks(
    program: Program,
    arguments: Mapping[str, Json],
    adapter: Mapping[str, Any],
    files: Sequence[Path],
    write: Callable[[dict[str, NDArray[Any]], Path], None],
) -> Program:
    """A program with a feed for each task, whose adapter, specified by its tensors, is read from a new file."""
    tensors, feeds = {name: filled(name, spec) for name, spec in adapter.items()}, list[Feed]()
    for task, file in enumerate(files):
        # The content differs, so that no task finds that of another in the page cache.
        write({name: values * values.dtype.type(1 + task) for name, values in tensors.items()}, file)
        (feed,), own = program.feeds, canonical_json({**arguments, "adapter": file.name})
        feeds.append(replace(feed, name=f"{feed.name}-{task}", arguments=own))
    return replace(program, feeds=tuple(feeds), files=(*program.files, *map(program_file, files)))


def cache_traffic(workload: Workload) -> tuple[int, int]:
    """Bytes moved by a call of a cold part, and by the rest of the model before its next call; (0, 0) otherwise.

    Adapters are excluded, so that the number of copies called in turn is the same for any adapter.
    """
    if workload.scope == "model" or workload.caches != "cold":
        return 0, 0
    own, whole = (part.base.work().moved_bytes for part in (workload, replace(workload, scope="model")))
    return own, whole - own


def copies_name(workload: Workload) -> str:
    """Name suffix that separates cold from hot programs, and programs with different numbers of copies."""
    traffic = cache_traffic(workload)
    return " {}+{}".format(*traffic) if any(traffic) else ""


def copies_bytes(workload: Workload, last_level_bytes: int) -> int:
    """Bytes of the copies called in turn with a cold program, on a device with last-level caches of this size."""
    return (Program.copies_in_turn(*cache_traffic(workload), last_level_bytes) - 1) * workload.base_bytes


def embedding_bytes(workload: Workload) -> int:
    """Bytes of embeddings that are not shared with the head; a call reads one row of them per token.

    A quantised head is a separate copy, unless the embeddings are quantised with it.
    """
    shape, weights = workload.shape, QUANTISATIONS[workload.quantisation]
    own = workload.has_head and not (shape.tied and (not weights.bits or weights.rounds_embedding(shape.hidden)))
    return BYTES[workload.dtype] * shape.vocabulary * shape.hidden if own else 0


def memory_bytes(workload: Workload) -> int:
    """Minimum bytes for one call: base weights, the adapter in its application mode, and the KV cache."""
    return workload.base_bytes + embedding_bytes(workload) + workload.adapter_bytes + workload.cache_bytes


def own_bytes(workload: Workload) -> int:
    """Bytes added to a loaded base: adapter weights, and the linears rewritten by merging or narrowing.

    For the base itself, its whole size.
    """
    if workload.configuration == Configuration():
        return workload.base_bytes
    ranks = workload.configuration.by_path if workload.mode == "merged" else {}
    usual = workload.shape.site_by_path
    rewritten = [site for site in workload.scope_sites if site.path in ranks or site != usual[site.path]]
    weights = BYTES[workload.dtype] * sum(site.in_features * site.out_features for site in rewritten)
    return weights + workload.adapter_bytes
