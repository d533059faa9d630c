"""Where the time goes: means over the calls that were not disturbed, and real adapters counted exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptare.core import InputError, ProgramError
from adaptare.devices import Program, SimulatedDevice, ort_cpu
from adaptare.devices.contracts import AttributedCall, OperatorTime
from adaptare.profiler import Configuration, ModelShape, Programs, Workload, programs_for
from adaptare.profiler.measuring.attribution import Attribution, OperatorCost, attribute
from adaptare.profiler.programs.builders import SimulatedPrograms


def call(seconds: float, **operators: tuple[int, float]) -> AttributedCall:
    return AttributedCall(seconds, tuple(OperatorTime(name, *each) for name, each in operators.items()))


@pytest.fixture
def attribution(llama: ModelShape) -> Attribution:
    calls = (
        call(9.0, MatMul=(3, 6.5), Add=(1, 1.0)),  # disturbed in MatMul
        call(3.0, MatMul=(3, 1.0), Add=(1, 1.0)),
        call(5.0, MatMul=(3, 2.0), Add=(1, 0.5)),
        call(8.0, MatMul=(3, 1.5), Add=(1, 6.0)),  # disturbed in Add
    )
    return Attribution(Workload(llama), (1.0, 7.0, 3.0), calls)


def test_each_figure_is_a_mean_over_the_half_where_it_is_lowest(attribution: Attribution) -> None:
    assert (attribution.plain_s, attribution.profiled_s) == (2.0, 4.0)
    assert attribution.operators == (OperatorCost("MatMul", 3.0, 1.25), OperatorCost("Add", 1.0, 0.75))


def test_operators_and_the_rest_make_the_whole(attribution: Attribution) -> None:
    assert attribution.outside_s == pytest.approx(4.0 - 1.25 - 0.75)


def test_operators_take_no_longer_than_the_whole_however_calls_are_disturbed(llama: ModelShape) -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        seconds = rng.exponential(size=(7, 3))
        calls = tuple(call(sum(each), A=(1, each[0]), B=(2, each[1]), C=(1, each[2])) for each in seconds.tolist())
        assert Attribution(Workload(llama), (1.0,), calls).outside_s >= -1e-12


def test_says_how_much_the_profiler_slows_calls_down(attribution: Attribution) -> None:
    assert attribution.slowdown == 2.0


def test_an_operator_that_seldom_runs_is_told_with_the_calls_it_has(llama: ModelShape) -> None:
    calls = (call(1.0, Add=(1, 0.5)), call(1.0, Add=(1, 0.5), Pow=(1, 0.25)), call(9.0, Pow=(2, 0.5)))
    assert Attribution(Workload(llama), (1.0,), calls).operators == (
        OperatorCost("Add", 0.5, 0.25),
        OperatorCost("Pow", 0.5, 0.125),
    )


@pytest.mark.parametrize(("calls", "seconds", "short"), [(1, 49e-6, True), (1, 51e-6, False), (10, 51e-6, True)])
def test_operators_below_50_us_each_are_short(calls: int, seconds: float, short: bool) -> None:
    assert OperatorCost("Add", calls, seconds).short is short


def counts(workload: Workload, base: Attribution, adapted: Attribution) -> dict[str, float]:
    """What the adapter adds to the calls of each kind of operator, for each adapted linear."""
    before, after = ({cost.name: cost.calls for cost in each.operators} for each in (base, adapted))
    added = {name: after[name] - before.get(name, 0) for name in after}
    return {name: more / len(workload.configuration.ranks) for name, more in added.items() if more}


@pytest.mark.parametrize("mode", ["swappable", "static"])
def test_an_adapter_of_onnx_runtime_adds_two_products_and_a_sum(llama: ModelShape, onnx_cache: Path, mode: str) -> None:
    device = ort_cpu(threads=1)
    workload = replace(Workload(llama, Configuration.uniform(llama, 2), past=4), mode=mode)
    programs = programs_for(device.info(), cache=onnx_cache)
    found = attribute([workload.base, workload], device=device, programs=programs, calls=2)
    assert counts(workload, *found) == {"MatMul": 2, "Add": 1}
    assert [len(each.attributed) for each in found] == [len(each.plain_samples_s) for each in found] == [6, 6]


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
    with pytest.raises(ProgramError, match="the adapter does not change the output"):
        attribute([workload.base, workload], device=device, programs=programs, calls=1)


def test_a_device_without_operators_is_refused(llama: ModelShape) -> None:
    with pytest.raises(InputError, match="'simulated' does not say which operators take the time; torch-cpu and ort"):
        attribute([Workload(llama).base], device=SimulatedDevice(), programs=SimulatedPrograms(), calls=1)


def test_no_calls_are_refused(llama: ModelShape) -> None:
    with pytest.raises(InputError, match="calls must be at least 1, not 0"):
        attribute([Workload(llama).base], device=SimulatedDevice(), programs=SimulatedPrograms(), calls=0)
