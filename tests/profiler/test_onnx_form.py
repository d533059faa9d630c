"""Files in the form that a device asks for: the same function with fixed shapes, flat products, or for phones."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx_graphs import graph_of
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from adaptare.core import InputError, ProgramError
from adaptare.devices import DeviceInfo, Program, connect, ort_cpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.measuring import group_run
from adaptare.profiler.programs.onnx import programs as onnx_programs
from adaptare.profiler.programs.onnx.form import Form, is_ort_file
from adaptare.profiler.programs.onnx.programs import OnnxPrograms

DOWN_PROJ = "model.layers.1.mlp.down_proj"
MIXED = {"model.layers.0.self_attn.q_proj": 2, "model.layers.0.mlp.down_proj": 6, DOWN_PROJ: 4}
XNNPACK = "XnnpackExecutionProvider"
IS_DEBIAN = Path("/usr/lib/python3/dist-packages/onnxruntime").is_dir()
FORMS: Mapping[str, tuple[str, ...]] = {
    "fixed": ("shapes=fixed",),
    "flat": ("shapes=flat",),
    "ort": ("format=ort",),
    "ort fixed": ("format=ort", "shapes=fixed"),
    "ort runtime": ("format=ort", "style=runtime"),
}
Made = Callable[..., OnnxPrograms]
Outputs = Callable[[Program], NDArray[np.float64]]


@pytest.fixture(scope="module")
def plain() -> DeviceInfo:
    return ort_cpu(threads=1).info()


@pytest.fixture(scope="module")
def made(onnx_cache: Path, plain: DeviceInfo) -> Made:
    """Builders of programs for a device with some more options."""
    return lambda *options: OnnxPrograms(replace(plain, options=(*plain.options, *options)), cache=onnx_cache)


@pytest.fixture
def mixed(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.of(MIXED), past=5, tokens=7, batch=2)


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("fixed", {"mode": "static"}),
        ("flat", {"mode": "swappable", "phase": "prefill"}),
        ("flat", {"scope": "block", "caches": "hot", "phase": "prefill"}),
        ("flat", {"quantisation": "int4", "phase": "prefill"}),
        ("ort", {}),
        pytest.param("ort", {"quantisation": "int4", "phase": "prefill"}, marks=pytest.mark.slow),
        pytest.param("ort fixed", {"mode": "padded"}, marks=pytest.mark.slow),
        pytest.param("ort runtime", {"mode": "static"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_form_changes_no_output(
    made: Made, outputs: Outputs, mixed: Workload, form: str, fields: dict[str, Any]
) -> None:
    workload = replace(mixed, **fields)
    ours, usual = (outputs(made(*each).program(workload)) for each in (FORMS[form], ()))
    assert np.abs(ours - usual).max() <= 1e-5 * max(1.0, np.abs(usual).max())


def test_every_size_is_a_number_and_weights_stay_where_they_are(made: Made, mixed: Workload) -> None:
    program, usual = (made(*each).program(mixed) for each in (("shapes=fixed",), ()))
    fixed = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in graph_of(program.files[0].path).input
    }
    assert all(isinstance(size, int) for shape in fixed.values() for size in shape)
    assert fixed["input_ids"] == [2, 1]
    assert fixed[f"{DOWN_PROJ}.lora_A"] == [mixed.shape.site_by_path[DOWN_PROJ].in_features, 4]
    assert program.files[1:] == usual.files[1:]
    assert [file.path.parent for file in program.files] == [usual.files[0].path.parent] * len(program.files)


def test_products_with_constants_have_two_dimensions(made: Made, mixed: Workload) -> None:
    file = made("shapes=flat").program(replace(mixed, mode="static")).files[0].path
    graph = graph_of(file)
    weights = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
    # A and B of each adapter, and the head; q, k and v of both layers are one.
    assert len(products) == len(mixed.shape.sites) - 4 + 2 * len(MIXED) + 1
    inferred = SymbolicShapeInference.infer_shapes(onnx.load(file), auto_merge=True).graph
    dimensions = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}
    assert {dimensions[node.input[0]] for node in products} == {2}


def test_free_shapes_share_a_file_and_fixed_ones_do_not(made: Made, mixed: Workload) -> None:
    others = [replace(mixed, past=7), mixed.with_configuration(Configuration.of(dict.fromkeys(MIXED, 1)))]
    for options, files in (((), 1), (("format=ort",), 1), (("shapes=fixed",), 3), (("format=ort", "shapes=fixed"), 3)):
        assert len({made(*options).need(each).program for each in (mixed, *others)}) == files


def test_a_file_for_phones_has_its_weights_and_is_made_again_only_if_it_is_truncated(
    made: Made, plain: DeviceInfo, mixed: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = made("format=ort")
    program = programs.program(mixed)
    (file,) = program.files
    assert file.name.endswith("-Fixed-amd64.ort")
    assert is_ort_file(file.path)
    assert not is_ort_file(file.path.with_name("model.onnx"))
    phone = replace(plain, hardware="Some phone (aarch64)", options=(*plain.options, "format=ort"))
    assert Form.asked_by(phone).file(Path("a.onnx"), {}) == Path("a-Fixed-arm.ort")
    whole = file.path.read_bytes()

    def convert(*_: object) -> None:
        raise ProgramError("made again")

    monkeypatch.setattr(Form, "_convert", convert)
    assert programs.program(mixed) == program
    file.path.write_bytes(b"\0\0")
    with pytest.raises(ProgramError, match="made again"):
        programs.program(mixed)
    file.path.write_bytes(whole)


def test_weights_beyond_the_format_are_refused(made: Made, mixed: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_programs, "LARGEST_BYTES", 1000)
    with pytest.raises(InputError, match=r"a file of the ort format holds 2; quantise the base \(int4\)"):
        made("format=ort").check(mixed)


def measured(spelling: str, llama: ModelShape, cache: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Any:
    """Measurements of every mode, in a real session on a device."""
    monkeypatch.setattr(group_run, "VISIT_S", 1e-4)
    device = connect(spelling)
    programs = OnnxPrograms(device.info(), cache=cache)
    workload = Workload(llama, Configuration.of(MIXED), past=5, **fields)
    wanted = [replace(workload, mode=mode) for mode in programs.modes(workload)]
    return profile(wanted, reference=workload.base, device=device, stop=FixedRounds(2), seed=0, programs=programs)


@pytest.mark.slow
def test_a_session_on_files_for_phones(llama: ModelShape, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("ort-mobile:threads=1", llama, onnx_cache, monkeypatch, quantisation="int4")
    assert [each.failure for each in found] == [""] * 4
    assert {tuple(each.environment["providers"]) for each in found} == {("CPUExecutionProvider",)}
    assert min(sum(each.environment["providers"].values()) for each in found) > 25


@pytest.mark.xnnpack
@pytest.mark.skipif(not IS_DEBIAN, reason="Debian's python3-onnxruntime is not installed")
def test_a_session_on_xnnpack_places_every_linear_there(
    llama: ModelShape, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = "ort-xnnpack:python=/usr/bin/python3,threads=1,timeout_s=60"
    found = {each.workload.mode: each for each in measured(device, llama, onnx_cache, monkeypatch)}
    assert {mode: each.failure for mode, each in found.items()} == dict.fromkeys(found, "")
    linears = len(llama.sites) + 1
    placed = {mode: each.environment["providers"][XNNPACK] for mode, each in found.items()}
    assert placed["merged"] >= linears
    assert placed["static"] == linears + len(MIXED)  # A; B is multiplied and added by one operator, of the CPU provider
    assert placed["swappable"] == placed["merged"]  # its A and B are inputs, which XNNPACK does not take
