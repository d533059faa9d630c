"""Adapter files for a folder of onnxruntime-genai that a user already has, whatever it names its inputs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from adaptare.core import DeviceError, InputError
from adaptare.profiler import Configuration
from adaptare.search import Origin, export_adapter
from adaptare.search.export.kinds import ExportOptions
from adaptare.search.super_adapter.model import SuperAdapter

Q, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"
CONFIG = Configuration.of({Q: 2, DOWN: 4})
Change = Callable[[onnx.ModelProto, dict[str, dict[str, object]]], None]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def folder(trained: SuperAdapter, tiny_base: Path, place: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Folder of somebody else, made of an export by a change of its graph and settings."""
    whole = place / "whole"
    if not whole.exists():
        options = ExportOptions(every_site=True, cache=tiny_base.parent / "cache")
        export_adapter(trained.sub_adapter(CONFIG, Origin(tiny_base)), whole, kind="genai", options=options)

    def changed(change: Change) -> Path:
        shutil.copytree(whole, tmp_path / "theirs")
        graph = onnx.load(tmp_path / "theirs" / "model.onnx", load_external_data=False)
        settings = json.loads((whole / "genai_config.json").read_text())
        change(graph, settings)
        onnx.save(graph, tmp_path / "theirs" / "model.onnx")
        (tmp_path / "theirs" / "genai_config.json").write_text(json.dumps(settings))
        return tmp_path / "theirs"

    return changed


def rename(graph: onnx.ModelProto, name: Callable[[str], str]) -> None:
    for node in graph.graph.node:
        node.input[:] = [name(each) if ".lora_" in each else each for each in node.input]
    for value in (*graph.graph.input, *graph.graph.initializer):
        value.name = name(value.name) if ".lora_" in value.name else value.name


def only(graph: onnx.ModelProto, kept: Callable[[str], bool]) -> None:
    """Removes defaults of adapters."""
    for tensor in [each for each in graph.graph.initializer if ".lora_" in each.name and not kept(each.name)]:
        graph.graph.initializer.remove(tensor)


def as_olive(graph: onnx.ModelProto, settings: object) -> None:
    rename(graph, lambda name: f"{name}.weight")


def as_builder(graph: onnx.ModelProto, settings: object) -> None:
    rename(graph, lambda name: f"{name.replace('self_attn', 'attn')}.MatMul.weight")


def as_required(graph: onnx.ModelProto, settings: object) -> None:
    """Inputs of one rank, without defaults."""
    as_olive(graph, settings)
    only(graph, lambda name: False)
    for value in graph.graph.input:
        if ".lora_" in value.name:
            size = value.type.tensor_type.shape.dim["lora_A" in value.name]
            size.dim_value = 4


def write(trained: SuperAdapter, base: Path, model: Path, out: Path) -> float | None:
    adapted = trained.sub_adapter(CONFIG, Origin(base))
    return export_adapter(adapted, out, kind="onnx-adapter", options=ExportOptions(adapter_of=model))


@pytest.mark.parametrize("change", [as_olive, as_builder, as_required])
def test_an_adapter_computes_in_the_folder_what_it_does_in_torch(
    change: Change, folder: Callable[[Change], Path], trained: SuperAdapter, tiny_base: Path, tmp_path: Path
) -> None:
    theirs = folder(change)
    difference = write(trained, tiny_base, theirs, tmp_path / "out")
    assert difference is not None
    assert difference < 1e-4
    names = {value.name for value in onnx.load(theirs / "model.onnx", load_external_data=False).graph.input}
    import onnxruntime

    content = onnxruntime.AdapterFormat.read_adapter(str(tmp_path / "out" / "adapter.onnx_adapter")).get_parameters()
    assert set(content) <= names
    assert len(content) == (2 * 14 if change is as_required else 4)


def test_other_weights_in_the_folder_are_seen(
    folder: Callable[[Change], Path], trained: SuperAdapter, tiny_base: Path, tmp_path: Path
) -> None:
    theirs = folder(as_olive)
    with torch.no_grad():
        next(iter(trained.model.parameters())).mul_(2)
    with pytest.raises(DeviceError, match=r"differ from torch's by .*of another base"):
        write(trained, tiny_base, theirs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def narrower(graph: onnx.ModelProto, settings: dict[str, dict[str, object]]) -> None:
    settings["model"]["decoder"]["hidden_size"] = 32  # type: ignore[index]


def shallower(graph: onnx.ModelProto, settings: dict[str, dict[str, object]]) -> None:
    settings["model"]["decoder"]["num_hidden_layers"] = 1  # type: ignore[index]


def other_width(graph: onnx.ModelProto, settings: object) -> None:
    (value,) = (each for each in graph.graph.input if each.name == f"{DOWN}.lora_A")
    value.type.tensor_type.shape.dim[0].dim_value = 48


def without_site(graph: onnx.ModelProto, settings: object) -> None:
    rename(graph, lambda name: name.replace(DOWN, "model.layers.0.mlp.else_proj"))


def without_adapters(graph: onnx.ModelProto, settings: object) -> None:
    rename(graph, lambda name: name.replace(".lora_", ".update_"))


def of_rank_two(graph: onnx.ModelProto, settings: object) -> None:
    (value,) = (each for each in graph.graph.input if each.name == f"{DOWN}.lora_A")
    value.type.tensor_type.shape.dim[1].dim_value = 2


def half(graph: onnx.ModelProto, settings: object) -> None:
    for value in graph.graph.input:
        if ".lora_" in value.name:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (narrower, "is of another base: its hidden_size is 32, and that of the adapter's base is 16"),
        (shallower, "is of another base: its num_hidden_layers is 1, and that of the adapter's base is 2"),
        (other_width, f"is of another base: {DOWN} takes 48 values there, and 32 in the adapter"),
        (without_site, f"takes no adapter on {DOWN}; it takes them on 14 others, such as"),
        (without_adapters, "takes no adapters: its graph has no input such as"),
        (of_rank_two, f"takes rank 2 at {DOWN}, and the adapter has 4; cut the adapter to that rank"),
        (half, "takes adapters of type uint8, and only float32 and float16 are written"),
    ],
)
def test_a_folder_that_the_adapter_does_not_fit_is_refused(
    change: Change,
    message: str,
    folder: Callable[[Change], Path],
    trained: SuperAdapter,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError) as error:
        write(trained, tiny_base, folder(change), tmp_path / "out")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(trained: SuperAdapter, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no folder of onnxruntime-genai: it has no genai_config\.json"):
        write(trained, tiny_base, tiny_base, tmp_path / "out")
    (tmp_path / "genai_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"its genai_config\.json names no decoder"):
        write(trained, tiny_base, tmp_path, tmp_path / "out")
    decoder = {"filename": "gone.onnx", "hidden_size": 16}
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": {"decoder": decoder}}))
    with pytest.raises(InputError, match=r"gone\.onnx' cannot be read as a graph"):
        write(trained, tiny_base, tmp_path, tmp_path / "out")


def test_sixteen_bit_inputs_get_sixteen_bits() -> None:
    from adaptare.profiler.programs.genai_folder import AdapterInputs, as_inputs
    from adaptare.profiler.workloads import Halves

    inputs = {Q: AdapterInputs(("a", "b"), 3, 5, None, np.dtype(np.float16), optional=True)}
    values = as_inputs({Q: Halves(np.ones((2, 3), np.float32), np.ones((5, 2), np.float32), 0.5)}, inputs, "theirs")
    assert {name: (value.dtype.name, value.shape) for name, value in values.items()} == {
        "a": ("float16", (3, 2)),
        "b": ("float16", (2, 5)),
    }
