"""Programs of decoders on an accelerator: everything lies there, captured calls repeat, and all is checked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaptare.devices import torch_device
from adaptare.devices.torch_device import torch_cuda
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.torch.programs import Bindable, build

# A device of torch without any memory: what is placed elsewhere can be told apart, and nothing can be read off it.
ELSEWHERE = "meta"


class Elsewhere(TorchDispatchMode):
    """Refuses tensors that lie on the processor, except for single numbers, which kernels take as arguments."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, result)):
            if isinstance(each, torch.Tensor) and each.device.type != ELSEWHERE and each.ndim:
                raise RuntimeError(f"{func} uses a tensor of shape {tuple(each.shape)} on {each.device}")
        return result


def built(workload: Workload, **given: Any) -> Bindable:
    return build(**json.loads(TorchPrograms().program(workload).arguments), **given)


def feed(workload: Workload) -> dict[str, Any]:
    return {"phase": workload.phase, "batch": 1, "length": workload.length}


def check_placement(shape: ModelShape, scope: Any, phase: Any, mode: Any = "swappable", kind: Any = "lora") -> None:
    sites = {} if scope == "head" else {site.path: 2 for site in shape.sites}
    configuration = Configuration.of(sites, kind=kind)
    workload = Workload(shape, configuration, mode=mode, phase=phase, scope=scope, tokens=6, past=5)
    call, restore = built(workload, device=ELSEWHERE).bind(feed(workload))
    restore()
    with Elsewhere():
        output = call()
    assert output._read().device.type == ELSEWHERE


def test_nothing_of_any_family_stays_on_the_processor(shape: ModelShape) -> None:
    check_placement(shape, "model", "decode")


@pytest.mark.parametrize(
    ("scope", "phase", "mode", "kind"),
    [
        ("model", "prefill", "merged", "lora"),
        ("model", "decode", "swappable", "dora"),
        ("block", "decode", "merged", "dora"),
        ("block", "prefill", "swappable", "lora"),
        ("head", "decode", "swappable", "lora"),
    ],
)
def test_nothing_of_any_part_or_adapter_stays_on_the_processor(
    llama: ModelShape, scope: Any, phase: Any, mode: Any, kind: Any
) -> None:
    check_placement(llama, scope, phase, mode, kind)


@pytest.fixture
def fake_cuda(worker_modules: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes CUDA devices that compute on the processor."""
    monkeypatch.setattr(torch_device, "RUNTIME", "fake_cuda:TorchRuntime")
    return lambda **options: torch_cuda(threads=1, timeout_s=60, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("graphs", "phase"), [(False, "prefill"), (True, "decode")])
def test_a_session_on_an_accelerator_says_who_waits_for_whom(
    llama: ModelShape, fake_cuda: Any, graphs: bool, phase: Any, tmp_path: Path
) -> None:
    device = fake_cuda(graphs=graphs)
    swappable = Workload(llama, Configuration.uniform(llama, 4), phase=phase, past=5, tokens=6)
    wanted = [swappable, swappable.merged, replace(swappable, scope="block")]
    programs = TorchPrograms(device.info(), cache=tmp_path)
    results = profile(wanted, reference=swappable.base, device=device, stop=FixedRounds(2), seed=0, programs=programs)
    assert [each.failure for each in results] == ["", "", ""]
    assert ("graphs=yes" in device.info().options) is graphs
    assert device.info().hardware.startswith("Paper GPU (sheet_1) beside ")
    for each in results:
        assert 0 < each.environment["host_share"] <= 1
        assert each.environment["after"]["accelerator"] == {"clock_mhz": 1}


@pytest.mark.slow
def test_one_program_takes_calls_of_several_lengths_as_graphs(
    llama: ModelShape, fake_cuda: Any, tmp_path: Path
) -> None:
    adapted, outputs = Workload(llama, Configuration.uniform(llama, 2)), []
    made = [TorchPrograms(cache=tmp_path).program(replace(adapted, past=past)) for past in (3, 7)]
    program = replace(made[0], feeds=tuple(each.feeds[0] for each in made))
    for device in (fake_cuda(), fake_cuda(graphs=True)):
        with device.open() as worker:
            loaded = worker.load(program)
            for _ in range(2):
                assert [len(worker.run(loaded.program_id, feed.name, 2)) for feed in program.feeds] == [2, 2]
            outputs.append(loaded.outputs)
    assert outputs[0] == outputs[1]
