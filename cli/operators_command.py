"""`adaptare operators`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adaptare.arguments import (
    DEFAULT_DEVICE,
    BatchOption,
    CacheOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    ModeOption,
)
from adaptare.console import Console, command, milliseconds

if TYPE_CHECKING:
    from adaptare.profiler import Attribution

# Other rows that are less of the profiled call stand in the table together.
DEFAULT_RANK = 16
SHOWN_ROWS = 12
SHOWN_SHARE = 0.005


@dataclass(frozen=True)
class Row:
    """Operators of one kind in one call, without the adapter and with it; shares are of the profiled calls."""

    operator: str
    base_calls: float
    adapted_calls: float
    base_s: float
    adapted_s: float
    base_share: float
    adapted_share: float
    short: bool

    @property
    def difference_s(self) -> float:
        """What the adapter adds."""
        return self.adapted_s - self.base_s


@command
def operators(
    model: ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="The same on every chosen site.", show_default=str(DEFAULT_RANK))
    ] = None,
    sites: Annotated[
        str | None, typer.Option("--sites", help="Kinds of linears, for example q_proj,v_proj.", show_default="all")
    ] = None,
    phase: Annotated[Literal["prefill", "decode"], typer.Option("--phase", help="What to call.")] = "decode",
    length: Annotated[int, typer.Option("--length", help="Tokens in prefill, cached positions in decode.")] = 64,
    batch: BatchOption = 1,
    mode: ModeOption = "swappable",
    device: DeviceOption = DEFAULT_DEVICE,
    calls: Annotated[int, typer.Option("--calls", help="Profiled calls in each of three rounds.", min=1)] = 20,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where the time of a call goes, operator by operator, without an adapter and with it."""
    from adaptare.devices import InputError
    from adaptare.overhead_grid import ALL, cases_of, check_alone, grid
    from adaptare.profiler import Workload, attribute, open_model, programs_for
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    if length < (phase == "prefill"):
        raise InputError(f"--length must be at least 1 in prefill and 0 in decode, not {length}")
    check_alone(adapter, rank=rank is not None, sites=sites)
    target = target_of(device)
    programs = programs_for(target.device.info(), cache=cache)
    shape = open_model(model, cache=cache).shape
    given = DEFAULT_RANK if rank is None else rank
    (case,) = cases_of(shape, [adapter]) if adapter else grid(shape, [given], [ALL if sites is None else sites])
    at = Workload(shape, mode=mode, phase=phase, tokens=length, past=length, batch=batch, **target.weights)
    workload = case.on(at)
    for each in (workload.base, workload):
        programs.need(each)
    console.note("calling with the runtime's profiler and without, by turns")
    base, adapted = attribute([workload.base, workload], device=target.device, programs=programs, calls=calls)
    rows = rows_of(base, adapted)
    console.table(
        f"{model} on {target.name}, {phase} {length}: {case.placement} r{case.rank}, {mode}",
        ["operator", "base calls", "adapter calls", "base ms", "adapter ms", "share", "difference ms"],
        [*_cells(rows, adapted.profiled_s), *_totals(base, adapted)],
    )
    console.say(
        f"the profiler makes a call {base.slowdown:.3g} times as long without adapter, "
        f"{adapted.slowdown:.3g} times with it"
    )
    if short := [row.operator for row in rows if row.short]:
        console.note(
            f"{len(short)} of {len(rows)} kinds of operators (marked ~) take below 50 us each time, much of which may "
            "be the profiler's own: their counts are exact, their times are not; adaptare overhead measures the cost"
        )
    console.result(
        {
            "model": model,
            "device": target.device.info().device,
            **target.weights,
            "phase": phase,
            "length": length,
            "placement": case.placement,
            "sites": len(case.config.ranks),
            "rank": case.rank,
            "mode": mode,
            "base": _summary(base),
            "adapted": _summary(adapted),
            "operators": [{**asdict(row), "difference_s": row.difference_s} for row in rows],
        }
    )


def rows_of(base: "Attribution", adapted: "Attribution") -> list[Row]:
    """One for each kind of operator that either has, the most expensive first."""
    from adaptare.profiler import OperatorCost

    before, after = ({cost.name: cost for cost in each.operators} for each in (base, adapted))
    rows = []
    for name in before | after:
        without, having = (costs.get(name, OperatorCost(name, 0.0, 0.0)) for costs in (before, after))
        shares = without.seconds / base.profiled_s, having.seconds / adapted.profiled_s
        short = without.short or having.short
        rows.append(Row(name, without.calls, having.calls, without.seconds, having.seconds, *shares, short))
    return sorted(rows, key=lambda row: -max(row.base_s, row.adapted_s))


def _summary(attribution: "Attribution") -> dict[str, Any]:
    return {
        "plain_s": attribution.plain_s,
        "profiled_s": attribution.profiled_s,
        "slowdown": attribution.slowdown,
        "outside_s": attribution.outside_s,
        "profiled_calls": len(attribution.attributed),
    }


def _cells(rows: list[Row], whole_s: float) -> list[list[str]]:
    least_s = SHOWN_SHARE * whole_s
    shown = max(SHOWN_ROWS, sum(max(row.adapted_s, row.base_s) >= least_s for row in rows))
    rest = rows[shown:]
    cells = [_line(f"{'~' if row.short else ''}{row.operator}", [row]) for row in rows[:shown]]
    return [*cells, _line(f"{len(rest)} others", rest)] if rest else cells


def _line(title: str, rows: list[Row]) -> list[str]:
    base_s, adapted_s = sum(row.base_s for row in rows), sum(row.adapted_s for row in rows)
    return [
        title,
        f"{sum(row.base_calls for row in rows):.4g}",
        f"{sum(row.adapted_calls for row in rows):.4g}",
        milliseconds(base_s),
        milliseconds(adapted_s),
        f"{sum(row.adapted_share for row in rows):.1%}",
        f"{1e3 * (adapted_s - base_s):+.3f}",
    ]


def _totals(base: "Attribution", adapted: "Attribution") -> list[list[str]]:
    lines = {
        "outside operators": (base.outside_s, adapted.outside_s),
        "total, profiled": (base.profiled_s, adapted.profiled_s),
        "total, not profiled": (base.plain_s, adapted.plain_s),
    }
    return [
        [
            title,
            *("", ""),
            milliseconds(before),
            milliseconds(after),
            "" if title.endswith("not profiled") else f"{after / adapted.profiled_s:.1%}",
            f"{1e3 * (after - before):+.3f}",
        ]
        for title, (before, after) in lines.items()
    ]
