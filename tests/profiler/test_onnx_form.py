"""Files in the form that a device asks for: the same function with fixed shapes, flat products, or for phones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

from adaptare.core import InputError, ProgramError
from adaptare.devices import DeviceInfo, Program, Worker, connect, ort_cpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.measuring import group_run
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


@pytest.fixture(scope="module")
def plain() -> DeviceInfo:
    return ort_cpu(threads=1).info()


@pytest.fixture(scope="module")
def made(onnx_cache: Path, plain: DeviceInfo) -> Made:
    """Builders of programs for a device with some more options."""
    return lambda *options: OnnxPrograms(replace(plain, options=(*plain.options, *options)), cache=onnx_cache)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with ort_cpu(threads=1, timeout_s=60).open() as opened:
        yield opened


@pytest.fixture
def mixed(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.of(MIXED), past=5, tokens=7, batch=2)


def outputs(worker: Worker, program: Program) -> np.ndarray:
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return np.array(loaded.outputs[program.feeds[0].name])


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["swappable", "static", "padded", "merged"])
def test_a_form_changes_no_output(made: Made, worker: Worker, mixed: Workload, form: str, mode: Any) -> None:
    # A conversion takes a second, and files of fixed shapes need one for each phase.
    for phase in ("decode",) if form == "ort fixed" else ("prefill", "decode"):
        workload = replace(mixed, mode=mode, phase=phase)
        ours, usual = (outputs(worker, made(*each).program(workload)) for each in (FORMS[form], ()))
        assert np.abs(ours - usual).max() <= 1e-5 * max(1.0, np.abs(usual).max())


@pytest.mark.parametrize("form", ["flat", "ort"])
@pytest.mark.parametrize(("scope", "quantisation"), [("block", "none"), ("model", "int4")])
def test_nor_of_a_part_or_a_quantised_base(
    made: Made, worker: Worker, mixed: Workload, form: str, scope: Any, quantisation: Any
) -> None:
    workload = replace(mixed, scope=scope, caches="hot", quantisation=quantisation, phase="prefill")
    ours, usual = (outputs(worker, made(*each).program(workload)) for each in (FORMS[form], ()))
    assert np.abs(ours - usual).max() <= 1e-5 * max(1.0, np.abs(usual).max())


def shapes(file: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(file, load_external_data=False).graph
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in graph.input
    }


def test_every_size_is_a_number_and_weights_stay_where_they_are(made: Made, mixed: Workload) -> None:
    program, usual = (made(*each).program(mixed) for each in (("shapes=fixed",), ()))
    fixed = shapes(program.files[0].path)
    assert all(isinstance(size, int) for shape in fixed.values() for size in shape)
    assert fixed["input_ids"] == [2, 1]
    assert fixed[f"{DOWN_PROJ}.lora_A"] == [mixed.shape.site_by_path[DOWN_PROJ].in_features, 4]
    assert program.files[1:] == usual.files[1:]
    assert [file.path.parent for file in program.files] == [usual.files[0].path.parent] * len(program.files)


def test_products_with_constants_have_two_dimensions(made: Made, mixed: Workload) -> None:
    file = made("shapes=flat").program(replace(mixed, mode="static")).files[0].path
    graph = onnx.load(file, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
    # A and B of each adapter, and the head; q, k and v of both layers are one.
    assert len(products) == len(mixed.shape.sites) - 4 + 2 * len(MIXED) + 1
    inferred = SymbolicShapeInference.infer_shapes(onnx.load(file), auto_merge=True).graph
    dimensions = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}
    assert {dimensions[node.input[0]] for node in products} == {2}


@pytest.mark.slow
def test_free_shapes_share_a_file_and_fixed_ones_do_not(made: Made, mixed: Workload) -> None:
    others = [replace(mixed, past=7), mixed.with_configuration(Configuration.of(dict.fromkeys(MIXED, 1)))]
    for options, files in (((), 1), (("format=ort",), 1), (("shapes=fixed",), 3), (("format=ort", "shapes=fixed"), 3)):
        programs = made(*options)
        assert len({programs.program(each).source for each in (mixed, *others)}) == files
        assert len({programs.need(each).program for each in (mixed, *others)}) == files


def test_a_file_for_phones_has_its_weights_and_is_made_once(
    made: Made, mixed: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = made("format=ort")
    program = programs.program(mixed)
    (file,) = program.files
    assert file.name.endswith("-Fixed-amd64.ort")
    assert is_ort_file(file.path)
    assert not is_ort_file(file.path.with_name("model.onnx"))

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(Form, "_convert", refuse)
    assert programs.program(mixed) == program
    assert not list(file.path.parent.glob("*unfinished*"))


def test_a_file_is_made_for_the_processor_of_the_device(made: Made, plain: DeviceInfo, mixed: Workload) -> None:
    phone = replace(plain, hardware="Some phone (aarch64)", options=(*plain.options, "format=ort"))
    assert Form.asked_by(phone).file(Path("a.onnx"), {}) == Path("a-Fixed-arm.ort")
    assert Form.asked_by(plain).file(Path("a.onnx"), {}) == Path("a.onnx")


def test_a_truncated_file_is_made_again(made: Made, mixed: Workload) -> None:
    programs = made("format=ort", "style=runtime")
    path = programs.program(mixed).files[0].path
    path.write_bytes(b"\0\0")
    assert programs.program(mixed).files[0].path == path
    assert is_ort_file(path)


def test_the_words_of_the_converter_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    form = Form(True, "free", "Fixed", "amd64")
    with pytest.raises(ProgramError, match=r"bad\.onnx cannot be converted to the ort format: .*bad\.onnx"):
        form.write(tmp_path / "bad.onnx", {}, tmp_path / "bad.ort")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.onnx"]


def test_weights_beyond_the_format_are_refused(made: Made, mixed: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptare.profiler.programs.onnx import programs

    monkeypatch.setattr(programs, "LARGEST_BYTES", 1000)
    with pytest.raises(
        InputError, match=r"are 0\.0 GiB, and a file of the ort format holds 2; quantise the base \(int4\)"
    ):
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
@pytest.mark.parametrize(("options", "quantisation"), [("", "int4"), (",shapes=fixed,style=runtime", "none")])
def test_a_session_on_files_for_phones(
    llama: ModelShape, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch, options: str, quantisation: Any
) -> None:
    found = measured(f"ort-mobile:threads=1{options}", llama, onnx_cache, monkeypatch, quantisation=quantisation)
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
