"""Operators of a call with and without an adapter, timed by the runtime's profiler."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from adaptare.core import ProgramError
from adaptare.core.progress import SILENT, Feedback
from adaptare.profiler import Quantisation
from adaptare.profiler.measuring import Attribution, OperatorCost, Operators, ProfiledCalls, Session, attributions
from adaptare.workflows.profiling.call import CallRequest


@dataclass(frozen=True)
class OperatorRow:
    """Operators of one type in one call, with and without the adapter; shares refer to the profiled calls."""

    operator: str
    base_calls: float
    adapted_calls: float
    base_s: float
    adapted_s: float
    difference_s: float
    base_share: float
    adapted_share: float
    short: bool


@dataclass(frozen=True)
class OperatorsResult:
    """Profiled calls of the base and of the model with the adapter.

    Args:
        device: Spelling of the device; weights have the `quantisation` and `dtype`.
        operators: One row per operator type of either model, most expensive first.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    phase: str
    length: int
    placement: str
    sites: int
    rank: int
    mode: str
    base: ProfiledCalls
    adapted: ProfiledCalls
    operators: Sequence[OperatorRow]


def report_operators(request: CallRequest, *, calls: int, feedback: Feedback = SILENT) -> OperatorsResult:
    """Calls a model with and without an adapter, alternately with and without the runtime's profiler.

    Args:
        request: Model and adapter.
        calls: Profiled calls per round.
        feedback: Receives progress.

    Raises:
        InputError: The request is wrong, or the device does not report time by operator.
        ProgramError: The workload fails, or its adapter is not applied.
    """
    target, programs, case, template = request.opened()
    workload = case.on(template)
    for one in (workload.base, workload):
        programs.check(one)
    session, visits = Session(target.device, programs=programs), 2 * Operators.openings
    with feedback.progress("profiling operators") as update:
        done = count(1)
        probe = Operators(calls, visited=lambda: update(next(done) / visits, f"{visits} visits"))
        (measured,) = session.measure([workload], reference=workload.base, probes=[probe])
    if failure := measured.quantities["operators"].failure:
        raise ProgramError(failure)
    base, adapted = attributions(measured)
    return OperatorsResult(
        model=request.model,
        device=target.device.info().device,
        **target.weights,
        phase=workload.phase,
        length=workload.length,
        placement=case.placement,
        sites=len(case.config.ranks),
        rank=case.rank,
        mode=workload.mode,
        base=base.calls,
        adapted=adapted.calls,
        operators=_rows(base, adapted),
    )


def _rows(base: Attribution, adapted: Attribution) -> list[OperatorRow]:
    before, after = ({cost.name: cost for cost in part.operators} for part in (base, adapted))
    rows = []
    for name in before | after:
        without, having = (costs.get(name, OperatorCost(name, 0.0, 0.0)) for costs in (before, after))
        row = OperatorRow(
            operator=name,
            base_calls=without.calls,
            adapted_calls=having.calls,
            base_s=without.seconds,
            adapted_s=having.seconds,
            difference_s=having.seconds - without.seconds,
            base_share=without.seconds / base.calls.profiled_s,
            adapted_share=having.seconds / adapted.calls.profiled_s,
            short=without.short or having.short,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: -max(row.base_s, row.adapted_s))
