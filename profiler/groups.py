"""Which candidates are held in memory at once."""

from collections.abc import Sequence

from adaptare.devices import InputError
from adaptare.profiler.programs import Need, Programs
from adaptare.profiler.workload import Workload

# A group that is interrupted is lost to the last opening; this bounds the loss.
LARGEST_GROUP = 32


def split_into_groups(
    workloads: Sequence[Workload], *, reference: Workload, programs: Programs, free_bytes: int
) -> list[list[Workload]]:
    """Groups that fit, with the reference, into half of the free memory.

    Workloads that share a program stay together, because they are comparable within one opening only; otherwise
    they keep their order.

    Raises:
        InputError: A workload alone does not fit, or the runtime does not run it.
    """
    bound = free_bytes // 2
    start = programs.need(reference).program_bytes
    sharing: dict[str, list[Workload]] = {}
    needs: dict[str, Need] = {}
    for workload in workloads:
        need = programs.need(workload)
        needs[need.program] = need
        sharing.setdefault(need.program, []).append(workload)
        if start + need.program_bytes > bound:
            raise InputError(
                f"a {workload.mode} {workload.scope} needs {(start + need.program_bytes) / 2**20:,.0f} MiB with its "
                f"base; half of the free memory is {bound / 2**20:,.0f} MiB; measure a block or layer, or free memory"
            )
    groups: list[list[Workload]] = []
    filled = 0
    for program, together in sharing.items():
        own = needs[program].program_bytes
        for start_at in range(0, len(together), LARGEST_GROUP):
            some = together[start_at : start_at + LARGEST_GROUP]
            if not groups or filled + own > bound or len(groups[-1]) + len(some) > LARGEST_GROUP:
                groups.append([])
                filled = start
            groups[-1].extend(some)
            filled += own
    return groups
