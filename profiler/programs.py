"""From workloads to the programs that a device loads."""

import json
from collections.abc import Callable, Mapping

from adaptare.devices import DeviceInfo, Feed, InputError, Program, canonical_json
from adaptare.profiler.workload import BYTES, Workload

TORCH_FACTORY = "adaptare.profiler.torch_programs:build"
TORCH_MODES = ("merged", "swappable")


def program_for(workload: Workload, device: DeviceInfo) -> Program:
    """The program of a workload for the runtime of a device.

    Raises:
        InputError: The runtime is unknown, or does not apply adapters in the workload's mode.
    """
    runtime = device.runtime.split()[0]
    if runtime not in _BUILDERS:
        raise InputError(f"no programs are known for runtime {device.runtime!r}; known are {', '.join(_BUILDERS)}")
    return _BUILDERS[runtime](workload)


def _torch_program(workload: Workload) -> Program:
    if workload.mode not in TORCH_MODES:
        raise InputError(f"torch applies adapters {' or '.join(TORCH_MODES)}, not {workload.mode!r}")
    ranks = workload.adapter.by_path
    arguments = {
        "config": json.loads(workload.shape.config),
        "ranks": {site.path: ranks[site.path] for site in workload.scope_sites if site.path in ranks},
        "mode": workload.mode,
        "scope": workload.scope,
        "site": workload.site,
        "dtype": workload.dtype,
    }
    return Program(
        _name(workload), TORCH_FACTORY, canonical_json(arguments), (_feed(workload),), _weight_bytes(workload)
    )


def _simulated_program(workload: Workload) -> Program:
    arguments = canonical_json(workload.to_json())
    return Program(_name(workload), "simulated", arguments, (_feed(workload),), _weight_bytes(workload))


_BUILDERS: Mapping[str, Callable[[Workload], Program]] = {
    "torch": _torch_program,
    "simulated": _simulated_program,
}


def _name(workload: Workload) -> str:
    return f"{workload.scope} {workload.phase} {workload.mode} {workload.hash}"


def _feed(workload: Workload) -> Feed:
    arguments = {"phase": workload.phase, "batch": workload.batch, "length": workload.length}
    return Feed(workload.phase, canonical_json(arguments), workload.work())


def _weight_bytes(workload: Workload) -> int:
    """What a program adds to a worker that holds the base already; the base itself counts as its weights."""
    width = BYTES[workload.dtype]
    sites = workload.scope_sites
    ranks = workload.adapter.by_path
    if not len(workload.adapter):
        head = workload.shape.vocabulary * workload.shape.hidden if workload.scope == "model" else 0
        return width * (head + sum(site.in_features * site.out_features for site in sites))
    if workload.mode == "merged":
        return width * sum(site.in_features * site.out_features for site in sites if site.path in ranks)
    return width * sum(ranks.get(site.path, 0) * (site.in_features + site.out_features) for site in sites)
