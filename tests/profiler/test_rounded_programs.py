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
from adaptare.profiler.programs.torch.programs import Bindable, build


def loaded(program: Program) -> Bindable:
    arguments = {name: value for name, value in json.loads(program.arguments).items() if name != "prepared"}
    return build(**arguments, folder=str(program.files[0].path.parent))


def outputs(program: Program, factor: float = 1.0) -> Sequence[float]:
    """Outputs with the adapter multiplied by a factor."""
    bindable = loaded(program)
    for name, weight in bindable._model.named_parameters():
        if "lora_B" in name:
            weight.data *= factor
    call, restore = bindable.bind(json.loads(program.feeds[0].arguments))
    restore()
    found: list[float] = call().tolist()
    return found


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., None]:
    """Compares an adapter with its merged reference, as a session does."""
    programs = TorchPrograms(cache=tmp_path)

    def check(workload: Workload, factor: float = 1.0) -> None:
        bare = workload.bare
        bases = outputs(programs.program(bare)), outputs(programs.merged_reference(bare))
        ours = outputs(programs.program(workload), factor)
        check_against_merged(workload, ours, outputs(programs.merged_reference(workload)), bases=bases)

    return check


def test_rounding_is_allowed(shape: ModelShape, checked: Any) -> None:
    checked(Workload(shape, Configuration.uniform(shape, 16), past=16, dtype="bfloat16"))


@pytest.mark.parametrize(("dtype", "mode"), [("float16", "swappable"), ("bfloat16", "merged")])
def test_rounding_is_allowed_in_every_mode_and_dtype(llama: ModelShape, checked: Any, dtype: str, mode: Any) -> None:
    checked(Workload(llama, Configuration.uniform(llama, 1), mode=mode, past=16, dtype=dtype))


@pytest.mark.parametrize(("dtype", "factor"), [("bfloat16", 0.0), ("bfloat16", 0.5), ("float16", 2.0)])
def test_an_adapter_of_another_size_is_not(llama: ModelShape, checked: Any, dtype: str, factor: float) -> None:
    workload = Workload(llama, Configuration.uniform(llama, 16), past=16, dtype=dtype)
    with pytest.raises(ProgramError, match=r"swappable and merged outputs differ by .*; not timed"):
        checked(workload, factor)


def test_the_reference_has_the_same_weights_in_32_bits(llama: ModelShape, tmp_path: Path) -> None:
    programs = TorchPrograms(cache=tmp_path)
    base = Workload(llama, dtype="bfloat16", past=5).base
    program, merged = programs.program(base), programs.merged_reference(base)
    assert program.files == merged.files
    ours, exact = (dict(loaded(each)._model.named_parameters()) for each in (program, merged))
    assert all(torch.equal(ours[name].float(), exact[name]) for name in ours)
    assert {weight.dtype for weight in exact.values()} == {torch.float32}
    assert 0 < largest_difference(outputs(program), outputs(merged)) < 0.05


def test_32_bits_have_no_other_reference_unless_programs_are_prepared(llama: ModelShape, tmp_path: Path) -> None:
    info = TorchCpu(threads=1).info()
    workload = Workload(llama, Configuration.uniform(llama, 2), past=5)
    plain = TorchPrograms(info, cache=tmp_path)
    compiling = TorchPrograms(replace(info, options=(*info.options, "compile=yes")), cache=tmp_path)
    assert plain.merged_reference(workload.merged) == plain.program(workload.merged)
    assert json.loads(compiling.merged_reference(workload).arguments)["prepared"] is False
    assert compiling.merged_reference(workload.merged) != compiling.program(workload.merged)


@pytest.mark.slow
def test_a_compiled_session_compares_with_what_is_not_compiled(llama: ModelShape, tmp_path: Path) -> None:
    device = TorchCpu(threads=1, compile=True)
    swappable = Workload(llama, Configuration.uniform(llama, 2), past=5)
    wanted = [swappable, swappable.merged]  # every program takes seconds to compile
    programs = TorchPrograms(device.info(), cache=tmp_path)
    results = profile(wanted, reference=swappable.base, device=device, stop=FixedRounds(2), seed=0, programs=programs)
    assert [each.failure for each in results] == [""] * len(wanted)
    assert [each.environment["providers"] for each in results] == [{"inductor": 1}] * len(wanted)
    assert "compile=yes" in device.info().options
