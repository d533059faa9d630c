"""From workloads to the programs that a device loads."""

import functools
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from adaptare.devices import (
    USUAL_CACHE_BYTES,
    DeviceInfo,
    Feed,
    InputError,
    Program,
    ProgramFile,
    canonical_json,
    copies_in_turn,
)
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.programs.torch.weights import TorchWeights, part_of
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.workload import BYTES, Mode, Workload

# Entry points named like a runtime; each is called as `builder(device, cache=…, weights=…)`.
BUILDERS = "adaptare.programs"
TORCH_FACTORY = "adaptare.profiler.programs.torch.programs:build"


@dataclass(frozen=True)
class Need:
    """What a workload takes in the memory of a worker.

    Args:
        program: Workloads of the same program share it; only what they are fed with differs.
        program_bytes: Of the program; where programs share the weights of their base, only what it has beside them.
        feed_bytes: Of what this workload feeds to it: its cache, and its adapter if that is fed.
    """

    program: str
    program_bytes: int
    feed_bytes: int

    @property
    def total_bytes(self) -> int:
        """Of the program with this feed alone."""
        return self.program_bytes + self.feed_bytes


class Programs(Protocol):
    """Builds what one runtime runs for workloads; joined by an entry point in the group `adaptare.programs`."""

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """The ways to apply an adapter that make sense on this base: those that can be swapped first."""
        ...

    def need(self, workload: Workload) -> Need:
        """What it takes in memory. Raises `InputError` if this runtime does not run it; makes no file."""
        ...

    def disk_bytes(self, base: Workload) -> int:
        """What the weights of a base take on the disk, as a user would ship it."""
        ...

    def program(self, workload: Workload) -> Program:
        """The program, with one feed named by the hash of the workload; makes the files that it needs."""
        ...

    def twin(self, workload: Workload) -> Program:
        """Another program of the same function, with the adapter folded into the weights, fed alike."""
        ...


def programs_for(
    device: DeviceInfo, *, cache: str | Path | None = None, weights: ModelSource | None = None
) -> Programs:
    """The builder of programs that is registered for the runtime of a device.

    Args:
        device: Whose runtime it is.
        cache: Folder for exported models; default: the user's cache folder.
        weights: A model, whose weights exported programs then have instead of random ones. Latency does not depend on
            them, but one export is then enough for measuring and for what users take away.

    Raises:
        InputError: No builder is registered for the runtime.
        MissingPackageError: Making its programs needs a package that is not installed.
    """
    builders = _builders()
    if device.runtime_name not in builders:
        known = ", ".join(sorted(builders))
        raise InputError(f"no programs are known for runtime {device.runtime!r}; known are {known}")
    build: Callable[..., Programs] = builders[device.runtime_name].load()
    return build(device, cache=cache, weights=weights)


@functools.cache
def _builders() -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points by the name of their runtime; looking through all installed packages takes a while."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=BUILDERS)}


class TorchPrograms:
    """Modules that a factory builds in the worker from a file of weights, which those of one base share.

    Args:
        device: Runs them; default: one with caches of the usual size.
        cache: Folder for the files; default: the user's cache folder.
        weights: Not used; they are random.
    """

    def __init__(
        self, device: DeviceInfo | None = None, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        self._cache_bytes = device.cache_bytes if device else USUAL_CACHE_BYTES
        self._weights = TorchWeights(cache)

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """See `Programs.modes`."""
        return ("swappable", "merged")

    def need(self, workload: Workload) -> Need:
        """See `Programs.need`."""
        workload.shape.check_positions(workload.positions)
        if workload.mode not in self.modes(workload):
            raise InputError(f"torch applies adapters {' or '.join(self.modes(workload))}, not {workload.mode!r}")
        if workload.graph == "open":
            raise InputError("torch has no adapters of rank 0, so no graph with every site open; use an ort device")
        if workload.quantisation != "none":
            raise InputError(f"torch times bases of full precision, not {workload.quantisation}; use an ort device")
        name = f"{self._arguments(workload)}{copies_name(workload)}"
        whole = workload.configuration == Configuration()
        held = own_bytes(workload) + (embedding_bytes(workload) if whole else 0)
        return Need(name, held + copies_bytes(workload, self._cache_bytes), cache_bytes(workload))

    def disk_bytes(self, base: Workload) -> int:
        """See `Programs.disk_bytes`."""
        return base_bytes(base) + embedding_bytes(base)

    def program(self, workload: Workload) -> Program:
        """See `Programs.program`."""
        self.need(workload)
        return Program(
            name_of(workload),
            TORCH_FACTORY,
            self._arguments(workload),
            (_feed(workload),),
            self._files(workload),
            own_bytes(workload),
            *turn_of(workload),
        )

    def twin(self, workload: Workload) -> Program:
        """See `Programs.twin`."""
        return replace(self.program(workload.merged), feeds=(_feed(workload),))

    def _files(self, workload: Workload) -> tuple[ProgramFile, ...]:
        ranks = _running(workload) if workload.mode == "merged" else {}
        config, merged = part_of(json.loads(workload.shape.config), ranks, scope=workload.scope, site=workload.site)
        widths = loaded_widths(workload) if merged else {}
        return self._weights.files(
            config, merged, widths=widths, kind=workload.configuration.kind, dtype=workload.dtype
        )

    def _arguments(self, workload: Workload) -> str:
        widths = {str(layer): width for layer, width in loaded_widths(workload).items()}
        return canonical_json(
            {
                **({"widths": widths} if widths else {}),
                "config": json.loads(workload.shape.config),
                "ranks": _running(workload),
                "kind": workload.configuration.kind,
                "mode": workload.mode,
                "scope": workload.scope,
                "site": workload.site,
                "dtype": workload.dtype,
            }
        )


class SimulatedPrograms:
    """Programs that are their workload in words; every mode and base goes.

    Args:
        device: Runs them; default: one with caches of the usual size.
        cache: Not used; no file is made.
        weights: Not used; they are random.
    """

    def __init__(
        self, device: DeviceInfo | None = None, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        self._cache_bytes = device.cache_bytes if device else USUAL_CACHE_BYTES

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """See `Programs.modes`."""
        return ("swappable", "merged")

    def need(self, workload: Workload) -> Need:
        """See `Programs.need`."""
        workload.shape.check_positions(workload.positions)
        return Need(workload.hash, own_bytes(workload), cache_bytes(workload))

    def disk_bytes(self, base: Workload) -> int:
        """See `Programs.disk_bytes`."""
        return base_bytes(base) + embedding_bytes(base)

    def program(self, workload: Workload) -> Program:
        """See `Programs.program`."""
        arguments = canonical_json(workload.to_json())
        size = own_bytes(workload)
        return Program(name_of(workload), "simulated", arguments, (_feed(workload),), (), size, *turn_of(workload))

    def twin(self, workload: Workload) -> Program:
        """See `Programs.twin`."""
        return self.program(workload.merged)


def name_of(workload: Workload) -> str:
    """What to call the program of a workload."""
    return f"{workload.scope} {workload.phase} {workload.mode} {workload.hash}"


def _running(workload: Workload) -> dict[str, int]:
    """Ranks of the adapted linears that run in the scope."""
    ranks = workload.configuration.by_path
    return {site.path: ranks[site.path] for site in workload.scope_sites if site.path in ranks}


def _feed(workload: Workload) -> Feed:
    arguments = {"phase": workload.phase, "batch": workload.batch, "length": workload.length}
    return Feed(workload.hash, canonical_json(arguments), workload.work())


def is_cold(workload: Workload) -> bool:
    """Whether its program is to find the caches as the rest of the model leaves them."""
    return workload.scope != "model" and workload.caches == "cold"


def turn_of(workload: Workload) -> tuple[int, int]:
    """Bytes that a call of a cold part moves, and the rest of the model until the next one; (0, 0) for all others.

    Without adapter, so that a part is called in turn with as many copies whatever it carries.
    """
    if not is_cold(workload):
        return 0, 0
    own, whole = (each.base.work().moved_bytes for each in (workload, replace(workload, scope="model", site="")))
    return own, whole - own


def copies_name(workload: Workload) -> str:
    """What tells a cold program from a hot one, and from one that is called in turn with other copies."""
    return " {}+{}".format(*turn_of(workload)) if is_cold(workload) else ""


def copies_bytes(workload: Workload, last_level_bytes: int) -> int:
    """Bytes of the copies that are called in turn with a cold program, on a device with caches of this size."""
    return (copies_in_turn(*turn_of(workload), last_level_bytes) - 1) * base_bytes(workload)


def base_bytes(workload: Workload) -> int:
    """Bytes of the weights that every call of the base reads: those of its linears and of its head."""
    shape, sites = workload.shape, workload.scope_sites
    head = shape.vocabulary * shape.hidden if workload.has_head else 0
    return int(workload.base_weight_bytes * (head + sum(site.in_features * site.out_features for site in sites)))


def embedding_bytes(workload: Workload) -> int:
    """Bytes of embeddings that are not those of the head, of which a call reads a row for each token.

    A quantised head is a copy of its own, beside embeddings that are never quantised.
    """
    shape = workload.shape
    own = workload.has_head and not (shape.tied and workload.quantisation == "none")
    return BYTES[workload.dtype] * shape.vocabulary * shape.hidden if own else 0


def memory_bytes(workload: Workload) -> int:
    """Bytes of what one call needs at least: the weights of the base, the adapter as it is applied, and the cache."""
    return base_bytes(workload) + embedding_bytes(workload) + adapter_bytes(workload) + cache_bytes(workload)


def adapter_bytes(workload: Workload) -> int:
    """Bytes of the adapter beside the weights of the base, as it is applied."""
    configuration = workload.configuration
    ranks = {site.path: configuration.by_path.get(site.path, 0) for site in workload.scope_sites}
    if workload.in_weights or not any(ranks.values()):
        return 0
    if workload.mode == "padded":
        ranks = {path: max(ranks.values()) if rank else 0 for path, rank in ranks.items()}
    here = Configuration.of(ranks, widths=configuration.by_layer, kind=configuration.kind)
    return BYTES[workload.dtype] * here.adapter_parameters(workload.shape)


def cache_bytes(workload: Workload) -> int:
    """Bytes of the keys and values of one call: those it finds and those it adds."""
    shape = workload.shape
    positions = workload.past + 1 if workload.phase == "decode" else workload.tokens
    return BYTES[workload.dtype] * 2 * workload.layers * workload.batch * positions * shape.kv_heads * shape.head_dim


def own_bytes(workload: Workload) -> int:
    """Incremental bytes once the base is loaded: the adapter, and the linears that are merged into or narrowed.

    The base itself counts whole.
    """
    if workload.configuration == Configuration():
        return base_bytes(workload)
    ranks = workload.configuration.by_path if workload.mode == "merged" else {}
    usual = workload.shape.site_by_path
    rewritten = [site for site in workload.scope_sites if site.path in ranks or site != usual[site.path]]
    weights = BYTES[workload.dtype] * sum(site.in_features * site.out_features for site in rewritten)
    return weights + adapter_bytes(workload)


def loaded_widths(workload: Workload) -> dict[int, int]:
    """Layer -> intermediate size of the narrower layers of what is loaded: where not all are, the only one is 0."""
    widths = workload.configuration.by_layer
    if workload.scope == "model":
        return dict(widths)
    narrower = [site for site in workload.scope_sites if site != workload.shape.site_by_path[site.path]]
    return {0: widths[narrower[0].layer]} if narrower else {}
