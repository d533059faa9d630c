"""Benchmarks that judge `adaptare overhead` from outside: options, arithmetic, and the plain processes."""

import ast
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from genai_folder import genai_folder
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from adaptare.profiler.models.model_cache import tiny_model
from adaptare.profiler.programs.onnx.base import write_onnx_adapter
from adaptare.testing.program_builder import SHAPE

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
STOCK = ("genai", "llama", "onnx", "openvino", "torch")
PLAIN = (*(f"stock_{name}_process" for name in STOCK), "optimum_process")


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def stock() -> Any:
    return importlib.import_module("stock_process")


@pytest.fixture
def digits() -> Any:
    return importlib.import_module("seconds_per_digit")


def inside(stock: Any, **changed: Any) -> dict[str, Any]:
    """A cell that agrees."""
    return {"equivalent": True, "seconds_equivalent": True, **changed}


def run(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a plain process prints, without a process of its own."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    importlib.import_module(name).main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def printed(overhead: float, base_s: float) -> dict[str, Any]:
    """One run of the command."""
    row = {"mode": "swappable", "over_base": {"middle": overhead}, "base_s": base_s}
    return {"rows": [row], "failures": []}


def test_the_interval_of_a_mean_is_that_of_scipy(stock: Any) -> None:
    samples = np.random.default_rng(0).normal(0.2, 0.05, 8)
    expected = stats.ttest_1samp(samples, 0).confidence_interval(0.95)
    assert stock.mean_interval(samples) == pytest.approx((expected.low, samples.mean(), expected.high))


def test_a_drift_of_the_machine_is_no_difference(stock: Any) -> None:
    drift = [1.0, 1.3, 0.8, 1.1]
    ours = [printed(0.25, 0.01 * factor) for factor in drift]
    theirs = [{"base": 0.01 * factor, "swappable": 0.0125 * factor} for factor in drift]
    row = stock.row_of(stock.CELLS[0], ours, theirs)
    assert (row["lower"], row["upper"]) == pytest.approx((0, 0), abs=1e-12)
    assert (row["seconds_lower"], row["seconds_upper"]) == pytest.approx((1, 1))


def test_blocks_compare_the_command_with_plain_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine becomes slower from process to process; the command has an offset in one cell."""
    blocks = importlib.import_module("stock_blocks")
    phases, seconds = ("prefill", "decode", "further"), {"base": 1.0, "adapter": 1.25}
    speed, run = [1.0], []

    def plain(words: list[str], _: Any) -> dict[str, float]:
        run.append(words[0])
        speed[0] += 0.1
        return dict.fromkeys(phases, seconds[words[0]] * speed[0])

    monkeypatch.setattr(blocks, "plain", plain)
    monkeypatch.setattr(blocks, "drawn_size", lambda rng: 4096)
    command = {"prefill, rank 8": 0.25, "decode, rank 8": 0.35}
    processes = {blocks.BASE: ["base"], "rank 8": ["adapter"]}
    file = tmp_path / "blocks.json"
    blocks.compared({}, lambda seed: blocks.measured_block(lambda: command, processes, seed), 2, file)
    blocks.compared({}, lambda seed: blocks.measured_block(lambda: command, processes, seed), 1, file)
    found = json.loads(file.read_text())
    assert run == ["base", "adapter", "base"] * 3
    assert [block["stock"]["further, rank 8"] for block in found["blocks"]] == pytest.approx([0.25] * 3)
    cells = {row["cell"]: row for row in found["cells"]}
    assert [cells[name]["equivalent"] for name in command] == [True, False]
    assert cells["decode, rank 8"]["difference"] == pytest.approx(0.1)
    assert len(blocks.lines(found)) == 2
    with pytest.raises(SystemExit, match="it has other results, so name another file"):
        blocks.compared({"quantisation": "Q8_0"}, lambda seed: pytest.fail("measured"), 1, file)
    assert json.loads(file.read_text()) == found


def test_seconds_that_nobody_gets_are_seen_where_overheads_agree(stock: Any) -> None:
    steps = (0.99, 1.0, 1.01, 1.0, 0.995, 1.005, 1.0, 1.01)
    ours = [printed(0.25 * step, 0.0101) for step in steps]
    theirs = [{"base": 0.01244 * step, "swappable": 1.25 * 0.01244 * step} for step in reversed(steps)]
    row = stock.row_of(stock.CELLS[0], ours, theirs)
    assert (row["equivalent"], row["seconds_equivalent"]) == (True, False)
    assert row["seconds_ratio"] == pytest.approx(0.0101 / 0.01244, rel=0.01)
    assert row["stock_overhead"] == pytest.approx(0.25)
    assert stock.shown(row).endswith("NOT SHOWN")
    assert "] agrees;" in stock.shown(row)


@pytest.mark.parametrize(
    ("spread", "shift", "equivalent"), [(0.01, 0.0, True), (0.08, 0.0, False), (0.002, 0.04, False)]
)
def test_zero_inside_a_wide_interval_is_no_agreement(stock: Any, spread: float, shift: float, equivalent: bool) -> None:
    steps = (-1.0, 1.0, -0.5, 0.5, 1.0, -1.0, 0.2, -0.2)
    ours = [printed(0.25 + shift + spread * step, 0.01) for step in steps]
    row = stock.row_of(stock.CELLS[0], ours, [{"base": 0.01, "swappable": 0.0125}] * len(steps))
    assert row["difference"] == pytest.approx(shift)
    assert row["equivalent"] is equivalent
    assert row["seconds_equivalent"] is True


def test_the_file_of_the_builder_is_compared_in_seconds(stock: Any) -> None:
    theirs = [{"base": 0.01, "builder": 0.008, "swappable": 0.0125}] * 3
    row = stock.row_of(stock.CELLS[0], [printed(0.25, 0.01)] * 3, theirs)
    assert (row["builder_ratio"], row["builder_equivalent"]) == (pytest.approx(1.25), False)


def test_a_block_without_a_row_is_a_cell_that_does_not_agree(stock: Any) -> None:
    failures = [{"mode": "swappable", "reason": "no memory"}]
    theirs = [{"base": 0.01, "swappable": 0.0125}] * 2
    row = stock.row_of(stock.CELLS[0], [printed(0.25, 0.01), {"rows": [], "failures": failures}], theirs)
    assert (row["failure"], row["equivalent"], row["seconds_equivalent"]) == ("no memory", False, False)


@pytest.mark.parametrize(("missed", "met"), [(0, True), (1, True), (2, False)])
def test_one_of_ten_cells_may_differ(stock: Any, missed: int, met: bool) -> None:
    rows = [inside(stock)] * (10 - missed)
    rows += [stock.failed(cell, "no memory") for cell in stock.CELLS[:missed]]
    found = stock.summary(rows)
    assert (found["overheads_equivalent_met"], found["seconds_equivalent_met"]) == (met, met)
    assert found["overheads_equivalent"] == 10 - missed


def test_fewer_cells_are_not_judged(stock: Any) -> None:
    assert stock.summary([stock.failed(stock.CELLS[0], "no memory")])["seconds_equivalent_met"] is None


def test_ten_cells_cover_runtimes_phases_and_merging(stock: Any) -> None:
    cells = stock.CELLS
    assert len({cell.name for cell in cells}) == stock.OF
    assert {(cell.runtime, cell.phase) for cell in cells} == {
        (runtime, phase) for runtime in stock.DEVICES for phase in ("decode", "prefill")
    }
    assert sum(cell.mode == "merged" for cell in cells) == 2


def test_options_of_the_comparison_are_parsed(stock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = stock.parser().parse_args(["--json", "--only", "torch/merged/decode", "--blocks", "9", "--quick"])
    assert (found.only, found.blocks, found.quick, found.json) == (["torch/merged/decode"], 9, True, True)
    for words in (["--blocks", "1"], ["--only", "torch/merged/encode"]):
        with pytest.raises(SystemExit):
            stock.parser().parse_args(words)
    assert "must be at least 2" in capsys.readouterr().err


def test_options_of_seconds_per_digit_are_parsed(digits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = digits.parser().parse_args(["--device", "torch=5", "int4", "--runs", "2", "--optimum-python", "bin/python"])
    assert (found.device, found.runs) == ([("torch", 5), ("int4", digits.SECONDS["int4"])], 2)
    assert found.optimum_python == Path("bin/python")
    with pytest.raises(SystemExit):
        digits.parser().parse_args(["--device", "fp64=5"])
    assert "'fp64' is none of torch, fp32, int4" in capsys.readouterr().err


def test_spreads_between_openings_are_compared_by_an_f_distribution(digits: Any) -> None:
    def answer(spread: float) -> dict[str, Any]:
        openings = [[each - 0.01, each, each + 0.01] for each in spread * np.array([-1.0, 0.0, 0.0, 1.0])]
        return {"widths": [[2.0, 9.0], [3.0, 8.0], [4.0, 7.0]], "logs": {"swappable": openings, "base": openings}}

    found = digits.summary([answer(0.03), answer(0.03)], [[answer(0.03), answer(0.03)]])
    assert found["modes"]["swappable"]["sd_opening"] == pytest.approx(0.03 * (2 / 3) ** 0.5)
    assert found["modes"]["swappable"]["sd_round"] == pytest.approx(0.01)
    assert found["sd_expected"] == pytest.approx(found["modes"]["swappable"]["sd_opening"])
    assert (found["openings"], found["opening_s"]) == ([4, 4], 1.0)
    assert found["needed_s"]["3"] == digits.openings_for(0.03, 0.03 * (2 / 3) ** 0.5) == 6
    lower, ratio, upper = digits.spread_ratio([answer(0.03)], [answer(0.01)])["swappable"]["sd"]
    assert ratio == pytest.approx(3)
    assert lower * upper == pytest.approx(9)
    assert upper / ratio == pytest.approx(15.44**0.5, rel=1e-3)  # the 97.5th percentile of F with 3 and 3 degrees


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_process_imports_nothing_of_ours(name: str) -> None:
    tree = ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {"adaptare", *(file.stem for file in BENCHMARKS.glob("*.py"))}
    assert not {module.partition(".")[0] for module in imported} & ours


@pytest.mark.parametrize("past", [0, 3])
def test_a_plain_loop_of_onnxruntime_genai_is_timed(
    past: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(genai_folder(SHAPE, tmp_path)), "--past", str(past), "--tokens", "2", "--calls", "3"]
    monkeypatch.setattr(np.random, "default_rng", lambda seed: SimpleNamespace(integers=lambda *_: np.array([5, 6, 7])))
    found = run("stock_genai_process", words, monkeypatch, capsys)
    assert len(found["seconds"]) == 3
    assert found["median_s"] > 0


@pytest.mark.parametrize("past", [0, 3])
def test_a_plain_process_of_torch_calls_a_model(
    past: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "randint", lambda high, low, size: torch.ones(size, dtype=torch.int64))
    threads = str(torch.get_num_threads())
    words = [str(tiny_model(tmp_path / "model")), "--past", str(past), "--tokens", "2", "--calls", "3"]
    found = run("stock_torch_process", [*words, "--threads", threads], monkeypatch, capsys)
    assert len(found["seconds"]) == 3
    assert found["median_s"] == sorted(found["seconds"])[1] > 0


def test_a_plain_process_of_onnx_runtime_is_fed_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its default has no rank, which the graph would refuse to reshape."""
    ports = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, [1, 2, "past", 4]),
        helper.make_tensor_value_info("q.lora_A", TensorProto.FLOAT, [4, "rank"]),
    ]
    nodes = [
        helper.make_node("Identity", ["input_ids"], ["ids"]),
        helper.make_node("Identity", ["past_key_values.0.key"], ["present"]),
        helper.make_node("Reshape", ["q.lora_A", "eight"], ["flat"]),
    ]
    shapes = {"ids": (TensorProto.INT64, [1, "tokens"]), "present": (TensorProto.FLOAT, [1, 2, "past", 4])}
    outputs = [helper.make_tensor_value_info(name, *kind) for name, kind in shapes.items()]
    outputs.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, [8]))
    constants = [
        numpy_helper.from_array(np.zeros((4, 0), np.float32), "q.lora_A"),
        numpy_helper.from_array(np.array([8]), "eight"),
    ]
    graph = helper.make_graph(nodes, "fed", ports, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    write_onnx_adapter({"q.lora_A": np.ones((4, 2), np.float32)}, tmp_path / "a.onnx_adapter")
    words = [str(tmp_path / "m.onnx"), "--adapter", str(tmp_path / "a.onnx_adapter"), "--past", "3", "--calls", "3"]
    found = run("stock_onnx_process", words, monkeypatch, capsys)
    assert len(found["seconds"]) == 3


def test_a_plain_process_loads_what_was_exported(stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[tuple[str, ...]] = []
    monkeypatch.setattr(stock, "adaptare", lambda *words: exported.append(words))
    monkeypatch.setattr(stock.Files, "peft", lambda self, name: self.folder / name)
    monkeypatch.setattr(stock, "_weights", lambda: tmp_path / "weights")
    files = stock.Files(tmp_path)
    folder = tmp_path / "adapter-onnx-swappable-int4"
    assert files.arguments("ort-int4", "swappable") == [
        "stock_onnx_process.py",
        str(folder / "model.onnx"),
        "--adapter",
        str(folder / "adapter.onnx_adapter"),
    ]
    assert files.arguments("ort-fp32", "base")[1] == str(tmp_path / "nothing-onnx" / "model.onnx")
    monkeypatch.setattr(stock, "built", lambda source, precision, folder: folder / precision / "model.onnx")
    assert files.arguments("ort-int4", "builder") == ["stock_onnx_process.py", str(tmp_path / "int4" / "model.onnx")]
    genai = tmp_path / "adapter-genai-int4"
    assert files.arguments("genai-int4", "base") == ["stock_genai_process.py", str(genai)]
    assert files.arguments("genai-int4", "swappable")[2:] == ["--adapter", str(genai / "adapter.onnx_adapter")]
    exported[-2:] = []
    assert files.arguments("torch", "base") == ["stock_torch_process.py", str(tmp_path / "weights")]
    assert files.arguments("torch", "merged")[1] == str(tmp_path / "adapter-merged")
    assert files.arguments("torch", "swappable")[2:] == ["--adapter", str(tmp_path / "adapter")]
    assert [words[words.index("--to") + 1] for words in exported] == ["onnx-swappable", "onnx", "merged"]
    assert [words[1] for words in exported] == [str(tmp_path / name) for name in ("adapter", "nothing", "adapter")]


def test_optimum_benchmark_gets_the_time_that_the_command_took(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock on which starting takes 10 s for each process."""
    clock, durations = [0.0], []

    def its_run(self: Any, rank: int, duration: int) -> dict[str, Any]:
        clock[0] += 10 + duration
        durations.append(duration)
        return {"decode_s": 1.2 if rank else 1.0, "versions": {}}

    monkeypatch.setattr(digits.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(digits, "open_model", lambda _: SimpleNamespace(weights_folder=lambda: tmp_path))
    monkeypatch.setattr(digits.Optimum, "_run", its_run)
    optimum = digits.Optimum(Path("python"))
    found = [optimum.answer(wall_s) for wall_s in (60.0, 15.0)]
    assert durations == [1, 20, 20, 1, 1]
    assert [each["wall_s"] for each in found] == [60, 22]
    assert found[0]["overhead"] == pytest.approx(0.2)
