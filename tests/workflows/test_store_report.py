"""Reports of stores."""

from dataclasses import replace
from pathlib import Path

from simulated_noise import Jitter

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Store, Workload, profile
from adaptare.profiler.store import INTERRUPTED
from adaptare.workflows.reporting.store_report import report_store

CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
CONFIG |= {"num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 64}


def test_an_interrupted_measurement_does_not_replace_a_complete_one(tmp_path: Path) -> None:
    shape = ModelShape.from_mapping(CONFIG)
    workload = Workload(shape, Configuration.uniform(shape, 8))
    (row,) = profile(
        [workload],
        reference=workload.base,
        device=SimulatedDevice(noise=[Jitter(0.05)]),
        stop=FixedRounds(4),
        seed=0,
        openings=6,
    )
    early = replace(
        row,
        session="later",
        visits=row.visits[:4],
        reference_visits=row.reference_visits[:4],
        first_reference_visits=row.first_reference_visits[:4],
        stopped_by=INTERRUPTED,
    )
    store = Store(tmp_path / "adaptare.db")
    store.append([row, early])
    assert [each.complete for each in store.measurements()] == [True, False]
    [report] = report_store(store).reports
    assert report.rows[0].overhead == row.overhead.middle
    assert row.overhead.middle != early.overhead.middle
