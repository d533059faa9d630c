"""Adapters in the graph of a base, against the same adapters in torch."""

import copy
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from packing import joined, operators
from torch import Tensor, nn
from transformers import PreTrainedModel

from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, ProgramFile, Work, ort_cpu, program_file
from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Configuration
from adaptare.profiler.programs.onnx.adapters import RowHalves
from adaptare.profiler.programs.onnx.base import DATA, OnnxBase, adapter_inputs
from adaptare.profiler.programs.onnx.export import run_model, tolerance_of
from adaptare.profiler.programs.onnx.rows import OPEN, ROWS, TOKENS, WIDTH
from adaptare.profiler.programs.onnx.surgery import location_of, read_weight
from adaptare.profiler.programs.onnx.writer import write_graph
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter

Adapter = dict[str, RowHalves]
Arrays = dict[str, NDArray[Any]]
Export = Callable[..., tuple[PreTrainedModel, OnnxBase]]
Inputs = Callable[..., Arrays]
Logits = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]
Outputs = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], list[NDArray[np.float32]]]

TOLERANCE = 1e-4
MODES = ["static", "swappable", "padded", "merged", "folded"]
Q_PROJ, DOWN_PROJ = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


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


def halves_of(width_in: int, rank: int, width_out: int, seed: int = 0) -> RowHalves:
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((width_in, rank)), 0.3 * rng.standard_normal((rank, width_out))
    return (A * width_in**-0.5).astype(np.float32), B.astype(np.float32)


def widths_of(model: PreTrainedModel, base: OnnxBase) -> dict[str, tuple[int, int]]:
    linears = {path: model.get_submodule(path) for path in base.sites}
    return {path: (linear.in_features, linear.out_features) for path, linear in linears.items()}


def mixed(model: PreTrainedModel, base: OnnxBase) -> Adapter:
    """Ranks of 1 to 6 on half of the sites, drawn at random."""
    rng = np.random.default_rng(len(base.sites))
    widths = widths_of(model, base)
    chosen = rng.permutation(list(base.sites))[: len(base.sites) // 2]
    return {str(path): halves_of(widths[path][0], rng.integers(1, 7), widths[path][1], 9) for path in sorted(chosen)}


def beside(base: OnnxBase, folder: Path) -> OnnxBase:
    """The same base in another folder, where files may be put."""
    shutil.copytree(base.folder, folder, dirs_exist_ok=True)
    return OnnxBase.load(folder)


def fed(adapter: Adapter, *, width: int = 0) -> Arrays:
    """The inputs of an adapter, filled up with zeros to `width` ranks."""
    found = {}
    for path, (A, B) in adapter.items():
        zeros = max(0, width - A.shape[1])
        padded = np.pad(A, ((0, 0), (0, zeros))), np.pad(B, ((0, zeros), (0, 0)))
        found.update(zip(adapter_inputs(path), padded, strict=True))
    return found


def written(model: PreTrainedModel, base: OnnxBase, adapter: Adapter, mode: str) -> tuple[Path, Arrays]:
    """A graph with the adapter, and what it is fed with besides the inputs of the base."""
    file, inputs, every = base.folder / f"{mode}.onnx", Arrays(), dict(adapter)
    application: Any = "swappable" if mode == "padded" else mode
    if mode == "folded":
        sizes = {path: size for path, size in widths_of(model, base).items() if path not in adapter}
        every |= {path: halves_of(width_in, 0, width_out) for path, (width_in, width_out) in sizes.items()}
    if mode in ("folded", "swappable", "padded"):
        inputs = fed(every, width=8 if mode == "padded" else 0)
    halves = {path: Halves(A.T, B.T) for path, (A, B) in every.items()}
    write_graph(SubAdapter(Configuration(), halves, base), file, application=application)
    return file, inputs


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


def test_a_worker_feeds_one_session_with_adapters_of_several_ranks(
    export: Export, inputs_of: Inputs, torch_logits: Logits, tmp_path: Path
) -> None:
    model, base = export("llama")
    (width_in, width_out), ranks = widths_of(model, base)[DOWN_PROJ], (0, 1, 3, 8)
    file, _ = written(model, beside(base, tmp_path), {DOWN_PROJ: halves_of(width_in, 1, width_out)}, "swappable")
    specs = {rank: specs_of(base, rank, width_in, width_out) for rank in ranks}
    feeds = [Feed(f"rank {rank}", canonical_json({"inputs": specs[rank]}), Work(1, 1, 1)) for rank in ranks]
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        loaded = worker.load(Program("adapter", file.name, "{}", tuple(feeds), beside_it(file)))
    assert len(set(loaded.outputs.values())) == len(ranks)
    for rank in ranks:
        arrays = {name: filled(name, spec) for name, spec in specs[rank].items()}
        halves = tuple(arrays.pop(name) for name in adapter_inputs(DOWN_PROJ))
        expected = torch_logits(adapted(model, {DOWN_PROJ: halves}) if rank else model, arrays)
        assert loaded.outputs[f"rank {rank}"] == pytest.approx(expected.ravel().tolist(), abs=TOLERANCE)


def beside_it(file: Path) -> tuple[ProgramFile, ...]:
    """A graph and the weights of its base."""
    return tuple(program_file(each) for each in (file, *file.parent.glob("*.data")))


def specs_of(base: OnnxBase, rank: int, width_in: int, width_out: int) -> dict[str, dict[str, Any]]:
    """How a worker makes the inputs of a base and of an adapter on the last linear."""
    shapes = {port.name: port.sizes(batch=1, tokens=4, past=3) for port in base.inputs}
    specs = {name: {"dtype": "float32", "shape": shape, "uniform": 1.7, "seed": 5} for name, shape in shapes.items()}
    specs["attention_mask"] = {"dtype": "int64", "shape": shapes["attention_mask"], "constant": 1}
    specs["input_ids"] = {"dtype": "int64", "shape": shapes["input_ids"], "integers": 64, "seed": 5}
    for name, shape in zip(adapter_inputs(DOWN_PROJ), ([width_in, rank], [rank, width_out]), strict=True):
        specs[name] = {"dtype": "float32", "shape": shape, "uniform": 0.5, "seed": 6}
    return specs


def test_rank_0_is_the_base(export: Export, inputs_of: Inputs, tmp_path: Path) -> None:
    model, base = export("llama")
    file, more = written(model, beside(base, tmp_path), mixed(model, base), "swappable")
    inputs = inputs_of(base)
    nothing = {name: value[:, :0] if name.endswith("_A") else value[:0] for name, value in more.items()}
    assert np.array_equal(run_model(file, inputs | nothing)[0], run_model(base.model, inputs)[0])


def test_each_site_may_have_a_rank_of_its_own(export: Export, tmp_path: Path) -> None:
    model, base = export("llama")
    file, _ = written(model, beside(base, tmp_path), mixed(model, base), "swappable")
    ports = {port.name: port for port in onnx.load(file, load_external_data=False).graph.input}
    for path in mixed(model, base):
        down, up = (
            [size.dim_param or size.dim_value for size in ports[name].type.tensor_type.shape.dim]
            for name in adapter_inputs(path)
        )
        assert (down[1], up[0]) == (f"rank.{path}", f"rank.{path}")
        assert (down[0], up[1]) == widths_of(model, base)[path]


@pytest.mark.parametrize("mode", ["static", "swappable"])
def test_an_adapter_takes_the_form_with_fewer_operators(export: Export, family: str, mode: str, tmp_path: Path) -> None:
    """Three for each site, or two and some that change dimensions, no more than the sums that they save."""
    model, base = export(family)
    everywhere = {path: halves_of(*widths[:1], 2, *widths[1:]) for path, widths in widths_of(model, base).items()}
    for adapter in (mixed(model, base), everywhere, dict(list(everywhere.items())[:1])):
        file, _ = written(model, beside(base, tmp_path), adapter, mode)
        added = more(file, base, biases=2 * (family == "qwen2"))
        products = added.pop("MatMul")
        if added["Gemm"]:
            assert mode == "swappable"
            assert (products, added.pop("Gemm")) == (len(adapter), len(adapter))
            assert set(added) == {"Flatten", "Reshape", "Shape", "Concat"}
            assert added.total() <= len(adapter)
        else:
            assert (products, dict(added)) == (2 * len(adapter), {"Add": len(adapter)})


@pytest.mark.parametrize(("mode", "joins"), [("static", False), ("swappable", True)])
def test_many_swappable_adapters_are_added_in_two_dimensions(
    export: Export, mode: str, joins: bool, tmp_path: Path
) -> None:
    model, base = export("llama")
    everywhere = {path: halves_of(*widths[:1], 2, *widths[1:]) for path, widths in widths_of(model, base).items()}
    file, _ = written(model, beside(base, tmp_path), everywhere, mode)
    assert more(file, base)["Gemm"] == joins * len(everywhere)


def more(file: Path, base: OnnxBase, *, biases: int = 0) -> Counter[str]:
    """Operators besides those of the base, without those that split products, and biases of their parts."""
    found = operators(file)
    found.subtract(operators(base.packed))
    splits = found.pop("Split", 0)
    found["Add"] -= biases * splits
    return Counter({name: count for name, count in found.items() if count})


@pytest.mark.parametrize("mode", ["static", "swappable"])
def test_a_site_without_adapter_is_as_it_was(export: Export, mode: str, tmp_path: Path) -> None:
    """No node, input or constant that is new speaks of it, and those that are old are the same, but for q, k and v."""
    model, base = export("llama")
    adapter = mixed(model, base)
    file, _ = written(model, beside(base, tmp_path), adapter, mode)
    before, after = parts(base.model), parts(file)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed
    packed = ["GroupQueryAttention", *(f"{part}_proj" for part in ("q", "k", "v", "qkv"))]
    assert [
        name
        for name in changed
        if not any(f"{path}/" in name or f"{path}." in f"{name}." for path in adapter)
        and not any(part in name for part in packed)
    ] == []


def parts(file: Path) -> dict[str, str]:
    """Nodes by their names, and inputs and constants by theirs, but for dimensions and what changes them."""
    graph = onnx.load(file, load_external_data=False).graph
    every = (*graph.input, *graph.initializer, *graph.node)
    named = {value.name: re.sub(f"{ROWS}|{OPEN}", "", str(value)) for value in every}
    changing = (TOKENS, WIDTH, "Flatten")
    return {name: text for name, text in named.items() if not any(word in text for word in changing)}


@pytest.mark.parametrize("mode", ["static", "swappable", "folded"])
def test_the_weights_of_the_base_are_not_copied(export: Export, mode: str, tmp_path: Path) -> None:
    model, base = export("llama")
    own = beside(base, tmp_path)
    adapter = mixed(model, base)
    file, _ = written(model, own, adapter, mode)
    constants = sum(half.nbytes for halves in adapter.values() for half in halves) if mode == "static" else 0
    assert file.stat().st_size < own.model.stat().st_size + constants + 600 * len(base.sites)
    tensors = {tensor.name: tensor for tensor in initializers(file)}
    held = {tensor.name: tensor for each in (own.model, own.packed) for tensor in initializers(each)}
    assert all(tensor == held[name] for name, tensor in tensors.items() if name in held)
    assert {location_of(tensor) for tensor in tensors.values()} <= {"", DATA}


def test_merged_weights_are_the_sum(export: Export, tmp_path: Path) -> None:
    model, base = export("llama")
    adapter = mixed(model, base)
    file, _ = written(model, beside(base, tmp_path), adapter, "merged")
    sums = {site.weight: model.get_submodule(path).weight.numpy().T for path, site in base.sites.items()}
    sums |= {base.sites[path].weight: sums[base.sites[path].weight] + A @ B for path, (A, B) in adapter.items()}
    tensors = {tensor.name: tensor for tensor in initializers(file)}
    for name, expected in joined(sums).items():
        assert np.array_equal(read_weight(tensors[name], file.parent), expected)


def initializers(file: Path) -> Any:
    return onnx.load(file, load_external_data=False).graph.initializer


@pytest.mark.parametrize("mode", MODES)
def test_the_files_of_the_base_stay_as_they_are(export: Export, mode: str, tmp_path: Path) -> None:
    model, base = export("llama")
    own = beside(base, tmp_path)
    before = summary(tmp_path)
    written(model, own, mixed(model, base), mode)
    after = summary(tmp_path)
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == [f"{mode}.onnx", *[f"{mode}.onnx.data"] * (mode == "merged")]


def test_a_bias_is_added_behind_the_adapter(export: Export, tmp_path: Path) -> None:
    model, base = export("qwen2")
    file, _ = written(model, beside(base, tmp_path), {Q_PROJ: halves_of(32, 2, 32)}, "swappable")
    nodes = list(onnx.load(file, load_external_data=False).graph.node)
    (place,) = (index for index, node in enumerate(nodes) if node.name == f"{Q_PROJ}/add")
    assert [node.op_type for node in nodes[place - 4 : place + 1]] == ["MatMul", "Split", "MatMul", "MatMul", "Add"]
    (bias,) = (node for node in nodes if nodes[place].output[0] in node.input)
    assert bias.op_type == "Add"
