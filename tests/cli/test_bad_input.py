"""What a user can get wrong: a message that says the rule, exit code 2, and nothing written."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import MambaConfig
from typer.testing import CliRunner

from adaptare import entry
from adaptare.app import app
from adaptare.workflows.search.searching import check_ours

Run = Callable[..., Any]
PROFILE = ("profile", "tiny-random", "--device", "simulated", "--count", 10)


def refused(answer: Any, message: str) -> None:
    assert answer.code == 2, answer
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("toaster", "unknown device 'toaster'; installed packages register llama-cpu, openvino-cpu, ort, ort-cpu, "),
        ("torch-cpu:threads=0", "threads must be at least 1, not 0"),
        ("torch-cpu:speed=3", "option 'speed=3' is unknown; options are compile=…, threads=…"),
        ("torch-cpu:threads=many", "'many' is no value for threads"),
        ("pigeon:coop/torch-cpu", "unknown transport 'pigeon'"),
    ],
)
def test_unknown_devices(run: Run, device: str, message: str) -> None:
    refused(run("overhead", "tiny-random", "--device", device), message)
    assert not list(Path().iterdir())


def test_a_package_that_is_not_installed_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("adaptare.workflows.target.open_model", missing)
    refused(
        run("overhead", "tiny-random", "--device", "simulated"),
        "torch is not installed; install it with: pip install 'adaptare[torch]'",
    )


@pytest.mark.parametrize("command", [("demo",), ("tune", "tiny-random", "-o", "tuned")])
@pytest.mark.parametrize("budget", ["joy=20ms", "decode=15%", "decode@64"])
def test_budgets_are_checked_before_anything_is_measured(run: Run, command: tuple[str, ...], budget: str) -> None:
    refused(run(*command, "--quick", "--budget", "decode=9ms", "--budget", budget), f"budget {budget!r}")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", ["overhead", "profile"])
def test_a_model_that_is_none(run: Run, command: str) -> None:
    Path("notes.txt").write_text("no model")
    refused(run(command, "notes.txt", "--device", "simulated"), "'notes.txt' is no model: it is not a JSON config")
    refused(run(command, "./missing", "--device", "simulated"), "there is no such file or folder")


def test_a_config_that_says_two_things_is_refused(run: Run) -> None:
    Path("config.json").write_text('{"model_type": "llama", "hidden_size": 64, "hidden_size": 128}')
    refused(run("overhead", "config.json", "--device", "simulated"), "the key 'hidden_size' is written twice")


@pytest.mark.parametrize("words", [("store",), PROFILE, ("fit",), ("compare", "adaptare.db", "adaptare.db")])
def test_an_empty_file_is_no_store(run: Run, model_cache: Path, words: tuple[object, ...]) -> None:
    Path("adaptare.db").touch()
    words = (*words, "--cache", model_cache) if words == PROFILE else words
    refused(run(*words), "'adaptare.db' is an empty file and no store")
    assert Path("adaptare.db").stat().st_size == 0


def test_an_unsupported_family(run: Run) -> None:
    Path("config.json").write_text(json.dumps(MambaConfig().to_dict()))
    refused(
        run("overhead", "config.json", "--device", "simulated"),
        "model family 'mamba' is not supported; supported are gemma",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rank", 65), "must be 0 to 64 in this base model, not 65"),
        (("--rank", -1), "--rank must be 0 or more, not -1"),
        (("--rank", ""), "--rank is empty ('')"),
        (("--rank", "4,,8"), "--rank must be whole numbers with commas between them"),
        (("--sites", ""), "--sites is empty ('')"),
        (("--sites", "q_proj,,v_proj"), "placements must be names with commas between them"),
        (("-p", "64,,128"), "-p must be whole numbers with commas between them"),
        (("-d", ""), "-d/--decode is empty ('')"),
        (("-p", 4000), "the model ends at 2,048 positions (max_position_embeddings), and this needs 4,000"),
        (("-d", 2048), "the model ends at 2,048 positions (max_position_embeddings), and this needs 2,049"),
        (("-p", 2000, "-n", 100), "and this needs 2,100"),
        (("--sites", "q_proj,w_proj"), "the model has no w_proj; it has q_proj, k_proj"),
        (("-p", 0, "-d", -1), "nothing is left to measure"),
        (("--half-width", "0%"), "half_width must lie between 0 and 1"),
        (("--seconds", 0), "a time budget must be above 0 s"),
        (("adapter", "--rank", 8), "an adapter folder has sites and ranks of its own"),
        (("adapter", "--sites", "q_proj"), "an adapter folder has sites and ranks of its own"),
    ],
)
def test_options_that_make_no_sense(run: Run, model_cache: Path, options: tuple[object, ...], message: str) -> None:
    refused(run("overhead", "tiny-random", *options, "--device", "simulated", "--cache", model_cache), message)
    assert not Path("adaptare.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rank", "0,4,x"), "--rank must be whole numbers"),
        (("--rank", "0,4,65"), "must be 0 to 64 in this base model, not 65"),
        (("--rank", ""), "--rank is empty ('')"),
        (("-d", 2048), "the model ends at 2,048 positions"),
        (("--rank", "0"), "`ranks` must have one above 0"),
        (("--rank", "0,-4"), "`ranks` must be different whole numbers >= 0"),
        (("--space", "rooms"), "unknown space 'rooms'; known are layers, blocks, kinds, sites"),
        (("--space", "missing.yaml"), "space 'missing.yaml' cannot be read"),
        (("--count", 1), "a design needs at least 2"),
        (("-p", 0), "-p must be at least 1"),
        (("--half-width", "100%"), "half_width must lie between 0 and 1"),
        (("--until-error", "0.02"), "write a number up to 100 and a per cent sign, such as 1%, not '0.02'"),
        (("--until-error", "-1%"), "a per cent sign"),
        (
            ("--until-error", "0%"),
            "as every predictor has some; choose for example 2 % (option --until-error)",
        ),
    ],
)
def test_spaces_that_make_no_sense(run: Run, model_cache: Path, options: tuple[object, ...], message: str) -> None:
    refused(run(*PROFILE, "--cache", model_cache, *options), message)
    assert not Path("adaptare.db").exists()


def test_an_adapter_of_another_base_model(run: Run, model_cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 4, "target_modules": ["transformer.h.0.attn"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    answer = run(
        "overhead", "tiny-random", folder / "adapter_config.json", "--device", "simulated", "--cache", model_cache
    )
    refused(answer, "match no linear of the base model; is it of another model?")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"prompt": "a", "completion": "b"}\n\n{"prompt": "a"', "line 3"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}', "line 2"),
    ],
)
def test_data_that_cannot_be_learned(run: Run, model_cache: Path, content: str, message: str) -> None:
    Path("data.jsonl").write_text(content)
    refused(run("train", "tiny-random", "-o", "run", "--data", "data.jsonl", "--cache", model_cache), message)
    assert not Path("run").exists()


def test_a_store_of_a_newer_schema(run: Run, model_cache: Path, rows_of: Callable[[str], list[str]]) -> None:
    assert run(*PROFILE, "--cache", model_cache).code == 0
    with sqlite3.connect("adaptare.db") as connection:
        connection.execute("UPDATE meta SET value = '4' WHERE name = 'schema_version'")
    before = rows_of("adaptare.db")
    refused(run(*PROFILE, "--cache", model_cache), "has schema 4; this version of adaptare reads up to 3")
    refused(run("fit", "--device", "simulated"), "has schema 4")
    assert rows_of("adaptare.db") == before


def test_fit_without_measurements(run: Run, model_cache: Path) -> None:
    refused(run("fit", "--device", "simulated"), "there is no store 'adaptare.db'; measure something first")
    run(*PROFILE, "--cache", model_cache)
    refused(run("fit", "--device", "simulated:launch_s=1"), "name one of these, or measure first")


def test_a_store_needs_a_name(run: Run, model_cache: Path) -> None:
    refused(
        run(*PROFILE, "--cache", model_cache, "--store", ""), "--store is empty (''); give a value, or leave it out"
    )
    assert not list(Path().iterdir())


def test_a_password_is_not_repeated(run: Run, model_cache: Path) -> None:
    answer = run(*PROFILE, "--cache", model_cache, "--store", "nothing://me:secret@host/name")
    refused(answer, "'nothing://me:***@host/name' is not a store of adaptare")
    assert "secret" not in answer.err


def test_a_file_of_a_space_says_its_ranks_itself(run: Run, model_cache: Path) -> None:
    answer = run(*PROFILE, "--cache", model_cache, "--space", "space.yaml", "--rank", "0,4")
    refused(answer, "space.yaml defines its own ranks; leave out ranks")


def test_fit_with_two_kinds_of_measurements_asks_which(run: Run, model_cache: Path) -> None:
    for phase in ("-p", "-d"):
        run(*PROFILE, "--cache", model_cache, phase, 64)
    refused(run("fit", "--device", "simulated"), "several kinds of measurements: model prefill 64 swappable")
    assert run("fit", "--device", "simulated", "-p", 64).code == 0


@pytest.mark.slow
def test_fit_with_open_and_cut_graphs_asks_which(run: Run, model_cache: Path) -> None:
    for words in ((), ("--open",)):
        assert run(*PROFILE, "--cache", model_cache, *words).code == 0
    refused(
        run("fit", "--device", "simulated"), "choose one by phase and length, mode, batch, model, open or cut graphs"
    )
    found = {words: run("fit", "--device", "simulated", words, "--json").json for words in ("--open", "--cut")}
    assert found["--open"]["error_card"]["rows"] == found["--cut"]["error_card"]["rows"]
    refused(run(*PROFILE, "--cache", model_cache, "--mode", "static", "--open"), "use mode swappable, not static")


def test_open_needs_adapters_that_leave_out_a_site(run: Run, model_cache: Path) -> None:
    answer = run(*PROFILE, "--cache", model_cache, "--space", "sites", "--rank", "4,8", "--open")
    refused(
        answer,
        "all graphs are open anyway; do not ask for it (option --open)",
    )


def test_a_place_that_cannot_be_written(run: Run, model_cache: Path) -> None:
    Path("file").write_text("")
    refused(run(*PROFILE, "--cache", model_cache, "--store", "file/adaptare.db"), "cannot be opened")
    refused(run("demo", "--model", "tiny-random", "--cache", model_cache, "-o", "file/demo"), "cannot be written")
    run(*PROFILE, "--cache", model_cache)
    refused(run("fit", "--device", "simulated", "-o", "file/predictor"), "the predictor cannot be written")


def test_commands_that_need_an_earlier_one_say_which(run: Run) -> None:
    refused(run("search", "run", "--predictor", "predictor", "--budget", "decode=1ms"), "no predictor can be read")
    refused(run("verify", "front.json"), "is no result of a search; search first")
    refused(run("export", "front.json", "-o", "x"), "is no result of a search; search first")
    refused(run("predict", "predictor", "ranks.json"), "no predictor can be read")


def test_errors_come_as_json_too(run: Run) -> None:
    answer = run("overhead", "tiny-random", "--device", "toaster", "--json")
    assert answer.code == 2
    assert answer.json["error"].startswith("unknown device 'toaster'")


def test_words_the_command_line_does_not_know(run: Run) -> None:
    assert run("overhead").code == 2
    assert run("overheat").code == 2
    assert run("profile", "tiny-random", "-p", "sleep").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "tiny-random", "--ranks", "0,4"), "No such option: --ranks; it is --rank now"),
        (("predict", "predictor", "--within", "decode=1ms"), "No such option: --within; it is --budget now"),
        (("parts", "tiny-random", "--length", 4), "No such option: --length; it is -p TOKENS or -d POSITIONS now"),
    ],
)
def test_an_option_that_was_renamed_answers_with_its_name(
    words: tuple[object, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["adaptare", *map(str, words), "--json"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert entry.run() == 2
    assert json.loads(capsys.readouterr().out)["error"].startswith(message)


def test_checkpoints_of_another_program_are_left_alone(run: Run, model_cache: Path, data: Path) -> None:
    Path("mine/checkpoint-7").mkdir(parents=True)
    answer = run("train", "tiny-random", "-o", "mine", "--steps", 4, "--data", data, "--cache", model_cache)
    assert answer.code == 2
    assert "holds files of another program, such as 'checkpoint-7'" in answer.err
    assert [entry.name for entry in Path("mine").iterdir()] == ["checkpoint-7"]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 1}', '{"schema": 1, "winners": []}'])
def test_a_damaged_front_is_refused(run: Run, content: str) -> None:
    Path("front.json").write_text(content)
    refused(run("verify", "front.json"), "is no result of a search")


def test_a_front_of_an_earlier_version_is_refused_with_what_to_do(run: Run) -> None:
    Path("front.json").write_text('{"schema": 1, "budget": "decode=3ms", "budget_s": 0.003, "winners": []}')
    refused(run("verify", "front.json"), "was written by an earlier version; search again")
    check_ours(Path("front.json"))  # a search may replace it


def test_an_adapter_without_its_b_is_incomplete(run: Run, model_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    half = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.zeros((4, 64), dtype=np.float32)}
    save_file(half, tmp_path / "adapter" / "adapter_model.safetensors")
    answer = run("overhead", "tiny-random", "adapter", "--device", "simulated", "--cache", model_cache)
    refused(answer, "lacks an A and a B of equal rank")


def test_fit_overlooks_the_few_rows_of_an_overhead(run: Run, model_cache: Path) -> None:
    run("overhead", "tiny-random", "--device", "simulated", "--cache", model_cache, "--openings", 1)
    run(*PROFILE, "--cache", model_cache)
    assert run("fit", "--device", "simulated").code == 0


def test_two_ranks_are_enough_for_a_campaign(run: Run, model_cache: Path) -> None:
    assert run(*PROFILE, "--cache", model_cache, "--space", "sites", "--rank", "0,16").code == 0


@pytest.mark.parametrize("words", [("--seed", -1), ("--openings", 0)])
def test_numbers_out_of_range(run: Run, words: tuple[object, ...]) -> None:
    assert run(*PROFILE, *words).code == 2
    assert not Path("adaptare.db").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("predict", "x", "--budget=decode=9ms", "--budget", "decode=8ms"),
            "--budget came 2 times, and this command takes one",
        ),
        (("profile", "tiny-random", "--device", "simulated", "--device", "torch-cpu"), "--device came 2 times"),
        (("overhead", "tiny-random", "--device", "torch-cpu:threads=1,threads=2"), "threads came twice; give it once"),
        (("train", "tiny-random", "-o", ""), "--output/-o is empty ('')"),
        (("train", "tiny-random", "-o", "run", "--data="), "--data is empty ('')"),
        (("predict", "", "--rank", "4"), "PREDICTOR is empty ('')"),
        (("overhead", "--energy", ""), "MODEL is empty ('')"),
        (("check", "x", "--runtime", "vllm", "--base", "tiny-random", "--file", "y"), "adapter_config.json"),
    ],
)
def test_words_that_come_twice_or_are_empty(run: Run, words: tuple[str, ...], message: str) -> None:
    refused(run(*words), message)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(("store", "output"), [("adaptare.db", "."), ("adaptare.db", "new"), (".", "new")])
def test_an_empty_title_is_no_empty_path(run: Run, store: str, output: str) -> None:
    answer = run("dataset", "export", store, "--title", "", "-o", output)
    assert answer.code == 2
    assert "is empty ('')" not in answer.err


def test_a_runtime_that_loads_no_files_takes_none(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    words = ("check", "adapter", "--base", "tiny-random", "--cache", model_cache, "--runtime", "vllm")
    refused(run(*words, "--file", "nosuch"), "vllm is checked by its rule and loads no files; leave 'nosuch' out")


def test_words_of_a_program_around_it_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["other", "--budget", "x", "--budget=", "", "--json"])
    answer = CliRunner().invoke(app, ["predict", "nosuch", "--rank", "4", "--budget", "decode=9ms"])
    assert answer.exit_code == 2
    assert "nosuch" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize("words", [("-o", "bundle"), ("--libraries", "debian"), ("--wheel", "ort.whl")])
def test_options_of_a_new_bundle_need_one(run: Run, words: tuple[str, ...]) -> None:
    answer = run("devices", "agent", *words)
    assert (answer.code, f"{words[0]} is for a new bundle; add --build, or leave it out" in answer.err) == (2, True)
