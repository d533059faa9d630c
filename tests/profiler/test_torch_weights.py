"""Files of weights that torch programs load: those of the random model, with the adapter in them where it is merged."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptare.devices import Program, TorchCpu
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.models import disk_cache
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.torch.programs import Bindable, build

PATH = "model.layers.1.mlp.down_proj"


def adapted(shape: ModelShape, **fields: Any) -> Workload:
    return Workload(shape, Configuration.of({PATH: 4}), past=5, **fields)


def from_file(program: Program) -> Bindable:
    return build(**json.loads(program.arguments), folder=str(program.files[0].path.parent))


def in_memory(program: Program) -> Bindable:
    return build(**json.loads(program.arguments))


def outputs(loaded: Bindable) -> list[float]:
    call, restore = loaded.bind({"phase": "decode", "batch": 1, "length": 5})
    restore()
    found: list[float] = call().tolist()
    return found


@pytest.mark.parametrize("mode", ["swappable", "merged"])
@pytest.mark.parametrize("scope", ["model", "block"])
def test_a_file_gives_what_memory_gives(shape: ModelShape, tmp_path: Path, mode: Any, scope: Any) -> None:
    path = next(site.path for site in shape.sites if site.layer == 0)
    workload = Workload(shape, Configuration.of({path: 4}), mode=mode, scope=scope, past=5)
    program = TorchPrograms(cache=tmp_path).program(workload)
    assert [file.name for file in program.files] == ["config.json", "model.safetensors"]
    assert outputs(from_file(program)) == pytest.approx(outputs(in_memory(program)), abs=1e-6)


def test_a_base_and_its_swappable_adapters_share_a_file_and_a_merged_one_has_its_own(
    llama: ModelShape, tmp_path: Path
) -> None:
    programs, workload = TorchPrograms(cache=tmp_path), adapted(llama)
    base, swappable, merged = (programs.program(each).files for each in (workload.base, workload, workload.merged))
    assert base == swappable != merged


def test_a_file_is_made_once(llama: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = TorchPrograms(cache=tmp_path).program(adapted(llama)).files

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this was made already")

    monkeypatch.setattr(disk_cache, "cached_folder", refuse)
    assert TorchPrograms(cache=tmp_path).program(adapted(llama)).files == before


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_file_that_had_to_make_room_is_made_again(llama: ModelShape, tmp_path: Path, lost: str) -> None:
    before = TorchPrograms(cache=tmp_path).program(adapted(llama)).files
    (before[0].path.parent / lost).unlink()
    assert TorchPrograms(cache=tmp_path).program(adapted(llama)).files == before


def test_copies_share_no_weights_although_they_come_from_one_file(llama: ModelShape, tmp_path: Path) -> None:
    program = TorchPrograms(cache=tmp_path).program(adapted(llama, scope="block"))
    folder = str(program.files[0].path.parent)
    first, second = (build(**json.loads(program.arguments), folder=folder, copy=copy) for copy in (1, 2))
    places = [{each.data_ptr() for each in copy._base.parameters()} for copy in (first, second)]
    assert places[0] & places[1] == set()


def test_the_precision_of_a_file_is_that_of_the_workload(llama: ModelShape, tmp_path: Path) -> None:
    program = TorchPrograms(cache=tmp_path).program(adapted(llama, dtype="bfloat16"))
    assert {each.dtype for each in from_file(program)._base.parameters()} == {torch.bfloat16}


@pytest.mark.slow
def test_a_worker_loads_the_file(llama: ModelShape, tmp_path: Path) -> None:
    programs, workload = TorchPrograms(cache=tmp_path), adapted(llama)
    with TorchCpu(threads=1).open() as worker:
        outputs = {
            mode: worker.load(programs.program(replace(workload, mode=mode))).outputs[replace(workload, mode=mode).hash]
            for mode in ("swappable", "merged")
        }
    assert outputs["swappable"] == pytest.approx(outputs["merged"], abs=1e-4)
