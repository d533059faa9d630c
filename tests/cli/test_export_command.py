"""`adaptare export` for ONNX Runtime, and what it refuses."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.core.extensions import extensions
from adaptare.devices import SimulatedDevice
from adaptare.predictor import LatencyPredictor, save_predictor
from adaptare.profiler import Configuration, FixedRounds, Workload, design, named_space, open_model, profile
from adaptare.profiler.analysis.intervals import Interval
from adaptare.search import load_base, read_budget
from adaptare.search.export import onnx as onnx_exports
from adaptare.search.export.kinds import export_kind
from adaptare.views import export as view
from adaptare.workflows.exporting import ExportResult
from adaptare.workflows.search.result import Choice, Place, SearchResult, save_result

Run = Callable[..., Any]
SITES = {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.mlp.down_proj": 2}
KINDS = list(extensions("adaptare.exports"))
ONNX = [kind for kind in KINDS if kind.startswith("onnx")]


@pytest.fixture
def export(run: Run, model_cache: Path, data: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs `export` of the front of a model that each process of the tests trains once."""
    own = tmp_path_factory.getbasetemp()
    kept = own / "trained for export"
    if not kept.exists():
        shutil.copy(data, own)
        options = ("--steps", 2, "--data", own / data.name, "--held-out", 8, "--space", "sites")
        assert run("train", "tiny-random", "-o", "run", *options, "--cache", model_cache).code == 0
        place = Place("tiny-random", "simulated", "none", "float32", "decode", 64)
        winner = Choice("winner 1", Configuration.of(SITES), "swappable", Interval(1.0, 2.0, 3.0), 1.0, 1.0)
        budget, paths = read_budget("decode=3ms"), {"folder": Path("run"), "predictor": Path("predictor")}
        result = SearchResult(budget, 3.0, 1.0, 0.9, "predicted", place, (winner,), (), {}, **paths)
        save_result(result, Path("run/front.json"))
        shutil.copytree("run", kept)
    shutil.copytree(kept, tmp_path / "run", dirs_exist_ok=True)
    return lambda *words: run("export", "run/front.json", *words, "--cache", model_cache)


def test_the_command_says_where_loading_is_shown(export: Run) -> None:
    answer = export("-o", "out", "--to", "onnx")
    assert answer.code == 0
    assert "written: winner 1 in out; its README.md has Python that loads it and generates text" in answer.out
    assert "logits differ by at most" in answer.out
    assert Path("out/README.md").exists()


@pytest.mark.parametrize(("kind", "quantise"), [("onnx", "none"), ("onnx-swappable", "int4"), ("onnx-adapter", "none")])
def test_the_json_names_what_was_written(export: Run, kind: str, quantise: str) -> None:
    found = export("-o", "out", "--to", kind, "--quantise", quantise, "--json").json
    assert (found["folder"], found["kind"], found["quantisation"], found["configuration"]["ranks"]) == (
        "out",
        kind,
        quantise,
        SITES,
    )
    assert Path(found["base"], "config.json").exists()
    assert found["difference"] is None if kind == "onnx-adapter" else 0 < found["difference"] < 0.2
    assert {"model.onnx", "tokenizer.json", "config.json"} <= {file.name for file in Path("out").iterdir()} or (
        kind == "onnx-adapter"
    )


def test_progress_names_each_step(shares_of: Callable[..., list[int]], export: Run) -> None:
    answer = export("-o", "out", "--to", "onnx")
    first, writing, *running = shares_of(answer, "exporting")
    assert 0 == first < writing < running[0] < 100
    for step in ("loading the base", "writing the files", "running the files in "):
        assert step in answer.err


def test_an_adapter_is_written_for_a_folder_of_ones_own(export: Run) -> None:
    assert export("-o", "theirs", "--to", "genai", "--quantise", "int4").code == 0
    answer = export("-o", "out", "--to", "onnx-adapter", "--adapter-of", "theirs", "--json")
    assert answer.code == 0, answer.err
    assert 0 < answer.json["difference"] < 0.5


def test_notes_go_to_stderr(export: Run) -> None:
    answer = export("-o", "out", "--to", "onnx-static", "--quantise", "int8", "--json")
    assert "comparing the logits of the written files with those of torch" in answer.err
    assert answer.json["difference"] < 0.2


@pytest.mark.parametrize("kind", ["peft", pytest.param("merged", marks=pytest.mark.slow)])
def test_files_without_rounding_differ_by_less_than_a_check_allows(export: Run, kind: str) -> None:
    assert 0 <= export("-o", "out", "--to", kind, "--json").json["difference"] < 1e-4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--to", "peft", "--quantise", "int8"),
            "--quantise int8 is for --to genai, onnx, onnx-static, onnx-swappable, not peft",
        ),
        (
            ("--to", "merged", "--quantise", "int4"),
            "--quantise int4 is for --to genai, onnx, onnx-static, onnx-swappable, not merged",
        ),
        (("--quantise", "int4"), "onnx-swappable, not peft"),
        (("--to", "onnx-adapter", "--quantise", "int4"), "onnx-swappable, not onnx-adapter"),
        (("--to", "onnx", "--winner", 2), "winner must be 1 to 1 in run/front.json, not 2"),
        (("--to", "onnx", "--quantise", "int2"), "int2"),
        (("--to", "onnx-static", "--open"), "--open is for --to genai, onnx-swappable, not onnx-static"),
        (
            ("--to", "onnx", "--base-name", "someone/model"),
            "--base-name is for --to gguf, onnx-adapter, peft, peft-folded, peft-portable, "
            "peft-uniform, not onnx; leave it out",
        ),
        (("--to", "genai", "--adapter-of", "run"), "--adapter-of is for --to onnx-adapter, not genai; leave it out"),
        (("--to", "onnx-adapter", "--adapter-of", "run"), "'run' is no folder of onnxruntime-genai"),
        (("--cut",), "--cut is for --to genai, onnx-swappable, not peft"),
        (
            (
                "--to",
                "onnxy",
            ),
            "onnxy",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(export: Run, words: tuple[object, ...], message: str) -> None:
    answer = export("-o", "out", *words)
    assert answer.code == 2
    assert message in answer.err
    assert not Path("out").exists()


@pytest.mark.parametrize("kind", ONNX)
def test_somebodys_folder_is_left_alone(export: Run, kind: str) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("long")
    answer = export("-o", "mine", "--to", kind)
    assert answer.code == 2
    assert "is no earlier export" in answer.err
    assert [file.name for file in Path("mine").iterdir()] == ["thesis.txt"]


def test_an_export_that_computes_something_else_is_not_left_behind(
    export: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_exports, "TOLERANCE", 0.0)
    answer = export("-o", "out", "--to", "onnx", "--json")
    assert answer.code == 3
    assert "differ from torch's by" in answer.json["error"]
    assert sorted(entry.name for entry in Path().iterdir()) == ["data.jsonl", "run"]


@pytest.mark.parametrize("kind", ONNX)
def test_a_missing_package_is_named_before_anything_is_loaded(
    export: Run, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    monkeypatch.setattr("adaptare.workflows.exporting.reload_adaptation", None)
    answer = export("-o", "out", "--to", kind)
    assert answer.code == 2
    assert "onnx is not installed; install it with: pip install 'adaptare[onnx]'" in " ".join(answer.err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "onnx-swappable"])
def test_no_export_names_a_place_on_the_machine_that_wrote_it(export: Run, model_cache: Path, kind: str) -> None:
    answer = export("-o", "out", "--to", kind)
    assert answer.code == 0, answer.err
    written = {file.name: file.read_bytes() for file in Path("out").iterdir() if file.suffix == ".json"}
    assert [name for name, content in written.items() if str(model_cache).encode() in content] == []
    assert ("--base-name" in answer.err) == kind.startswith("peft")


def test_an_adapter_loads_where_its_base_is_in_another_cache(
    export: Run, model_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM

    answer = export("-o", "out", "--base-name", "someone/model")
    assert "--base-name" not in answer.err
    assert json.loads(Path("out/adapter_config.json").read_text())["base_model_name_or_path"] == "someone/model"
    kept = tmp_path / "elsewhere" / "models--someone--model"
    shutil.copytree(open_model("tiny-random", cache=model_cache).weights_folder(), kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = AutoPeftModelForCausalLM.from_pretrained("out", cache_dir=str(tmp_path / "elsewhere"))
    assert sum("lora_A" in name for name, _ in loaded.named_parameters()) == len(SITES)


@pytest.fixture
def open_predictor() -> Path:
    """A predictor of latency where every site is open."""
    base = Workload(open_model("tiny-random").shape, graph="open")
    configurations = design(named_space("sites", base.shape), 12, seed=0)
    rows = profile(
        [base.with_configuration(each) for each in configurations],
        reference=base.base,
        device=SimulatedDevice(),
        stop=FixedRounds(4),
        seed=0,
    )
    return save_predictor(LatencyPredictor().fit(rows), "predictor")[0]


@pytest.mark.parametrize(("words", "is_open"), [((), True), (("--open",), True), (("--cut",), False)])
def test_sites_stay_open_where_latency_was_predicted_so(
    export: Run, open_predictor: Path, words: tuple[str, ...], is_open: bool
) -> None:
    answer = export("-o", "out", "--to", "onnx-swappable", *words, "--json")
    assert answer.json["open"] == is_open
    assert answer.json["configuration"]["ranks"] == SITES
    assert answer.json["difference"] < 1e-3
    swapped = b"model.layers.0.mlp.down_proj.lora_A" in Path("out/model.onnx").read_bytes()
    assert swapped == is_open


def test_a_predictor_that_is_gone_leaves_sites_cut(export: Run) -> None:
    unknown = "whether latency was predicted for a graph in which every linear takes an adapter is unknown"
    answer = export("-o", "out", "--to", "onnx-swappable", "--json")
    assert (answer.json["open"], unknown in " ".join(answer.err.split())) == (False, True)
    asked = export("-o", "out", "--to", "onnx-swappable", "--open", "--json")
    assert (asked.json["open"], unknown in " ".join(asked.err.split())) == (True, False)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.parametrize("kind", ["onnx", "onnx-static", "onnx-swappable"])
def test_an_adapter_that_peft_saved_becomes_what_onnx_runtime_runs(
    run: Run, saved: Callable[..., Path], model_cache: Path, kind: str
) -> None:
    adapter = saved(lora_alpha=3, use_rslora=True, rank_pattern={"down_proj": 2})
    words = ("--base", "tiny-random", "--cache", model_cache, "--json")
    answer = run("export", adapter / "adapter_config.json", "-o", "out", "--to", kind, *words)
    assert answer.code == 0, answer.err
    assert {path.rsplit(".", 1)[1]: rank for path, rank in answer.json["configuration"]["ranks"].items()} == {
        "q_proj": 4,
        "down_proj": 2,
    }
    assert answer.json["difference"] < 1e-4
    rounded = run("export", adapter, "-o", "out", "--to", kind, "--quantise", "int4", *words)
    assert rounded.json["difference"] < 0.1


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.slow
def test_an_adapter_that_peft_saved_is_merged_as_peft_merges_it(
    run: Run, saved: Callable[..., Path], model_cache: Path
) -> None:
    from peft import PeftModel

    adapter = saved(lora_alpha=3, use_rslora=True, rank_pattern={"down_proj": 2}, alpha_pattern={"q_proj": 7})
    answer = run("export", adapter, "-o", "out", "--to", "merged", "--base", "tiny-random", "--cache", model_cache)
    assert answer.code == 0, answer.err
    ours, _ = load_base("out")
    original, _ = load_base(open_model("tiny-random", cache=model_cache).weights_folder())
    theirs = PeftModel.from_pretrained(original, str(adapter)).merge_and_unload()
    for name, weight in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), weight.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_an_adapter_of_ones_own_needs_its_base_and_something_to_become(
    run: Run, export: Run, saved: Callable[..., Path], model_cache: Path
) -> None:
    adapter = saved()
    for words, message in (
        (("--to", "onnx"), "is an adapter without its base model; name that with --base"),
        (("--base", "tiny-random"), "is an adapter for PEFT already; choose another kind with --to"),
        (("--base", "tiny-random", "--to", "onnx", "--winner", 1), "--winner is for a super-adapter"),
        (("--base", "tiny-random", "--to", "onnx", "--choice", "start"), "--choice is for a super-adapter"),
    ):
        answer = run("export", adapter, "-o", "out", *words, "--cache", model_cache)
        assert answer.code == 2
        assert message in answer.err
    assert "--base is for a PEFT folder" in export("-o", "out", "--base", "tiny-random").err
    (adapter / "adapter_model.safetensors").unlink()
    words = ("--to", "onnx", "--base", "tiny-random", "--cache", model_cache)
    assert "has no adapter_model.safetensors" in run("export", adapter, "-o", "out", *words).err
    pissa = saved("pissa")
    settings = json.loads((pissa / "adapter_config.json").read_text())
    (pissa / "adapter_config.json").write_text(json.dumps({**settings, "init_lora_weights": "pissa_niter_4"}))
    assert "'pissa_niter_4', which changes the base" in run("export", pissa, "-o", "out", *words).err
    dora = saved("dora", use_dora=True)
    assert "is a DoRA; merge it with PEFT's merge_and_unload" in run("export", dora, "-o", "out", *words).err
    assert not Path("out").exists()


def test_the_command_line_offers_every_kind_of_export(run: Run) -> None:
    shown = "".join(run("export", "--help").out.split())
    assert all(f"{name}{export_kind(name).summary}".replace(" ", "") in shown for name in KINDS)


def test_a_rank_that_vllm_takes_is_named() -> None:
    result = ExportResult(
        Path("out"),
        "winner 1",
        export_kind("peft-uniform"),
        "none",
        Path("base"),
        "some/base",
        False,
        False,
        Configuration.of({"a": 20}),
        None,
    )
    _, vllm, olive = view.sections(result)
    assert "--max-lora-rank 32 --lora-modules NAME=out" in str(vllm)
    assert "convert-adapters --adapter_path out" in str(olive)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.parametrize("kind", ["peft-portable", "peft-uniform"])
def test_an_adapter_that_peft_saved_becomes_one_that_others_read(
    run: Run, saved: Callable[..., Path], model_cache: Path, kind: str
) -> None:
    from peft import PeftModel

    adapter = saved(lora_alpha=3, use_rslora=True, rank_pattern={"down_proj": 2}, alpha_pattern={"q_proj": 7})
    words = ("--base", "tiny-random", "--cache", model_cache)
    answer = run("export", adapter, "-o", "out", "--to", kind, *words, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["difference"] < 1e-5
    settings = json.loads(Path("out/adapter_config.json").read_text())
    assert (settings["alpha_pattern"], settings["use_rslora"]) == ({}, False)
    assert set(answer.json["configuration"]["ranks"].values()) == {2, 4}
    first, second = (load_base(open_model("tiny-random", cache=model_cache).weights_folder())[0] for _ in range(2))
    theirs = PeftModel.from_pretrained(first, str(adapter)).merge_and_unload()
    ours = PeftModel.from_pretrained(second, "out").merge_and_unload()
    for name, weight in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), weight.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "commands", "note"),
    [
        ("peft-portable", ["for llama.cpp: python convert_lora_to_gguf.py out --base"], ""),
        (
            "peft-uniform",
            ["--enable-lora --max-lora-rank 16 --lora-modules NAME=out", "olive convert-adapters --adapter_path out"],
            "1 of 2 sites are padded to rank 4 and cost what that rank costs",
        ),
    ],
)
def test_the_commands_of_other_programs_are_said(export: Run, kind: str, commands: list[str], note: str) -> None:
    answer = export("-o", "out", "--to", kind)
    assert answer.code == 0, answer.err
    assert all(command in " ".join(answer.out.split()) for command in commands)
    assert note in " ".join(answer.err.split())
    assert "logits differ by at most" in " ".join(answer.out.split())
    assert "--base-name" in answer.err


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": float("nan")}, "lora_alpha must be finite numbers, not nan"),
        ({"rank_pattern": {"q_proj": float("inf")}}, "rank_pattern must be whole numbers above 0, not inf"),
        ({"lora_alpha": 1e38, "r": 4}, "with their scale are NaN or infinite in 32 bits; check its lora_alpha"),
    ],
)
def test_an_adapter_with_numbers_that_are_not_finite_is_refused(
    run: Run, saved: Callable[..., Path], model_cache: Path, settings: dict[str, object], message: str
) -> None:
    adapter = saved()
    file = adapter / "adapter_config.json"
    content = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps(content))
    if settings.get("r"):
        _enlarge(adapter / "adapter_model.safetensors")
    answer = run("export", adapter, "-o", "out", "--to", "merged", "--base", "tiny-random", "--cache", model_cache)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not Path("out").exists()


def _enlarge(weights: Path) -> None:
    """Weights that are finite, and infinite with a scale of 1e38."""
    from safetensors.numpy import load_file, save_file

    save_file({name: tensor + np.float32(1e4) for name, tensor in load_file(weights).items()}, weights)
