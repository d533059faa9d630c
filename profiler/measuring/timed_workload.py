"""One workload of a group, with its program in the worker and its results."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from adaptare.devices import Loaded, Program
from adaptare.profiler.store.measurement import Visit
from adaptare.profiler.workloads.workload import Workload


@dataclass(eq=False)
class TimedWorkload:
    """A workload with its program in the worker, and its results in this group.

    Args:
        visits: Visits (one turn of the candidate per round) of completed rounds.
        first_visits: First visits of the rounds that had several, of which `visits` has the median ones.
        values: Quantity other than latency -> opening of the probe -> samples of the visit.
        warmup_s: Seconds of the warm-up calls of each opening (one fresh load of all programs).
        calls: Timed calls per visit.
        program: Its program, with its own feed only.
        loaded: Its program in the current worker.
        first_call_s: Seconds of its very first call.
        checked: True once its outputs have been compared.
        part: Part of the candidates with the same program that loads it for itself; empty for all of them together.
        failure: Reason it no longer runs; empty if it runs.
    """

    workload: Workload
    visits: list[Visit] = field(default_factory=list)
    first_visits: list[Visit] = field(default_factory=list)
    values: dict[str, dict[int, tuple[float, ...]]] = field(default_factory=dict)
    warmup_s: list[float] = field(default_factory=list)
    calls: int = 1
    program: Program | None = None
    loaded: Loaded | None = None
    first_call_s: float = 0.0
    checked: bool = False
    part: str = ""
    failure: str = ""

    @property
    def feed(self) -> str:
        """Identifier of its inputs in the worker."""
        return self.workload.hash

    @property
    def outputs(self) -> tuple[float, ...]:
        """Outputs of its first call."""
        return self.loaded.outputs.get(self.feed, ()) if self.loaded else ()


def shared(asked: Sequence[tuple[Program, TimedWorkload]]) -> list[tuple[Program, list[TimedWorkload]]]:
    """Programs that differ only in their feeds, joined into one with all the feeds."""
    sharing: dict[tuple[Program, str], list[tuple[Program, TimedWorkload]]] = {}
    for program, candidate in asked:
        key = replace(program, feeds=()), candidate.part
        sharing.setdefault(key, []).append((program, candidate))
    return [
        (
            replace(together[0][0], feeds=tuple(feed for program, _ in together for feed in program.feeds)),
            [candidate for _, candidate in together],
        )
        for together in sharing.values()
    ]
