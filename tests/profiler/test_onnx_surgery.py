"""Adapters in the graph of a base, against the same adapters in torch."""

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx_graphs import Adapter, Arrays, Export, Inputs, beside, fed, graph_of, halves_of, mixed, operators, sub_adapter
from torch import Tensor, nn
from transformers import PreTrainedModel

from adaptare.profiler.programs.onnx.adapters import RowHalves
from adaptare.profiler.programs.onnx.base import DATA, OnnxBase
from adaptare.profiler.programs.onnx.export import run_model, tolerance_of
from adaptare.profiler.programs.onnx.surgery import location_of
from adaptare.profiler.programs.onnx.writer import write_graph

Outputs = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], list[NDArray[np.float32]]]
MODES = ["static", "swappable", "padded", "merged", "folded"]


class Adapted(nn.Module):
    """A linear with a low-rank update beside it, as plainly as torch can say it."""

    def __init__(self, linear: nn.Linear, halves: RowHalves) -> None:
        super().__init__()
        A, B = halves
        self.linear = linear
        self.down, self.up = (nn.Linear(*half.shape, bias=False).requires_grad_(False) for half in halves)
        self.down.weight.copy_(torch.from_numpy(A.T))
        self.up.weight.copy_(torch.from_numpy(B.T))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) + self.up(self.down(x))
        return y


def adapted(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """A copy with the adapter in it."""
    clone = copy.deepcopy(model)
    for path, halves in adapter.items():
        clone.set_submodule(path, Adapted(clone.get_submodule(path), halves))
    return clone


def everywhere(model: PreTrainedModel, base: OnnxBase) -> Adapter:
    return {path: halves_of(model, path, 2) for path in base.sites}


def written(model: PreTrainedModel, base: OnnxBase, adapter: Adapter, mode: str) -> tuple[Path, Arrays]:
    """A graph with the adapter, and what it is fed with besides the inputs of the base."""
    file, every = base.folder / f"{mode}.onnx", dict(adapter)
    application: Any = "swappable" if mode == "padded" else mode
    if mode == "folded":
        every |= {path: halves_of(model, path, 0) for path in base.sites if path not in adapter}
    write_graph(sub_adapter(base, every), file, application=application)
    is_fed = mode in ("folded", "swappable", "padded")
    return file, fed(every, width=8 if mode == "padded" else 0) if is_fed else {}


def summary(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize("mode", MODES)
def test_an_adapter_in_the_graph_is_the_adapter_in_torch(
    export: Export, inputs_of: Inputs, torch_outputs: Outputs, family: str, mode: str, tmp_path: Path
) -> None:
    model, base = export(family)
    adapter, inputs = mixed(model, base), inputs_of(base, batch=3, tokens=1, past=5)
    expected, unadapted = torch_outputs(adapted(model, adapter), inputs), torch_outputs(model, inputs)
    file, more = written(model, beside(base, tmp_path), adapter, mode)
    ours = run_model(file, inputs | more)
    assert len(ours) == len(expected) == 5
    assert np.abs(expected[0] - unadapted[0]).max() > 0.1
    for own, other in zip(ours, expected, strict=True):
        assert np.abs(own - other).max() <= tolerance_of(model.config) * np.abs(other).max()


def test_rank_0_is_the_base(export: Export, inputs_of: Inputs, tmp_path: Path) -> None:
    model, base = export("llama")
    file, more = written(model, beside(base, tmp_path), mixed(model, base), "swappable")
    inputs = inputs_of(base)
    nothing = {name: value[:, :0] if name.endswith("_A") else value[:0] for name, value in more.items()}
    assert np.array_equal(run_model(file, inputs | nothing)[0], run_model(base.model, inputs)[0])


@pytest.mark.parametrize("mode", ["static", "swappable"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_an_adapter_takes_the_form_with_fewer_operators(export: Export, family: str, mode: str, tmp_path: Path) -> None:
    """Three for each site; or, where many are swappable, two and at most one that changes dimensions."""
    model, base = export(family)
    biases = 2 * (family == "qwen2")
    for adapter, joins in ((mixed(model, base), False), (everywhere(model, base), mode == "swappable")):
        file, _ = written(model, beside(base, tmp_path), adapter, mode)
        added = more_operators(file, base, biases=biases)
        products = added.pop("MatMul")
        if joins:
            assert (products, added.pop("Gemm")) == (len(adapter), len(adapter))
            assert set(added) == {"Flatten", "Reshape", "Shape", "Concat"}
            assert added.total() <= len(adapter)
        else:
            assert (products, dict(added)) == (2 * len(adapter), {"Add": len(adapter)})


def more_operators(file: Path, base: OnnxBase, *, biases: int) -> Counter[str]:
    """Operators besides those of the base, without those that split products, and biases of their parts."""
    found = operators(file)
    found.subtract(operators(base.packed))
    splits = found.pop("Split", 0)
    found["Add"] -= biases * splits
    return Counter({name: count for name, count in found.items() if count})


@pytest.mark.parametrize("mode", ["static", "swappable", "folded"])
def test_the_weights_of_the_base_are_not_copied(export: Export, mode: str, tmp_path: Path) -> None:
    model, base = export("llama")
    own = beside(base, tmp_path)
    adapter = mixed(model, base)
    file, _ = written(model, own, adapter, mode)
    constants = sum(half.nbytes for halves in adapter.values() for half in halves) if mode == "static" else 0
    assert file.stat().st_size < own.model.stat().st_size + constants + 600 * len(base.sites)
    tensors = {tensor.name: tensor for tensor in graph_of(file).initializer}
    held = {tensor.name: tensor for each in (own.model, own.packed) for tensor in graph_of(each).initializer}
    assert all(tensor == held[name] for name, tensor in tensors.items() if name in held)
    assert {location_of(tensor) for tensor in tensors.values()} <= {"", DATA}


@pytest.mark.parametrize("mode", ["swappable", "merged"])
def test_the_files_of_the_base_stay_as_they_are(export: Export, mode: str, tmp_path: Path) -> None:
    model, base = export("llama")
    own = beside(base, tmp_path)
    before = summary(tmp_path)
    written(model, own, mixed(model, base), mode)
    after = summary(tmp_path)
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == [f"{mode}.onnx", *[f"{mode}.onnx.data"] * (mode == "merged")]
