"""Parts of a model beside the whole, on a device whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from simulated_noise import Jitter
from transformers import Gemma3TextConfig

from adaptare.core import InputError
from adaptare.devices import Loaded, Program, SimulatedDevice
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload
from adaptare.profiler.measuring.parts import Parts, blocks_of, measure_parts
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.programs.builders import SimulatedPrograms

QUERY = "model.layers.{}.self_attn.q_proj"


def measured(whole: Workload, device: SimulatedDevice, *, openings: int = 1) -> Parts:
    return measure_parts(whole, Session(device, FixedRounds(12), seed=0, openings=openings))["cold"]


@pytest.mark.parametrize(("phase", "rank"), [("prefill", 0), ("decode", 8)])
def test_what_only_moves_bytes_is_the_sum_of_its_parts(llama: ModelShape, phase: str, rank: int) -> None:
    config = Configuration.uniform(llama, rank) if rank else Configuration()
    whole = Workload(llama, config, phase=phase, mode="swappable" if rank else "merged")  # type: ignore[arg-type]
    device = SimulatedDevice(bandwidth_bytes_s=1e9, compute_flops_s=1e15)
    found = measured(whole, device)
    assert found.together.ratio.middle == pytest.approx(1, rel=1e-6)
    assert found.together.latency_s == pytest.approx(device.latency_s(whole.work()))
    assert (found.together.workload, found.together.origin) == (whole, "composed")
    ((block, layers),) = found.blocks
    assert (layers, block.workload.scope) == (llama.layers, "block")
    assert layers * block.latency_s + found.head.latency_s == pytest.approx(found.together.latency_s)
    for name in ("first_call_s", "load_s", "resident_bytes"):
        parts = layers * getattr(block, name) + getattr(found.head, name)
        assert getattr(found.together, name) == pytest.approx(parts)


def test_blocks_of_which_some_attend_to_a_window_are_not_the_first_one() -> None:
    config = Gemma3TextConfig(num_hidden_layers=6, hidden_size=64, intermediate_size=96, sliding_window=32)
    whole = Workload(ModelShape.from_config(config), past=33).base
    with pytest.raises(InputError, match="beyond 32 positions the layers of this model differ in attention"):
        measured(whole, SimulatedDevice())
    assert measured(replace(whole, past=32), SimulatedDevice()).blocks


def test_every_kind_of_block_is_timed_once_and_counted(llama: ModelShape) -> None:
    ranks = {QUERY.format(layer): 8 if layer % 2 else 4 for layer in range(llama.layers - 1)}
    counts = blocks_of(Workload(llama, Configuration.of(ranks)))
    first = QUERY.format(0)
    by_rank = {each.configuration.by_path.get(first, 0): count for each, count in counts.items()}
    assert sum(by_rank.values()) == llama.layers
    assert by_rank[0] == 1
    assert set(by_rank) <= {0, 4, 8}
    assert all(set(each.configuration.by_path) <= {first} for each in counts)
    bare = next(each for each in counts if not each.configuration.ranks)
    assert bare.mode == "merged"


def test_padded_blocks_have_the_largest_rank_of_the_model(llama: ModelShape) -> None:
    ranks = {QUERY.format(0): 4, QUERY.format(1): 16}
    counts = blocks_of(Workload(llama, Configuration.of(ranks), mode="padded"))
    assert [each.configuration.by_path for each in counts if len(each.configuration.ranks)] == [{QUERY.format(0): 16}]


def test_the_interval_of_the_sum_carries_what_every_part_is_off(llama: ModelShape) -> None:
    ratio = measured(Workload(llama).base, SimulatedDevice(noise=[Jitter(0.02)]), openings=4).together.ratio
    assert 0.001 < ratio.upper - ratio.lower < 0.05


def test_a_part_that_fails_is_told(llama: ModelShape) -> None:
    whole, programs = Workload(llama).base, SimulatedPrograms()
    device = SimulatedDevice(failures={programs.program(replace(whole, scope="head")).hash: "error"})
    assert "simulated program failed" in measured(whole, device).together.failure


def test_parts_that_are_not_held_at_once_are_refused_beforehand(llama: ModelShape) -> None:
    whole, programs = Workload(llama).base, SimulatedPrograms()
    head, block = (programs.need(replace(whole, scope=scope)).total_bytes for scope in ("head", "block"))
    least = 2 * (programs.need(whole).total_bytes + max(head, block))
    device = SimulatedDevice(free_bytes=least)
    with pytest.raises(InputError, match="its head and 1 distinct blocks do not fit into memory together"):
        measured(whole, device)
    assert device.calls == 0
    with pytest.raises(InputError, match="parts are those of a whole model, not of a block"):
        measured(Workload(llama, scope="block").base, device)


def test_cold_and_hot_parts_that_are_not_held_at_once_have_sessions_of_their_own(llama: ModelShape) -> None:
    whole, programs = Workload(llama).base, SimulatedPrograms()
    cold, hot = (
        [replace(whole, scope=scope, caches=caches) for scope in ("block", "head")] for caches in ("cold", "hot")
    )
    need = programs.need(whole).total_bytes + sum(programs.need(part).total_bytes for part in cold)
    found = {
        free: measure_parts(
            whole,
            Session(SimulatedDevice(free_bytes=free), FixedRounds(12), seed=0),
            caches=("cold", "hot"),
        )
        for free in (2 * need, 2 * (need + sum(programs.need(part).total_bytes for part in hot)))
    }
    sessions = [len({each.head.session for each in states.values()}) for states in found.values()]
    assert sessions == [2, 1]
    for states in found.values():
        assert [each.together.ratio.middle for each in states.values()] == pytest.approx([1, 1], rel=0.1)


def test_rounds_that_a_part_has_not_seen_do_not_count(llama: ModelShape) -> None:
    found = measured(Workload(llama).base, SimulatedDevice(noise=[Jitter(0.02)]))
    shorter = replace(found, head=replace(found.head, visits=found.head.visits[:-2]))
    assert len(shorter.together.visits) == len(found.together.visits) - 2
    assert np.isfinite(shorter.together.ratio.middle)


def test_copies_of_a_cold_part_count_once_in_the_whole(llama: ModelShape, monkeypatch: pytest.MonkeyPatch) -> None:
    load = SimulatedWorker.load

    def in_copies(worker: SimulatedWorker, program: Program) -> Loaded:
        loaded = load(worker, program)
        copies = 4 if program.others_bytes else 1
        return replace(
            loaded, copies=copies, resident_bytes=copies * loaded.resident_bytes, load_s=copies * loaded.load_s
        )

    whole = Workload(llama).base
    alone = measured(whole, SimulatedDevice()).together
    monkeypatch.setattr(SimulatedWorker, "load", in_copies)
    found = measured(whole, SimulatedDevice()).together
    assert (found.resident_bytes, found.load_s) == (alone.resident_bytes, pytest.approx(alone.load_s))
