"""Blocks, layers and heads: the parts of a model, with caches cold and hot."""

from dataclasses import replace

import pytest
from transformers import LlamaConfig

from adaptare.devices import Device, TorchCpu, ort_cpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile, programs_for
from adaptare.profiler.programs.builders import TorchPrograms

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=2, hidden_size=512, num_attention_heads=4, intermediate_size=1024, vocab_size=1000)
)
BASE = Workload(SHAPE, past=4).base
ADAPTED = Workload(SHAPE, Configuration.uniform(SHAPE, 2), past=4)
PARTS = [
    replace(BASE, scope="head"),
    replace(ADAPTED, scope="block"),
]


@pytest.mark.slow
@pytest.mark.parametrize("device", [TorchCpu(threads=1), ort_cpu(threads=1)], ids=["torch-cpu", "ort-cpu"])
def test_every_part_runs_cold_and_hot(device: Device) -> None:
    wanted = [replace(part, caches=caches) for part in PARTS for caches in ("cold", "hot")]
    found = profile(wanted, reference=BASE, device=device, stop=FixedRounds(2), seed=0)
    assert [each.failure for each in found] == [""] * len(wanted)


def test_the_head_and_the_blocks_do_the_work_of_the_whole_model() -> None:
    head, block = (replace(ADAPTED, scope=scope).work() for scope in ("head", "block"))
    assert head + block * SHAPE.layers == ADAPTED.work()


def test_parts_are_different_workloads_cold_and_hot_and_whole_models_are_not() -> None:
    hot = replace(PARTS[0], caches="hot")
    assert hot.hash != PARTS[0].hash
    assert Workload.from_json(hot.to_json(), SHAPE) == hot
    assert replace(BASE, caches="hot").hash == BASE.hash
    assert replace(BASE, caches="hot") == BASE


def test_copies_of_a_cold_part_count_as_memory() -> None:
    programs = TorchPrograms()
    cold, hot = (programs.need(replace(PARTS[1], caches=caches)) for caches in ("cold", "hot"))
    assert cold.total_bytes > hot.total_bytes
    assert cold.program != hot.program


def test_between_two_calls_of_a_cold_part_the_rest_of_the_model_runs() -> None:
    programs, whole = programs_for(TorchCpu(threads=1).info()), BASE.work().moved_bytes

    def turn(workload: Workload) -> tuple[int, int]:
        program = programs.program(workload)
        return program.moved_bytes, program.others_bytes

    for part in PARTS:
        own = part.base.work().moved_bytes
        assert turn(part) == turn(part.base) == (own, whole - own)
        assert turn(replace(part, caches="hot")) == (0, 0)
    assert turn(BASE) == (0, 0)
