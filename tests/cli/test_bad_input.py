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
from typer.testing import CliRunner

from adaptare import entry
from adaptare.app import app
from adaptare.profiler import Store
from adaptare.workflows.search.searching import check_ours

Run = Callable[..., Any]
SIMULATED = ("--device", "simulated")
PROFILE = ("profile", "tiny-random", *SIMULATED, "--count", 10)
OVERHEAD = ("overhead", "tiny-random", *SIMULATED)
TRAIN = ("train", "tiny-random", "-o", "run")


def refused(answer: Any, message: str) -> None:
    assert answer.code == 2, answer
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


# Nothing of these is opened, connected to or written.
BEFORE_ANYTHING = [
    (("overhead", "tiny-random", "--device", "toaster"), "unknown device 'toaster'; installed packages register llama"),
    (("overhead", "tiny-random", "--device", "torch-cpu:threads=0"), "threads must be at least 1, not 0"),
    (("overhead", "tiny-random", "--device", "torch-cpu:speed=3"), "options are compile=…, threads=…"),
    (("overhead", "tiny-random", "--device", "torch-cpu:threads=1,threads=2"), "threads came twice; give it once"),
    (("overhead", "tiny-random", "--device", "pigeon:coop/torch-cpu"), "unknown transport 'pigeon'"),
    (("overhead", "./missing", *SIMULATED), "there is no such file or folder"),
    (("profile", "./missing", *SIMULATED), "there is no such file or folder"),
    (("overhead", "--energy", ""), "MODEL is empty ('')"),
    (("demo", "--quick", "--budget", "joy=20ms"), "budget 'joy=20ms'"),
    (("tune", "tiny-random", "-o", "tuned", "--quick", "--budget", "decode=15%"), "budget 'decode=15%'"),
    (("profile", "tiny-random", *SIMULATED, "--device", "torch-cpu"), "--device came 2 times"),
    ((*PROFILE, "--store", ""), "--store is empty (''); give a value, or leave it out"),
    ((*PROFILE, "--store", "nothing://me:secret@host/x"), "'nothing://me:***@host/x' is not a store of adaptare"),
    (
        ("predict", "x", "--budget=decode=9ms", "--budget", "decode=8ms"),
        "--budget came 2 times, and this command",
    ),
    (("predict", "", "--rank", "4"), "PREDICTOR is empty ('')"),
    (("predict", "predictor", "ranks.json"), "no predictor can be read"),
    (("train", "tiny-random", "-o", ""), "--output/-o is empty ('')"),
    ((*TRAIN, "--data="), "--data is empty ('')"),
    (("search", "run", "--predictor", "predictor", "--budget", "decode=1ms"), "no predictor can be read"),
    (("verify", "front.json"), "is no result of a search; search first"),
    (("export", "front.json", "-o", "x"), "is no result of a search; search first"),
    (("fit", *SIMULATED), "there is no store 'adaptare.db'; measure something first"),
    (("check", "x", "--runtime", "vllm", "--base", "tiny-random", "--file", "y"), "adapter_config.json"),
    (("devices", "agent", "-o", "bundle"), "-o is for a new bundle; add --build, or leave it out"),
    (("devices", "agent", "--wheel", "ort.whl"), "--wheel is for a new bundle; add --build, or leave it out"),
]


@pytest.mark.parametrize(("words", "message"), BEFORE_ANYTHING)
def test_words_that_say_nothing_usable_are_refused(run: Run, words: tuple[object, ...], message: str) -> None:
    answer = run(*words)
    refused(answer, message)
    assert "secret" not in answer.err
    assert not list(Path().iterdir())


OPTIONS = [
    ((*OVERHEAD, "--rank", 65), "must be 0 to 64 in this base model, not 65"),
    ((*OVERHEAD, "--rank", -1), "--rank must be 0 or more, not -1"),
    ((*OVERHEAD, "--rank", ""), "--rank is empty ('')"),
    ((*OVERHEAD, "--rank", "4,,8"), "--rank must be whole numbers with commas between them"),
    ((*OVERHEAD, "--sites", ""), "--sites is empty ('')"),
    ((*OVERHEAD, "--sites", "q_proj,,v_proj"), "placements must be names with commas between them"),
    ((*OVERHEAD, "--sites", "q_proj,w_proj"), "the model has no w_proj; it has q_proj, k_proj"),
    ((*OVERHEAD, "-p", 4000), "the model ends at 2,048 positions (max_position_embeddings), and this needs 4,000"),
    ((*OVERHEAD, "-d", 2048), "the model ends at 2,048 positions (max_position_embeddings), and this needs 2,049"),
    ((*OVERHEAD, "-p", 2000, "-n", 100), "and this needs 2,100"),
    ((*OVERHEAD, "-p", 0, "-d", -1), "nothing is left to measure"),
    ((*OVERHEAD, "--half-width", "0%"), "half_width must lie between 0 and 1"),
    ((*OVERHEAD, "--seconds", 0), "a time budget must be above 0 s"),
    (("overhead", "tiny-random", "adapter", "--rank", 8), "an adapter folder has sites and ranks of its own"),
    ((*PROFILE, "--rank", "0,4,65"), "must be 0 to 64 in this base model, not 65"),
    ((*PROFILE, "-d", 2048), "the model ends at 2,048 positions"),
    ((*PROFILE, "--rank", "0"), "`ranks` must have one above 0"),
    ((*PROFILE, "--rank", "0,-4"), "`ranks` must be different whole numbers >= 0"),
    ((*PROFILE, "--space", "rooms"), "unknown space 'rooms'; known are layers, blocks, kinds, sites"),
    ((*PROFILE, "--space", "missing.yaml"), "space 'missing.yaml' cannot be read"),
    ((*PROFILE, "--space", "space.yaml", "--rank", "0,4"), "space.yaml defines its own ranks; leave out ranks"),
    ((*PROFILE, "--space", "sites", "--rank", "4,8", "--open"), "all graphs are open anyway; do not ask for it"),
    ((*PROFILE, "--count", 1), "a design needs at least 2"),
    ((*PROFILE, "-p", 0), "-p must be at least 1"),
    ((*PROFILE, "--until-error", "0.02"), "write a number up to 100 and a per cent sign, such as 1%, not '0.02'"),
    ((*PROFILE, "--until-error", "0%"), "as every predictor has some; choose for example 2 % (option --until-error)"),
]


@pytest.mark.parametrize(("words", "message"), OPTIONS)
def test_options_that_make_no_sense(run: Run, model_cache: Path, words: tuple[object, ...], message: str) -> None:
    refused(run(*words, "--cache", model_cache), message)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("words", [PROFILE, ("compare", "adaptare.db", "adaptare.db")])
def test_an_empty_file_is_no_store(run: Run, words: tuple[object, ...]) -> None:
    Path("adaptare.db").touch()
    refused(run(*words), "'adaptare.db' is an empty file and no store")
    assert Path("adaptare.db").stat().st_size == 0


def test_a_store_of_a_newer_schema(run: Run, rows_of: Callable[[str], list[str]]) -> None:
    Store("adaptare.db").close()
    with sqlite3.connect("adaptare.db") as connection:
        connection.execute("UPDATE meta SET value = '4' WHERE name = 'schema_version'")
    before = rows_of("adaptare.db")
    refused(run(*PROFILE), "has schema 4; this version of adaptare reads up to 3")
    refused(run("fit", *SIMULATED), "has schema 4")
    assert rows_of("adaptare.db") == before


@pytest.mark.slow
def test_fit_with_open_and_cut_graphs_asks_which(run: Run, model_cache: Path) -> None:
    for words in ((), ("--open",)):
        assert run(*PROFILE, "--cache", model_cache, *words).code == 0
    refused(run("fit", *SIMULATED), "choose one by phase and length, mode, batch, model, open or cut graphs")
    found = {words: run("fit", *SIMULATED, words, "--json").json for words in ("--open", "--cut")}
    assert found["--open"]["error_card"]["rows"] == found["--cut"]["error_card"]["rows"]
    refused(run(*PROFILE, "--cache", model_cache, "--mode", "static", "--open"), "use mode swappable, not static")


def test_a_place_that_cannot_be_written(run: Run, model_cache: Path) -> None:
    Path("file").write_text("")
    refused(run(*PROFILE, "--cache", model_cache, "--store", "file/adaptare.db"), "cannot be opened")
    refused(run("demo", "--model", "tiny-random", "--cache", model_cache, "-o", "file/demo"), "cannot be written")
    refused(run("fit", *SIMULATED, "-o", "file/predictor"), "the predictor cannot be written")


def test_a_package_that_is_not_installed_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("adaptare.workflows.target.open_model", missing)
    refused(run(*OVERHEAD), "torch is not installed; install it with: pip install 'adaptare[torch]'")


def test_errors_come_as_json_too(run: Run) -> None:
    answer = run("overhead", "tiny-random", "--device", "toaster", "--json")
    assert answer.code == 2
    assert answer.json["error"].startswith("unknown device 'toaster'")


@pytest.mark.parametrize(
    "words",
    [("overhead",), ("overheat",), ("profile", "tiny-random", "-p", "sleep"), (*PROFILE, "--seed", -1)],
)
def test_words_the_command_line_does_not_know(run: Run, words: tuple[object, ...]) -> None:
    assert run(*words).code == 2
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "tiny-random", "--ranks", "0,4"), "No such option: --ranks; it is --rank now"),
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


def test_words_of_a_program_around_it_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["other", "--budget", "x", "--budget=", "", "--json"])
    answer = CliRunner().invoke(app, ["predict", "nosuch", "--rank", "4", "--budget", "decode=9ms"])
    assert answer.exit_code == 2
    assert "nosuch" in answer.stderr
    assert answer.stdout == ""


def test_checkpoints_of_another_program_are_left_alone(run: Run, model_cache: Path, data: Path) -> None:
    Path("mine/checkpoint-7").mkdir(parents=True)
    answer = run("train", "tiny-random", "-o", "mine", "--steps", 4, "--data", data, "--cache", model_cache)
    refused(answer, "holds files of another program, such as 'checkpoint-7'")
    assert [entry.name for entry in Path("mine").iterdir()] == ["checkpoint-7"]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 1, "winners": []}'])
def test_a_damaged_front_is_refused(run: Run, content: str) -> None:
    Path("front.json").write_text(content)
    refused(run("verify", "front.json"), "is no result of a search")


def test_a_front_of_an_earlier_version_is_refused_with_what_to_do(run: Run) -> None:
    Path("front.json").write_text('{"schema": 1, "budget": "decode=3ms", "budget_s": 0.003, "winners": []}')
    refused(run("verify", "front.json"), "was written by an earlier version; search again")
    check_ours(Path("front.json"))  # a search may replace it


def test_an_adapter_without_its_b_is_incomplete(run: Run, model_cache: Path) -> None:
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text('{"peft_type": "LORA"}')
    half = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.zeros((4, 64), dtype=np.float32)}
    save_file(half, "adapter/adapter_model.safetensors")
    refused(
        run("overhead", "tiny-random", "adapter", *SIMULATED, "--cache", model_cache), "lacks an A and a B of equal"
    )


def test_an_empty_title_is_no_empty_path(run: Run) -> None:
    answer = run("dataset", "export", "adaptare.db", "--title", "", "-o", "new")
    assert answer.code == 2
    assert "is empty ('')" not in answer.err


def test_a_runtime_that_loads_no_files_takes_none(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    words = ("check", "adapter", "--base", "tiny-random", "--cache", model_cache, "--runtime", "vllm")
    refused(run(*words, "--file", "nosuch"), "vllm is checked by its rule and loads no files; leave 'nosuch' out")
