"""Partition of candidates into groups that fit into memory together."""

from collections.abc import Sequence

from adaptare.core import InputError
from adaptare.profiler.programs.builders import Need, Programs
from adaptare.profiler.workloads.workload import Workload

# An interrupted group loses its last opening; this limits the loss.
LARGEST_GROUP = 32


def split_into_groups(
    workloads: Sequence[Workload], *, reference: Workload, programs: Programs, free_bytes: int
) -> list[list[Workload]]:
    """Groups that fit, together with the reference, into half of the free memory.

    Workloads that share a program stay together, because they are comparable only within one opening (one fresh load of
    all programs); otherwise the order is kept.

    Raises:
        InputError: A single workload does not fit, or the runtime does not run it.
    """
    bound = free_bytes // 2
    start = programs.need(reference).total_bytes
    sharing: dict[str, list[tuple[Workload, Need]]] = {}
    for workload in workloads:
        need = programs.need(workload)
        sharing.setdefault(need.program, []).append((workload, need))
        if start + need.total_bytes > bound:
            raise InputError(
                f"a {workload.mode} {workload.scope} needs {(start + need.total_bytes) / 2**20:,.0f} MiB with its "
                f"base; half of the free memory is {bound / 2**20:,.0f} MiB; compose it from stubs, or free "
                "memory",
                parameter="stubs",
            )
    groups: list[list[Workload]] = []
    filled = 0
    for together in sharing.values():
        for part in _parts(together, bound - start):
            size = part[0][1].program_bytes + sum(need.feed_bytes for _, need in part)
            if not groups or filled + size > bound or len(groups[-1]) + len(part) > LARGEST_GROUP:
                groups.append([])
                filled = start
            groups[-1].extend(workload for workload, _ in part)
            filled += size
    return groups


def _parts(together: Sequence[tuple[Workload, Need]], bound: int) -> list[list[tuple[Workload, Need]]]:
    """Workloads of one program, split into as few parts as fit into a group each."""
    parts: list[list[tuple[Workload, Need]]] = []
    filled = 0
    for workload, need in together:
        if not parts or filled + need.feed_bytes > bound or len(parts[-1]) == LARGEST_GROUP:
            parts.append([])
            filled = need.program_bytes
        parts[-1].append((workload, need))
        filled += need.feed_bytes
    return parts
