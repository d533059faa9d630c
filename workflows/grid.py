"""Grids of adapters by placement and rank, in every phase and mode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.extensions import nearest
from adaptare.profiler import Configuration, ModelShape, Programs, Workload, read_peft
from adaptare.profiler.programs import read_adapter_file

ALL = "all"
ADAPTER_SUFFIX = ".onnx_adapter"


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


def cases_of(
    shape: ModelShape, folders: Sequence[Path], *, ranks: Sequence[int], placements: Sequence[str]
) -> list[Case]:
    """Adapters of the given folders; without any, every rank on every placement.

    Rank 0 is a graph with every site open and without adapter.

    Raises:
        InputError: A folder or a placement does not fit the base, or two adapters cost the same by construction.
    """
    cases: dict[Configuration, Case] = {}
    for folder in folders:
        is_file = folder.suffix == ADAPTER_SUFFIX
        config = read_adapter_file(folder, shape) if is_file else read_peft(folder, shape)
        if config in cases:
            raise InputError(
                f"{str(folder)!r} has the sites and ranks of {cases[config].placement!r}, so it costs the same; "
                "name one of them"
            )
        cases[config] = Case(str(folder), max(config.by_path.values()), config)
    if folders:
        return list(cases.values())
    sites = {placement: _sites(shape, placement) for placement in placements or [ALL]}
    return [
        Case(placement, rank, Configuration.of(dict.fromkeys(paths, rank)).on(shape))
        for placement, paths in sites.items()
        for rank in ranks
    ]


def _sites(shape: ModelShape, placement: str) -> list[str]:
    """Module paths of the linears of a placement."""
    known = list(dict.fromkeys(site.kind for site in shape.sites))
    kinds = known if placement == ALL else [kind.strip() for kind in placement.split(",")]
    if not all(kinds):
        raise InputError(
            f"placements must be names with commas between them, such as q_proj,v_proj or all, not {placement!r}",
            parameter="placements",
        )
    if unknown := sorted(set(kinds) - set(known)):
        near = nearest(unknown[0], known)
        raise InputError(
            f"the model has no {', '.join(unknown)}; it has {', '.join(known)}, or all{near}", parameter="placements"
        )
    return [site.path for site in shape.sites if site.kind in kinds]


def workloads_of(
    base: Workload, cases: Sequence[Case], programs: Programs, *, prompts: Sequence[int], pasts: Sequence[int]
) -> list[dict[Workload, Case]]:
    """Workloads of each phase: prefill for every prompt length, and decode at every cache length.

    In each of them every case is swappable, and the largest of each placement has all other modes too.

    Raises:
        InputError: The runtime does not run one of them.
    """
    templates = [replace(base, phase="prefill", tokens=tokens) for tokens in dict.fromkeys(prompts)]
    templates += [replace(base, phase="decode", past=past) for past in dict.fromkeys(pasts)]
    largest = {case.placement: case for case in sorted(cases, key=lambda case: case.rank) if case.rank}
    phases = []
    for template in templates:
        workloads = {case.on(template): case for case in cases}
        for case in largest.values():
            workload = case.on(template)
            workloads |= {replace(workload, mode=mode): case for mode in programs.modes(workload)}
        for workload in workloads:
            programs.check(workload)
        phases.append(workloads)
    return phases
