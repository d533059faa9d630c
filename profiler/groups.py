"""Which candidates are held in memory at once."""

from collections.abc import Sequence

from adaptare.devices import DeviceInfo, InputError
from adaptare.profiler.programs import program_for
from adaptare.profiler.workload import Workload

# A group that is interrupted is lost to the last opening; this bounds the loss.
LARGEST_GROUP = 32


def split_into_groups(
    workloads: Sequence[Workload], *, reference: Workload, device: DeviceInfo, free_bytes: int
) -> list[list[Workload]]:
    """Consecutive groups that fit, with the reference, into half of the free memory.

    Raises:
        InputError: A workload alone does not fit.
    """
    bound = free_bytes // 2
    start = program_for(reference, device).weight_bytes
    groups: list[list[Workload]] = []
    filled = 0
    for workload in workloads:
        own = program_for(workload, device).weight_bytes
        if start + own > bound:
            raise InputError(
                f"a {workload.mode} {workload.scope} needs {(start + own) / 2**20:,.0f} MiB with its base; "
                f"half of the free memory is {bound / 2**20:,.0f} MiB; measure a block or layer, or free memory"
            )
        if not groups or filled + own > bound or len(groups[-1]) == LARGEST_GROUP:
            groups.append([])
            filled = start
        groups[-1].append(workload)
        filled += own
    return groups
