"""Bases in 16 bits: what rounding may change, against the same weights computed in 32 bits."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptare.core import ProgramError
from adaptare.devices import Program, TorchCpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.equality import check_against_merged, largest_difference
from adaptare.profiler.programs.torch.programs import build

# A function that changes the module of a program.
Change = Callable[[Any], None]


def outputs(program: Program, change: Change = lambda model: None) -> Sequence[float]:
    arguments = {name: value for name, value in json.loads(program.arguments).items() if name != "prepared"}
    loaded = build(**arguments, folder=str(program.files[0].path.parent))
    change(loaded._model)
    call, restore = loaded.bind(json.loads(program.feeds[0].arguments))
    restore()
    found: list[float] = call().tolist()
    return found


def times(factor: float) -> Change:
    """Multiplies the adapter by a factor."""

    def change(model: Any) -> None:
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data *= factor

    return change


@pytest.fixture
def checked(shape: ModelShape, tmp_path: Path) -> Callable[..., None]:
    """Compares an adapter with its merged reference, as a session does."""
    programs = TorchPrograms(cache=tmp_path)

    def check(workload: Workload, change: Change = lambda model: None) -> None:
        bare = workload.bare
        bases = outputs(programs.program(bare)), outputs(programs.merged_reference(bare))
        check_against_merged(
            workload,
            outputs(programs.program(workload), change),
            outputs(programs.merged_reference(workload)),
            bases=bases,
        )

    return check


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("rank", [1, 16])
@pytest.mark.parametrize("mode", ["swappable", "merged"])
def test_rounding_is_allowed(shape: ModelShape, checked: Any, dtype: str, rank: int, mode: Any) -> None:
    checked(Workload(shape, Configuration.uniform(shape, rank), mode=mode, past=16, dtype=dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_an_adapter_of_another_size_is_not(shape: ModelShape, checked: Any, dtype: str, factor: float) -> None:
    workload = Workload(shape, Configuration.uniform(shape, 16), past=16, dtype=dtype)
    with pytest.raises(ProgramError, match=r"swappable and merged outputs differ by .*; not timed"):
        checked(workload, times(factor))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_reference_has_the_same_weights_in_32_bits(llama: ModelShape, tmp_path: Path, dtype: str) -> None:
    programs = TorchPrograms(cache=tmp_path)
    base = Workload(llama, dtype=dtype, past=5).base
    program, merged = programs.program(base), programs.merged_reference(base)
    assert program.files == merged.files
    both = [
        build(
            **{name: value for name, value in json.loads(each.arguments).items() if name != "prepared"}, folder=folder
        )
        for each, folder in ((program, str(program.files[0].path.parent)), (merged, str(merged.files[0].path.parent)))
    ]
    ours, exact = (dict(each._model.named_parameters()) for each in both)
    assert all(torch.equal(ours[name].float(), exact[name]) for name in ours)
    assert {weight.dtype for weight in exact.values()} == {torch.float32}
    assert 0 < largest_difference(outputs(program), outputs(merged)) < 0.05


@pytest.mark.slow
def test_a_session_in_16_bits_compares_every_mode(llama: ModelShape, tmp_path: Path) -> None:
    device = TorchCpu(threads=1)
    wanted = [
        Workload(llama, Configuration.uniform(llama, rank), mode=mode, past=16, dtype="bfloat16")
        for rank in (2, 8)
        for mode in ("swappable", "merged")
    ]
    programs = TorchPrograms(device.info(), cache=tmp_path)
    results = profile(wanted, reference=wanted[0].base, device=device, stop=FixedRounds(2), seed=0, programs=programs)
    assert [each.failure for each in results] == [""] * 4


def test_32_bits_have_no_other_reference_unless_programs_are_prepared(llama: ModelShape, tmp_path: Path) -> None:
    info = TorchCpu(threads=1).info()
    workload = Workload(llama, Configuration.uniform(llama, 2), past=5)
    plain = TorchPrograms(info, cache=tmp_path)
    compiling = TorchPrograms(replace(info, options=(*info.options, "compile=yes")), cache=tmp_path)
    assert plain.merged_reference(workload.merged) == plain.program(workload.merged)
    assert json.loads(compiling.merged_reference(workload).arguments)["prepared"] is False
    assert compiling.merged_reference(workload.merged) != compiling.program(workload.merged)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_compiled_session_compares_with_what_is_not_compiled(llama: ModelShape, tmp_path: Path, phase: Any) -> None:
    device = TorchCpu(threads=1, compile=True)
    swappable = Workload(llama, Configuration.uniform(llama, 2), phase=phase, past=5, tokens=6)
    wanted = [swappable]  # every program takes seconds to compile
    if phase == "decode":
        wanted.append(swappable.merged)
    programs = TorchPrograms(device.info(), cache=tmp_path)
    results = profile(wanted, reference=swappable.base, device=device, stop=FixedRounds(2), seed=0, programs=programs)
    assert [each.failure for each in results] == [""] * len(wanted)
    assert [each.environment["providers"] for each in results] == [{"inductor": 1}] * len(wanted)
    assert "compile=yes" in device.info().options
