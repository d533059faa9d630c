"""Operators of a call with and without an adapter, timed by the runtime's profiler."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from adaptare.core import ProgramError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import milliseconds
from adaptare.profiler import Programs, Workload
from adaptare.profiler.measuring.attribution import Attribution, OperatorCost, attributions
from adaptare.profiler.measuring.probes import Operators
from adaptare.profiler.measuring.session import Session
from adaptare.workflows.grid import Case
from adaptare.workflows.target import Target

# Operators beyond these rows and below this share of the profiled call are summed in one row.
SHOWN_ROWS = 12
SHOWN_SHARE = 0.005


@dataclass(frozen=True)
class OperatorRow:
    """Operators of one type in one call, with and without the adapter; shares refer to the profiled calls."""

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
        """Seconds that the adapter adds."""
        return self.adapted_s - self.base_s

    def to_json(self) -> dict[str, Any]:
        """All fields, and the difference."""
        return {**asdict(self), "difference_s": self.difference_s}


@dataclass(frozen=True)
class Line:
    """One table line: an operator, a sum of several, or a total, which has no number of calls."""

    title: str
    base_s: float
    adapted_s: float
    share: float | None
    base_calls: float | None = None
    adapted_calls: float | None = None

    @classmethod
    def of(cls, title: str, rows: Sequence[OperatorRow]) -> "Line":
        """Sum of some rows."""
        names = ("base_s", "adapted_s", "adapted_share", "base_calls", "adapted_calls")
        return cls(title, *(sum(getattr(row, name) for row in rows) for name in names))


COLUMNS: Final[tuple[Column[Line], ...]] = (
    Column("operator", lambda line: line.title),
    Column("base calls", lambda line: "" if line.base_calls is None else f"{line.base_calls:.4g}", 2),
    Column("adapter calls", lambda line: "" if line.adapted_calls is None else f"{line.adapted_calls:.4g}", 1),
    Column("base ms", lambda line: milliseconds(line.base_s)),
    Column("adapter ms", lambda line: milliseconds(line.adapted_s)),
    Column("share", lambda line: "" if line.share is None else f"{line.share:.1%}", 3),
    Column("difference ms", lambda line: f"{1e3 * (line.adapted_s - line.base_s):+.3f}"),
)


@dataclass(frozen=True)
class OperatorsReport:
    """Result of `report_operators`: profiled calls of the base and of the model with the adapter."""

    model: str
    target: Target
    case: Case
    workload: Workload
    base: Attribution
    adapted: Attribution
    exit_code: ExitCode = ExitCode.DONE

    @property
    def rows(self) -> list[OperatorRow]:
        """One row per operator type of either model, most expensive first."""
        before, after = ({cost.name: cost for cost in part.operators} for part in (self.base, self.adapted))
        rows = []
        for name in before | after:
            without, having = (costs.get(name, OperatorCost(name, 0.0, 0.0)) for costs in (before, after))
            shares = without.seconds / self.base.profiled_s, having.seconds / self.adapted.profiled_s
            short = without.short or having.short
            rows.append(OperatorRow(name, without.calls, having.calls, without.seconds, having.seconds, *shares, short))
        return sorted(rows, key=lambda row: -max(row.base_s, row.adapted_s))

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        rows, workload, base, adapted = self.rows, self.workload, self.base, self.adapted
        yield Table(
            f"{self.model} on {self.target.name}, {workload.phase} {workload.length}: {self.case.placement} "
            f"r{self.case.rank}, {workload.mode}",
            COLUMNS,
            [*self._lines(rows), *self._totals()],
        )
        yield (
            f"the profiler makes a call {base.slowdown:.3g} times as long without adapter, "
            f"{adapted.slowdown:.3g} times with it"
        )
        if short := sum(row.short for row in rows):
            yield Note(
                f"{short} of {len(rows)} kinds of operators (marked ~) take below 50 us each time, much of which may "
                "be the profiler's own: their counts are exact, their times are not; adaptare overhead measures the "
                "cost"
            )

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        workload = self.workload
        return {
            "model": self.model,
            **self.target.place,
            "phase": workload.phase,
            "length": workload.length,
            "placement": self.case.placement,
            "sites": len(self.case.config.ranks),
            "rank": self.case.rank,
            "mode": workload.mode,
            "base": _summary(self.base),
            "adapted": _summary(self.adapted),
            "operators": [row.to_json() for row in self.rows],
        }

    def _lines(self, rows: Sequence[OperatorRow]) -> list[Line]:
        least_s = SHOWN_SHARE * self.adapted.profiled_s
        shown = max(SHOWN_ROWS, sum(max(row.adapted_s, row.base_s) >= least_s for row in rows))
        lines = [Line.of(f"{'~' if row.short else ''}{row.operator}", [row]) for row in rows[:shown]]
        rest = rows[shown:]
        return [*lines, Line.of(f"{len(rest)} others", rest)] if rest else lines

    def _totals(self) -> list[Line]:
        base, adapted = self.base, self.adapted
        return [
            Line("outside operators", base.outside_s, adapted.outside_s, adapted.outside_s / adapted.profiled_s),
            Line("total, profiled", base.profiled_s, adapted.profiled_s, 1.0),
            Line("total, not profiled", base.plain_s, adapted.plain_s, None),
        ]


def report_operators(
    model: str, case: Case, template: Workload, target: Target, *, calls: int, programs: Programs
) -> OperatorsReport:
    """Calls a model with and without an adapter, alternately with and without the runtime's profiler.

    Args:
        template: Provides shape, mode, phase and weights.
        calls: Profiled calls per round.
    """
    workload = case.on(template)
    for one in (workload.base, workload):
        programs.check(one)
    session = Session(target.device, programs=programs)
    (measured,) = session.measure([workload], reference=workload.base, probes=[Operators(calls)])
    if failure := measured.quantities["operators"].failure:
        raise ProgramError(failure)
    return OperatorsReport(model, target, case, workload, *attributions(measured))


def _summary(attribution: Attribution) -> dict[str, Any]:
    return {
        "plain_s": attribution.plain_s,
        "profiled_s": attribution.profiled_s,
        "slowdown": attribution.slowdown,
        "outside_s": attribution.outside_s,
        "profiled_calls": attribution.profiled_calls,
    }
