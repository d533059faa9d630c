"""Campaigns beside rows of other quantities, with programs that cannot be built, and their notes on the device."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from simulated_noise import Jitter, TwoLevels
from transformers import LlamaConfig

from adaptare.core import ProgramError
from adaptare.devices import Program, SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Programs, Store, Workload, precise_within, profile
from adaptare.profiler.measuring import Latency, Probe
from adaptare.profiler.measuring.probes import Energy
from adaptare.profiler.programs.builders import SimulatedPrograms
from adaptare.workflows.profiling.campaign import Campaign, throttled, two_levels

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


def test_a_device_whose_processors_may_not_use_their_highest_frequency_throttles() -> None:
    cool = {"processors": "0 1 2 3", "allowed_hz": 1.8e9, "max_hz": 1.8e9}
    hot = {"processors": "4 5", "allowed_hz": 1.2e9, "max_hz": 2.4e9}
    unknown = {"processors": "6", "allowed_hz": None, "max_hz": 2.4e9}

    def noted(*environments: dict[str, Any]) -> list[str]:
        rows: Any = [SimpleNamespace(environment=environment) for environment in environments]
        return list(throttled(rows))

    after = {"after": {"clusters": [cool, hot, unknown]}}
    assert noted(after, {"after": {"clusters": [cool]}}, after) == [
        "the device throttles: its processors 4 5 may use 50% of their highest frequency; let it cool down, or lift "
        "the limit, and repeat"
    ]
    assert noted({}, {"after": {}}, {"after": {"clusters": None}}, {"before": {"clusters": [hot]}}) == []


def test_a_program_that_is_slower_after_some_of_its_loadings_has_two_levels_with_their_shares() -> None:
    shape = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")
    adapted = Workload(shape, Configuration.uniform(shape, 8))

    def measured(*noise: Any) -> Any:
        device = SimulatedDevice(launch_s=1e-4, noise=[Jitter(0.002), *noise])
        return profile([adapted], reference=adapted.base, device=device, stop=FixedRounds(4), seed=0, openings=24)[0]

    row = measured(TwoLevels(0.3, 1.3))
    assert row.levels.upper / row.levels.lower == pytest.approx(1.3, rel=0.1)
    [note] = two_levels([row, measured()])
    assert note.startswith("1 of 2 take one of two times from one loading of the programs to the next: swappable")
    assert f"in {1 - row.levels.share:.0%} of 24 openings" in note
