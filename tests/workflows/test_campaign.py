"""Campaigns beside rows of other quantities, and with programs that cannot be built."""

from pathlib import Path

import pytest
from transformers import LlamaConfig

from adaptare.core import ProgramError
from adaptare.devices import Program, SimulatedDevice
from adaptare.profiler import Configuration, ModelShape, Programs, Store, Workload, precise_within
from adaptare.profiler.measuring import Latency, Probe
from adaptare.profiler.measuring.probes import Energy
from adaptare.profiler.programs.builders import SimulatedPrograms
from adaptare.workflows.profiling.campaign import Campaign

SHAPE = ModelShape.from_config(
    LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=72)
)
WORKLOADS = [Workload(SHAPE, Configuration.uniform(SHAPE, rank)) for rank in (2, 4, 8)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "adaptare.db")


def campaign(store: Store, probe: Probe, programs: Programs | None = None) -> Campaign:
    device, stop = SimulatedDevice(power_w=7.0), precise_within(0.01, 0.5, 4)
    return Campaign(device, programs or SimulatedPrograms(), store, stop, seed=0, probes=[probe])


def test_rows_without_latency_calibrate_nothing_and_are_calibrated_by_others(store: Store) -> None:
    energy, latency = campaign(store, Energy(seconds=0.01)), campaign(store, Latency())
    (first,) = energy.measure(WORKLOADS[:1], title="measuring")
    assert first.has("energy")
    assert energy.calibration_s(first.reference) is None
    (timed,) = latency.measure(WORKLOADS[1:2], title="measuring")
    assert latency.calibration_s(first.reference) == timed.reference_s > 0
    (later,) = energy.measure(WORKLOADS[2:], title="measuring")
    assert later.has("energy")
    assert energy.calibration_s(first.reference) == later.reference_s == timed.reference_s


def test_a_program_that_cannot_be_built_beforehand_is_a_failure_beside_the_others(store: Store) -> None:
    class Refusing(SimulatedPrograms):
        def program(self, workload: Workload) -> Program:
            if workload == WORKLOADS[1]:
                raise ProgramError("the converter refused it")
            return super().program(workload)

    found = campaign(store, Latency(), Refusing()).measure(WORKLOADS, title="measuring")
    assert [row.failure for row in found] == ["", "the converter refused it", ""]
