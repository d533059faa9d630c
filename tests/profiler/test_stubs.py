import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_noise import Bursts, Jitter, OpeningOffset, WarmUp
from transformers import Gemma3TextConfig, LlamaConfig

from adaptare.core import InputError, ProgramError
from adaptare.devices import SimulatedDevice
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import (
    Configuration,
    FixedRounds,
    Measurement,
    ModelShape,
    Phase,
    Quantisation,
    Store,
    Workload,
    profile,
)
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stopping import PreciseWithin, Progress
from adaptare.profiler.measuring.stubs import StubPrograms, stub_layers, stub_of, stub_session, stubs_for
from adaptare.profiler.programs.builders import SimulatedPrograms
from adaptare.profiler.store.calibration import calibrated
from adaptare.profiler.store.measurement import overhead
from adaptare.profiler.store.rows import measurement_from_json, measurement_to_json
from adaptare.workflows.profiling.campaign import Campaign

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=24, hidden_size=64, num_attention_heads=4, intermediate_size=96, vocab_size=512)
)
BASE = Workload(SHAPE).base
ADAPTED = [Workload(SHAPE, Configuration.uniform(SHAPE, rank)) for rank in (1, 16)]


def parts(session: Session) -> list[list[Measurement]]:
    """Composed measurements, in as many parts as fit into memory."""
    plan, timing = stubs_for(ADAPTED, reference=BASE, session=session), stub_session(session, BASE)
    return [stubs.composed(timing.measure(stubs.timed, reference=stubs.reference)) for stubs in plan]


def composed(device: SimulatedDevice, *, openings: int = 2) -> list[Measurement]:
    session = Session(device, FixedRounds(8), seed=0, openings=openings)
    return calibrated([measurement for part in parts(session) for measurement in part])


def test_the_line_through_stubs_meets_the_whole_model_where_layers_are_alike() -> None:
    whole = profile(ADAPTED, reference=BASE, device=SimulatedDevice(), stop=FixedRounds(8), seed=0)
    for found, expected in zip(composed(SimulatedDevice()), whole, strict=True):
        assert found.workload == expected.workload
        assert found.latency_s == pytest.approx(expected.latency_s)
        assert found.overhead.middle == pytest.approx(expected.overhead.middle)
        assert found.first_call_s == pytest.approx(expected.first_call_s)
        assert found.reference_s == pytest.approx(SimulatedDevice().latency_s(BASE.work()))


@pytest.mark.parametrize("layers", [62, 12])
def test_stubs_have_layers_with_and_without_a_window_as_often_as_the_model(layers: int) -> None:
    """Five of six attend to a window; in 2 and 6 layers there would be none and one that do not."""
    config = Gemma3TextConfig(num_hidden_layers=layers, hidden_size=2560, intermediate_size=10240)
    base = Workload(ModelShape.from_config(config)).base
    assert stub_layers(base) == (6, 12)
    kinds = [json.loads(stub_of(base, each).shape.config)["layer_types"] for each in (6, 12)]
    assert [each.count("full_attention") for each in kinds] == [1, 2]


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_between_calls_of_a_stub_as_much_is_read_as_it_lacks(phase: Phase) -> None:
    programs, base = StubPrograms(SimulatedPrograms(), SHAPE), replace(BASE, phase=phase)
    whole, adapted = base.work().moved_bytes, replace(ADAPTED[1], phase=phase)
    for workload in (base, adapted):
        stub = stub_of(workload, 2)
        for program in (programs.program(stub), programs.merged_reference(stub)):
            assert program.moved_bytes == stub.base.work().moved_bytes, "whatever it carries"
            assert program.moved_bytes + program.between_bytes == whole
        assert programs.program(workload).between_bytes == 0
        assert programs.need(stub) == SimulatedPrograms().need(stub)


def test_a_stub_is_called_as_often_in_a_visit_as_its_whole() -> None:
    calls = {}
    for programs in (SimulatedPrograms(), StubPrograms(SimulatedPrograms(), SHAPE)):
        (few,) = profile(
            [stub_of(BASE, 2)],
            reference=BASE,
            device=SimulatedDevice(),
            stop=FixedRounds(1),
            seed=0,
            programs=programs,
        )
        calls[type(programs)] = [len(visit.samples_s) for visit in (*few.visits, *few.reference_visits)]
    stub, whole = calls[StubPrograms]
    assert stub == pytest.approx(whole, rel=0.3), "as bytes are, which is about as time is"
    assert calls[SimulatedPrograms][0] > 1.5 * whole


def test_what_is_composed_says_so_and_still_does_when_it_comes_out_of_a_store() -> None:
    found = composed(SimulatedDevice())[0]
    shapes = {SHAPE.hash: SHAPE}
    assert found.origin == "composed"
    assert calibrated([measurement_from_json(measurement_to_json(found), shapes)]) == [found]


def test_ranks_of_one_placement_share_their_rounds() -> None:
    low, high = composed(SimulatedDevice(launch_s=1e-5))
    truth = SimulatedDevice(launch_s=1e-5)
    expected = truth.latency_s(high.workload.work()) / truth.latency_s(low.workload.work()) - 1
    assert overhead(high, low).middle == pytest.approx(expected)


@pytest.mark.slow
def test_the_interval_holds_the_truth_under_noise() -> None:
    truth = SimulatedDevice(launch_s=2e-4)
    expected = truth.latency_s(ADAPTED[1].work()) / truth.latency_s(BASE.work()) - 1
    held = 0
    for seed in range(24):
        device = SimulatedDevice(launch_s=2e-4, noise=[Jitter(0.01), OpeningOffset(0.01, seed)], seed=seed)
        held += composed(device, openings=8)[1].overhead.contains(expected)
    assert held >= 20


def test_stubs_are_loaded_in_parts_where_memory_is_short_and_refused_where_there_is_none() -> None:
    for free_bytes, depths in ((14_000_000, (6, 18)), (5_100_000, (2, 6))):
        plan = stubs_for(ADAPTED, reference=BASE, session=Session(SimulatedDevice(free_bytes=free_bytes)))
        assert {stubs.depths for stubs in plan} == {depths}
        sessions = {each.session for each in composed(SimulatedDevice(free_bytes=free_bytes))}
        assert len(sessions) == len(ADAPTED)
    with pytest.raises(InputError, match=r"the stubs of .* do not fit into half of the free memory"):
        composed(SimulatedDevice(free_bytes=2_500_000))


def test_a_stub_that_fails_makes_its_whole_fail_and_that_of_a_base_everything() -> None:
    def failures(workload: Workload) -> list[str]:
        device = SimulatedDevice(failures={program_hash(stub_of(workload, 6)): "error"})
        return [each.failure for each in composed(device)]

    failed, fine = failures(ADAPTED[0])
    assert "failed" in failed
    assert not fine
    assert all("failed" in each for each in failures(BASE))


def test_rounds_in_which_the_line_falls_below_nothing_do_not_count() -> None:
    device = SimulatedDevice(launch_s=2e-4, noise=[Bursts(0.1, 20.0)], seed=1)
    for each in composed(device):
        assert 0 < len(each.visits) < 16
        assert min(visit.median_s for visit in (*each.visits, *each.reference_visits)) > 0


def program_hash(workload: Workload) -> str:
    return SimulatedPrograms().program(workload).hash


@pytest.mark.parametrize(
    "uneven", [Configuration.of({"model.layers.3.self_attn.q_proj": 4}), Configuration.of(widths={0: 40})]
)
def test_layers_must_have_the_same_ranks_and_widths(uneven: Configuration) -> None:
    with pytest.raises(InputError, match="same ranks and widths in every layer"):
        stub_of(Workload(SHAPE, uneven), 2)


def test_only_whole_models_of_some_depth_have_stubs() -> None:
    for workload in (Workload(SHAPE.stub(4)), replace(BASE, scope="block")):
        with pytest.raises(InputError, match="6 or more layers"):
            stub_layers(workload)
    windows = Gemma3TextConfig(num_hidden_layers=11, hidden_size=256, intermediate_size=512)
    with pytest.raises(InputError, match="12 or more layers"):
        stub_layers(Workload(ModelShape.from_config(windows)).base)


@pytest.mark.parametrize(
    ("shape", "quantisation", "layers"),
    [
        (ModelShape("llama", 24, 64, 4, 2, 16, 96, 512, "{}"), "none", (6, 18)),
        (ModelShape("llama", 6, 64, 4, 2, 16, 96, 512, "{}"), "none", (2, 6)),
        (ModelShape("llama", 32, 4096, 32, 8, 128, 14336, 128256, "{}"), "none", (2, 6)),
        (ModelShape("qwen2", 24, 896, 14, 2, 64, 4864, 151936, "{}"), "int4", (6, 18)),
    ],
    ids=["small layers", "few layers", "8B", "0.5B in 4 bits"],
)
def test_stubs_are_as_deep_as_small_layers_let_them_be(
    shape: ModelShape, quantisation: Quantisation, layers: tuple[int, int]
) -> None:
    assert stub_layers(Workload(shape, quantisation=quantisation).base) == layers


def test_stubs_have_the_same_widths_and_kind_of_adapter_in_the_same_kind_of_graph() -> None:
    narrow = Workload(SHAPE, Configuration.of(widths=dict.fromkeys(range(24), 40)))
    assert stub_of(narrow, 2).configuration == Configuration.of(widths={0: 40, 1: 40})
    dora = Workload(SHAPE, replace(Configuration.uniform(SHAPE, 4), kind="dora"))
    assert stub_of(dora, 2).configuration.kind == "dora"
    opened = Workload(SHAPE, Configuration.uniform(SHAPE, 4, kinds=("q_proj",)), graph="open")
    assert stub_of(opened, 2).graph == "open"


def test_after_an_interruption_no_other_stubs_are_measured(tmp_path: Path) -> None:
    class Interrupted(PreciseWithin):
        def opening_reason(self, progress: Progress) -> str:
            return "interrupted" if progress.rounds == 3 else ""

    device, store = SimulatedDevice(free_bytes=5_100_000), Store(tmp_path / "adaptare.db")
    campaign = Campaign(device, SimulatedPrograms(), store, Interrupted(0.01, 60.0), 0, stubs=True)
    (measured,) = campaign.measure(ADAPTED, title="measuring")
    assert measured.stopped_by == "interrupted"


def test_a_base_whose_stub_failed_sets_no_scale_for_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is three times as slow until it is warm, and then the shallow stub of the first part fails."""
    device = SimulatedDevice(free_bytes=5_100_000, noise=[WarmUp(50, 3.0)])
    shallow, run, called = program_hash(stub_of(BASE, 2)), SimulatedWorker.run, list[str]()

    def fail_once(worker: SimulatedWorker, program_id: str, feed: str, calls: int) -> Sequence[float]:
        called.append(program_id.partition("-")[0])
        if called[-1] == shallow and called.count(shallow) == 3:
            raise ProgramError("once")
        return run(worker, program_id, feed, calls)

    monkeypatch.setattr(SimulatedWorker, "run", fail_once)
    groups = [calibrated(part) for part in parts(Session(device, FixedRounds(20), seed=0))]
    assert [bool(each.failure) for group in groups for each in group] == [True, False]
    later = groups[-1][0]
    assert later.reference_s == pytest.approx(np.median([visit.median_s for visit in later.reference_visits]))
    assert groups[0][0].reference_s > 1.2 * later.reference_s
