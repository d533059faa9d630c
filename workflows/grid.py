"""Grids of adapters by placement and rank, in every phase and mode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, Programs, Workload, read_peft

ALL = "all"


@dataclass(frozen=True)
class Case:
    """One adapter of the grid.

    Args:
        placement: Kinds of linears, `all`, or the adapter's folder.
        rank: Rank on every site; the largest if they differ.
    """

    placement: str
    rank: int
    config: Configuration

    def on(self, template: Workload) -> Workload:
        """The workload of this adapter; rank 0 opens every site in the graph, and raises `InputError` on some sites."""
        if not self.rank and self.placement != ALL:
            raise InputError("rank 0 stands for a graph with every site open; leave out the placements, or rank 0")
        return replace(template, configuration=self.config, graph="cut" if self.rank else "open")


def grid(shape: ModelShape, ranks: Sequence[int], placements: Sequence[str]) -> list[Case]:
    """Every rank on every placement; rank 0 is a graph with every site open and without adapter."""
    known = list(dict.fromkeys(site.kind for site in shape.sites))
    cases = []
    for placement in placements or [ALL]:
        kinds = () if placement == ALL else [kind.strip() for kind in placement.split(",")]
        if not all(kinds):
            raise InputError(
                f"placements must be names with commas between them, such as q_proj,v_proj or all, not {placement!r}",
                parameter="placements",
            )
        if unknown := sorted(set(kinds) - set(known)):
            raise InputError(
                f"the model has no {', '.join(unknown)}; it has {', '.join(known)}, or all", parameter="placements"
            )
        for rank in ranks:
            paths = [site.path for site in shape.sites if not kinds or site.kind in kinds]
            cases.append(Case(placement, rank, Configuration.of(dict.fromkeys(paths, rank)).on(shape)))
    return cases


def cases_of(shape: ModelShape, folders: Sequence[Path]) -> list[Case]:
    """Adapters of the given folders. Raises `InputError`, also if two of them cost the same by construction."""
    cases: dict[Configuration, Case] = {}
    for folder in folders:
        config = read_peft(folder, shape)
        if config in cases:
            raise InputError(
                f"{str(folder)!r} has the sites and ranks of {cases[config].placement!r}, so it costs the same; "
                "name one of them"
            )
        cases[config] = Case(str(folder), max(config.by_path.values()), config)
    return list(cases.values())


def case_of(shape: ModelShape, folder: Path | None, *, rank: int, placement: str | None) -> Case:
    """The adapter of a folder, or one rank on one placement."""
    (case,) = cases_of(shape, [folder]) if folder else grid(shape, [rank], [ALL if placement is None else placement])
    return case


def phases_of(base: Workload, *, prompts: Sequence[int], pasts: Sequence[int]) -> list[Workload]:
    """The base in prefill for every prompt length, and in decode at every cache length, without duplicates."""
    prefills = [replace(base, phase="prefill", tokens=tokens) for tokens in dict.fromkeys(prompts)]
    return prefills + [replace(base, phase="decode", past=past) for past in dict.fromkeys(pasts)]


def workloads_of(template: Workload, cases: Sequence[Case], programs: Programs) -> dict[Workload, Case]:
    """Workloads of one phase: every case swappable, and the largest of each placement in all other modes too.

    Raises:
        InputError: The runtime does not run one of them.
    """
    by_workload = {case.on(template): case for case in cases}
    ascending = sorted(by_workload.items(), key=lambda pair: pair[1].rank)
    largest = {case.placement: (workload, case) for workload, case in ascending if case.rank}
    for workload, case in largest.values():
        by_workload |= {replace(workload, mode=mode): case for mode in programs.modes(workload)}
    for workload in by_workload:
        programs.check(workload)
    return by_workload
