"""`adaptare export`: of a front, of a training without a search, and of an adapter that PEFT saved."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.devices import SimulatedDevice
from adaptare.predictor import LatencyPredictor, save_predictor
from adaptare.profiler import Configuration, FixedRounds, Workload, design, named_space, open_model, profile
from adaptare.profiler.analysis.intervals import Interval
from adaptare.search import load_base, read_budget
from adaptare.search.export.kinds import export_kind
from adaptare.views import export as view
from adaptare.workflows.exporting import ExportResult
from adaptare.workflows.search.result import Choice, Place, SearchResult, save_result

Run = Callable[..., Any]
SITES = {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.mlp.down_proj": 2}
# Adapter whose ranks and scales differ between linears.
MIXED = {"lora_alpha": 3, "use_rslora": True, "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"q_proj": 7}}
# PEFT looks for the config of the base on the hub, which tests do not reach.
OFFLINE = pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")


@pytest.fixture(scope="module")
def trained_once(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a training in `run`, and a front of one winner in it."""
    folder = tmp_path_factory.mktemp("trained")
    with commands_in(folder) as run:
        options = ("--steps", 2, "--data", write_data(folder), "--held-out", 8, "--space", "sites")
        assert run("train", "tiny-random", "-o", "run", *options, "--cache", model_cache).code == 0
        place = Place("tiny-random", "simulated", "none", "float32", "decode", 64)
        winner = Choice("winner 1", Configuration.of(SITES), "swappable", Interval(1.0, 2.0, 3.0), 1.0, 1.0)
        budget, paths = read_budget("decode=3ms"), {"folder": Path("run"), "predictor": Path("predictor")}
        result = SearchResult(budget, 3.0, 1.0, 0.9, "predicted", place, (winner,), (), {}, **paths)
        save_result(result, Path("run/front.json"))
    return folder


@pytest.fixture
def export_of(run_in_copy: Run, trained_once: Path, model_cache: Path) -> Run:
    """Runs `export` of a source in a copy of that folder."""
    run = run_in_copy(trained_once)
    return lambda source, *words: run("export", source, *words, "--cache", model_cache)


@pytest.fixture
def export(export_of: Run) -> Run:
    """Runs `export` of the front."""
    return lambda *words: export_of("run/front.json", *words)


@pytest.fixture
def export_saved(run: Run, saved: Callable[..., Path], model_cache: Path) -> Run:
    """Runs `export` of an adapter of mixed ranks and scales that PEFT saved; its files can be changed before."""

    def call(*words: object, change: Callable[[Path], object] = lambda folder: None) -> Any:
        adapter = saved(**MIXED)
        change(adapter)
        return run("export", adapter, "-o", "out", *words, "--base", "tiny-random", "--cache", model_cache)

    return call


def test_the_command_says_what_it_does_and_where_loading_is_shown(
    shares_of: Callable[..., list[int]], export: Run
) -> None:
    answer = export("-o", "out", "--to", "onnx-static")
    assert answer.code == 0, answer.err
    assert "written: winner 1 in out; its README.md has Python that loads it and generates text" in answer.out
    assert "logits differ by at most" in answer.out
    assert Path("out/README.md").exists()
    first, writing, *running = shares_of(answer, "exporting")
    assert 0 == first < writing < running[0] < 100
    for step in ("loading the base", "writing the files", "running the files in "):
        assert step in answer.err


def test_the_json_names_what_was_written(export: Run) -> None:
    found = export("-o", "out", "--to", "onnx-swappable", "--quantise", "int4", "--json").json
    assert (found["folder"], found["kind"], found["quantisation"]) == ("out", "onnx-swappable", "int4")
    assert found["configuration"]["ranks"] == SITES
    assert Path(found["base"], "config.json").exists()
    assert 0 < found["difference"] < 0.2
    assert {"model.onnx", "tokenizer.json", "config.json"} <= {file.name for file in Path("out").iterdir()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--quantise", "int4"), "--quantise int4 is for --to genai, onnx, onnx-static, onnx-swappable, not peft"),
        (("--to", "onnx", "--winner", 2), "winner must be 1 to 1 in run/front.json, not 2"),
        (("--to", "onnx", "--quantise", "int2"), "int2"),
        (("--to", "onnx-static", "--open"), "--open is for --to genai, onnx-swappable, not onnx-static"),
        (("--cut",), "--cut is for --to genai, onnx-swappable, not peft"),
        (("--to", "onnx", "--base-name", "someone/model"), "peft-portable, peft-uniform, not onnx; leave it out"),
        (("--to", "genai", "--adapter-of", "run"), "--adapter-of is for --to onnx-adapter, not genai; leave it out"),
        (("--to", "onnx-adapter", "--adapter-of", "run"), "'run' is no folder of onnxruntime-genai"),
        (("--base", "tiny-random"), "--base is for a PEFT folder"),
        (("--to", "onnxy"), "onnxy"),
    ],
)
def test_what_cannot_be_exported_is_refused(export: Run, words: tuple[object, ...], message: str) -> None:
    answer = export("-o", "out", *words)
    assert answer.code == 2
    assert message in answer.err
    assert not Path("out").exists()


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("kind", ["peft", "onnx-adapter", "onnx-static", "gguf", "merged", "peft-folded"])
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


@pytest.fixture(scope="module")
def open_predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a predictor of latency where every site is open."""
    folder = tmp_path_factory.mktemp("predictor")
    base = Workload(open_model("tiny-random").shape, graph="open")
    configurations = [base.with_configuration(each) for each in design(named_space("sites", base.shape), 12, seed=0)]
    rows = profile(configurations, reference=base.base, device=SimulatedDevice(), stop=FixedRounds(4), seed=0)
    save_predictor(LatencyPredictor(regressor="non-negative").fit(rows), folder / "predictor")
    return folder


@pytest.mark.parametrize(("words", "is_open"), [((), True), (("--cut",), False)])
def test_sites_stay_open_where_latency_was_predicted_so(
    export: Run, open_predictor: Path, words: tuple[str, ...], is_open: bool
) -> None:
    shutil.copytree(open_predictor, ".", dirs_exist_ok=True)
    answer = export("-o", "out", "--to", "onnx-swappable", *words, "--json")
    assert answer.json["open"] == is_open
    assert answer.json["configuration"]["ranks"] == SITES
    swapped = b"model.layers.0.mlp.down_proj.lora_A" in Path("out/model.onnx").read_bytes()
    assert swapped == is_open


@pytest.mark.parametrize(("words", "is_open"), [((), False), (("--open",), True)])
def test_a_predictor_that_is_gone_leaves_sites_cut_unless_asked_otherwise(
    export: Run, words: tuple[str, ...], is_open: bool
) -> None:
    unknown = "whether latency was predicted for a graph in which every linear takes an adapter is unknown"
    answer = export("-o", "out", "--to", "onnx-swappable", *words, "--json")
    assert (answer.json["open"], unknown in " ".join(answer.err.split())) == (is_open, not is_open)


@OFFLINE
def test_an_adapter_that_peft_saved_becomes_what_onnx_runtime_runs(export_saved: Run) -> None:
    answer = export_saved("--to", "onnx-swappable", "--json")
    assert answer.code == 0, answer.err
    ranks = {path.rpartition(".")[2]: rank for path, rank in answer.json["configuration"]["ranks"].items()}
    assert ranks == {"q_proj": 4, "down_proj": 2}
    assert answer.json["difference"] < 1e-4


@OFFLINE
@pytest.mark.slow
def test_an_adapter_that_peft_saved_is_merged_as_peft_merges_it(export_saved: Run, model_cache: Path) -> None:
    from peft import PeftModel

    answer = export_saved("--to", "merged")
    assert answer.code == 0, answer.err
    ours, _ = load_base("out")
    original, _ = load_base(open_model("tiny-random", cache=model_cache).weights_folder())
    theirs = PeftModel.from_pretrained(original, "adapter").merge_and_unload()
    for name, weight in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), weight.numpy(), atol=1e-6)


def enlarge(adapter: Path) -> None:
    """Weights that are finite, and infinite with a scale of 1e38."""
    from safetensors.numpy import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor + np.float32(1e4) for name, tensor in load_file(file).items()}, file)
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 1e38}))


@OFFLINE
@pytest.mark.parametrize(
    ("words", "change", "message"),
    [
        ((), lambda folder: None, "is an adapter for PEFT already; choose another kind with --to"),
        (("--to", "onnx", "--winner", 1), lambda folder: None, "--winner is for a super-adapter"),
        (("--to", "onnx", "--choice", "start"), lambda folder: None, "--choice is for a super-adapter"),
        (
            ("--to", "onnx"),
            lambda folder: (folder / "adapter_model.safetensors").unlink(),
            "has no adapter_model.safetensors",
        ),
        (("--to", "onnx"), enlarge, "with their scale are NaN or infinite in 32 bits; check its lora_alpha"),
    ],
)
def test_an_adapter_that_peft_saved_is_refused(
    export_saved: Run, words: tuple[object, ...], change: Callable[[Path], object], message: str
) -> None:
    answer = export_saved(*words, change=change)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not Path("out").exists()


def test_a_rank_that_vllm_takes_is_named() -> None:
    kind, ranks = export_kind("peft-uniform"), Configuration.of({"a": 20})
    result = ExportResult(
        Path("out"), "winner 1", kind, "none", Path("base"), "some/base", False, False, ranks, difference=None
    )
    _, vllm, olive = view.sections(result)
    assert "--max-lora-rank 32 --lora-modules NAME=out" in str(vllm)
    assert "convert-adapters --adapter_path out" in str(olive)


def test_padded_sites_and_the_commands_of_other_programs_are_said(export: Run) -> None:
    answer = export("-o", "out", "--to", "peft-uniform")
    assert answer.code == 0, answer.err
    assert "--enable-lora --max-lora-rank 16 --lora-modules NAME=out" in " ".join(answer.out.split())
    assert "1 of 2 sites are padded to rank 4 and cost what that rank costs" in " ".join(answer.err.split())


def ranks_of(export_of: Run, source: str, choice: str) -> dict[str, int]:
    """Ranks of an export without a predictor."""
    answer = export_of(source, "--choice", choice, "-o", "out", "--json")
    assert answer.code == 0, answer.err
    config = json.loads(Path("out/adapter_config.json").read_text())
    found: dict[str, int] = answer.json["configuration"]["ranks"]
    assert len(config["target_modules"]) == len(found)
    return found


@pytest.mark.parametrize(("choice", "rank"), [("start", 4), ("maximal", 16), ("uniform 8", 8)])
def test_what_needs_no_search_is_exported_from_a_training(export_of: Run, choice: str, rank: int) -> None:
    ranks = ranks_of(export_of, "run", choice)
    assert (set(ranks.values()), len(ranks)) == ({rank}, 14)


def test_baselines_of_a_front_and_ranks_of_a_file_are_exported(export_of: Run) -> None:
    assert set(ranks_of(export_of, "run/front.json", "q+v 16").values()) == {16}
    assert ranks_of(export_of, "run/front.json", "winner 1") == SITES
    Path("ranks.json").write_text(json.dumps({"*.q_proj": 8, "*.0.mlp.up_proj": 3}))
    assert sorted(ranks_of(export_of, "run", "ranks.json").values()) == [3, 8, 8]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say which of its adapters with a choice, such as start (option --choice)"),
        (("--choice", "uniform-1152"), "choice must be one of start, minimal, maximal, uniform-2,"),
        (("--choice", "start", "--winner", 1), "--winner and --choice both say which adapter; leave one out"),
        (("--choice", "two.csv"), "'two.csv' has 2 adapters, and one is exported at a time"),
        (("--choice", "minimal"), "an adapter without any site cannot be written"),
    ],
)
def test_a_choice_that_a_training_does_not_have_is_refused(
    export_of: Run, words: tuple[object, ...], message: str
) -> None:
    Path("two.csv").write_text("*.q_proj\n4\n8\n")
    answer = export_of("run", "-o", "out", *words)
    assert answer.code == 2
    assert message in answer.err
    assert not Path("out").exists()
