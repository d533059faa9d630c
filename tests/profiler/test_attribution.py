"""Where the time goes: means over the calls that were not disturbed, and real adapters counted exactly."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.devices import Device, Program, SimulatedDevice, ort_cpu
from adaptare.profiler import Configuration, Measurement, ModelShape, Programs, Workload, programs_for
from adaptare.profiler.measuring.attribution import Attribution, OperatorCost, attributions
from adaptare.profiler.measuring.probes import Operators
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.programs.builders import SimulatedPrograms

Call = tuple[float, dict[str, tuple[int, float]]]


def call(seconds: float, **operators: tuple[int, float]) -> Call:
    return seconds, operators


def attribution_of(calls: Sequence[Call], plain: Sequence[float] = (1.0,)) -> Attribution:
    """Attribution of calls in one round; operators that a call does not have took no time in it."""
    rounds = {"operators": [tuple(seconds for seconds, _ in calls)], "plain": [tuple(plain)]}
    for name in {name: None for _, operators in calls for name in operators}:
        costs = [operators.get(name, (0, 0.0)) for _, operators in calls]
        rounds[f"operators/{name}"] = [tuple(seconds for _, seconds in costs)]
        rounds[f"operator_calls/{name}"] = [tuple(float(count) for count, _ in costs)]
    return Attribution.of(rounds)


def measured(workload: Workload, device: Device, programs: Programs, *, calls: int) -> Measurement:
    session = Session(device, programs=programs)
    return session.measure([workload], reference=workload.base, probes=[Operators(calls)])[0]


@pytest.fixture
def attribution() -> Attribution:
    calls = (
        call(9.0, MatMul=(3, 6.5), Add=(1, 1.0)),  # disturbed in MatMul
        call(3.0, MatMul=(3, 1.0), Add=(1, 1.0)),
        call(5.0, MatMul=(3, 2.0), Add=(1, 0.5)),
        call(8.0, MatMul=(3, 1.5), Add=(1, 6.0)),  # disturbed in Add
    )
    return attribution_of(calls, (1.0, 7.0, 3.0))


def test_each_figure_is_a_mean_over_the_half_where_it_is_lowest(attribution: Attribution) -> None:
    assert (attribution.calls.plain_s, attribution.calls.profiled_s) == (2.0, 4.0)
    assert attribution.operators == (OperatorCost("MatMul", 3.0, 1.25), OperatorCost("Add", 1.0, 0.75))
    assert attribution.calls.outside_s == pytest.approx(4.0 - 1.25 - 0.75)
    assert attribution.calls.slowdown == 2.0


def test_operators_take_no_longer_than_the_whole_however_calls_are_disturbed() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        seconds = rng.exponential(size=(7, 3))
        calls = tuple(call(sum(each), A=(1, each[0]), B=(2, each[1]), C=(1, each[2])) for each in seconds.tolist())
        assert attribution_of(calls).calls.outside_s >= -1e-12


def test_an_operator_that_seldom_runs_is_told_with_the_calls_it_has() -> None:
    calls = (call(1.0, Add=(1, 0.5)), call(1.0, Add=(1, 0.5), Pow=(1, 0.25)), call(9.0, Pow=(2, 0.5)))
    assert attribution_of(calls).operators == (
        OperatorCost("Add", 0.5, 0.25),
        OperatorCost("Pow", 0.5, 0.125),
    )


def test_operators_below_50_us_each_are_short() -> None:
    assert [OperatorCost("Add", 10, seconds).short for seconds in (49e-5, 51e-5)] == [True, False]


def counts(workload: Workload, base: Attribution, adapted: Attribution) -> dict[str, float]:
    """What the adapter adds to the calls of each kind of operator, for each adapted linear."""
    before, after = ({cost.name: cost.calls for cost in each.operators} for each in (base, adapted))
    added = {name: after[name] - before.get(name, 0) for name in after}
    return {name: more / len(workload.configuration.ranks) for name, more in added.items() if more}


def test_an_adapter_of_onnx_runtime_adds_two_products(llama: ModelShape, onnx_cache: Path) -> None:
    device = ort_cpu(threads=1)
    workload = Workload(llama, Configuration.uniform(llama, 2), past=4)
    programs = programs_for(device.info(), cache=onnx_cache)
    found = measured(workload, device, programs, calls=2)
    added = counts(workload, *attributions(found))
    assert {name: added.get(name, 0) for name in ("MatMul", "Gemm", "Add")} == {"MatMul": 1, "Gemm": 1, "Add": 0}
    assert [each.calls.profiled_calls for each in attributions(found)] == [6, 6]
    assert [len(calls) for calls in found.quantities["plain"].rounds] == [2, 2, 2]


class Unapplied:
    """Programs that leave every adapter out."""

    def __init__(self, inner: Programs) -> None:
        self._inner = inner
        self.modes, self.need, self.merged_reference = inner.modes, inner.need, inner.merged_reference

    def program(self, workload: Workload) -> Program:
        base = self._inner.program(workload.base)
        return replace(base, feeds=(replace(base.feeds[0], name=workload.hash),))


def test_an_adapter_that_changes_nothing_is_refused(llama: ModelShape, onnx_cache: Path) -> None:
    device = ort_cpu(threads=1)
    programs = Unapplied(programs_for(device.info(), cache=onnx_cache))
    workload = Workload(llama, Configuration.uniform(llama, 2), past=4)
    failure = measured(workload, device, programs, calls=1).quantities["operators"].failure
    assert "the adapter does not change the output" in failure


def test_a_device_without_operators_is_refused(llama: ModelShape) -> None:
    message = "simulated: the device does not attribute time to operators; torch-cpu, ort-cpu and"
    with pytest.raises(InputError, match=message):
        measured(Workload(llama, Configuration.uniform(llama, 2)), SimulatedDevice(), SimulatedPrograms(), calls=1)
