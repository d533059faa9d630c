from collections.abc import Sequence

import pytest

from adaptare.devices import Loaded, Program, ProgramError, SimulatedDevice
from adaptare.profiler import AdapterConfig, ModelShape, Workload
from adaptare.profiler.equality import check_outputs, largest_difference


class Answers:
    """A worker that loads every program with the outputs it was given."""

    free_bytes = 2**30

    def __init__(self, outputs: Sequence[float]) -> None:
        self.outputs = outputs
        self.loaded: list[Program] = []
        self.unloaded: list[str] = []

    def load(self, program: Program) -> Loaded:
        self.loaded.append(program)
        return answer(self.outputs, str(len(self.loaded)))

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        return [1.0] * calls

    def unload(self, program_id: str) -> None:
        self.unloaded.append(program_id)


def answer(outputs: Sequence[float], program_id: str = "own") -> Loaded:
    return Loaded(program_id, 0, 0.0, {}, {"decode": tuple(outputs)})


def check(workload: Workload, ours: Sequence[float], merged: Sequence[float], base: Sequence[float]) -> Answers:
    worker = Answers(merged)
    info = SimulatedDevice().info()
    check_outputs(workload, answer(ours), base=answer(base), worker=worker, device=info)
    return worker


def test_agreement_passes_and_the_twin_is_unloaded(llama: ModelShape) -> None:
    worker = check(Workload(llama, AdapterConfig.uniform(llama, 2)), [1.0, 2.0], [1.0, 2.00001], [0.0, 0.0])
    assert '"mode":"merged"' in worker.loaded[0].arguments
    assert worker.unloaded == ["1"]


def test_disagreement_with_the_merged_twin_is_a_failure(llama: ModelShape) -> None:
    workload = Workload(llama, AdapterConfig.uniform(llama, 2))
    with pytest.raises(ProgramError, match=r"swappable and merged outputs differ by 0.05"):
        check(workload, [1.0, 2.1], [1.0, 2.0], [0.0, 0.0])


def test_an_adapter_that_changes_nothing_is_a_failure(llama: ModelShape) -> None:
    workload = Workload(llama, AdapterConfig.uniform(llama, 2))
    with pytest.raises(ProgramError, match="does not change the output"):
        check(workload, [1.0, 2.0], [1.0, 2.0], [1.0, 2.0])


def test_not_a_number_never_agrees(llama: ModelShape) -> None:
    workload = Workload(llama, AdapterConfig.uniform(llama, 2))
    with pytest.raises(ProgramError, match="differ"):
        check(workload, [float("nan"), 2.0], [1.0, 2.0], [0.0, 0.0])


def test_the_base_needs_no_twin(llama: ModelShape) -> None:
    assert check(Workload(llama).base, [1.0], [5.0], [1.0]).loaded == []


def test_the_difference_is_relative_to_large_values_only() -> None:
    assert largest_difference([0.1], [0.2]) == pytest.approx(0.1)
    assert largest_difference([99.0], [100.0]) == pytest.approx(0.01)
    assert largest_difference([1.0], [1.0, 2.0]) == float("inf")
