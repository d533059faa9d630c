"""`adaptare predict`: folders, JSON and CSV files, and the probability of meeting a budget."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.profiler import open_model


@pytest.fixture(scope="module")
def fitted_once(commands_in: Callable[..., Any], model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    words = ("--device", "simulated", "--seconds", 0.1, "--cache", model_cache)
    with commands_in(folder) as run:
        assert run("profile", "tiny-random", "--space", "sites", "--count", 16, *words).code == 0
        assert run("fit", "--device", "simulated", "-o", "predictor").code == 0
    return folder


@pytest.fixture
def fitted(run_in_copy: Callable[..., Any], fitted_once: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = run_in_copy(fitted_once)
    return run


def test_every_line_of_a_table_is_an_adapter(fitted: Callable[..., Any], model_cache: Path) -> None:
    Path("many.csv").write_text("name,*.q_proj,*.mlp.*\nfirst,4,0\n,0,8\nboth,4,8\n")
    shape = open_model("tiny-random", cache=model_cache).shape
    Path("first.json").write_text(json.dumps({site.path: 4 for site in shape.sites if site.kind == "q_proj"}))
    rows = fitted("predict", "predictor", "many.csv", "first.json", "--json").json["rows"]
    assert [row["adapter"] for row in rows] == ["first", "many.csv:2", "both", "first.json"]
    assert rows[0]["predicted"]["middle"] == rows[3]["predicted"]["middle"]
    assert rows[2]["predicted"]["middle"] > max(rows[0]["predicted"]["middle"], rows[1]["predicted"]["middle"])
    assert rows[2]["sites"] == rows[0]["sites"] + rows[1]["sites"]
    assert len({row["memory_bytes"] - row["adapter_bytes"] for row in rows}) == 1
    assert rows[0]["memory_bytes"] > 4 * shape.parameters
    assert all(row["within"] is None for row in rows)


def test_a_budget_is_met_with_a_probability(fitted: Callable[..., Any]) -> None:
    Path("many.csv").write_text("*\n0\n4\n16\n")
    said = fitted("predict", "predictor", "many.csv", "--budget", "overhead=1000%", "--json").json["rows"]
    assert all(row["within"] > 0.9 for row in said)
    said = fitted("predict", "predictor", "many.csv", "--budget", "decode=0.0001ms", "--json").json["rows"]
    assert all(row["within"] < 1e-6 for row in said)
    assert "overhead=50%" in fitted("predict", "predictor", "many.csv", "--budget", "overhead=50%").out


def test_files_may_come_from_spreadsheets_and_have_globs(fitted: Callable[..., Any]) -> None:
    Path("many.csv").write_text("name,*.q_proj\nfirst,4\n", encoding="utf-8-sig")
    Path("first.json").write_text('{"*.q_proj": 4}')
    rows = fitted("predict", "predictor", "many.csv", "first.json", "--json").json["rows"]
    assert rows[0]["predicted"]["middle"] == rows[1]["predicted"]["middle"]
    Path("empty.csv").write_text("name,*.q_proj,model.layers.0.self_attn.q_proj\nempty,4,\nlast,4,8\n")
    empty, last = fitted("predict", "predictor", "empty.csv", "--json").json["rows"]
    assert empty["predicted"]["middle"] == rows[0]["predicted"]["middle"]
    assert (empty["sites"], empty["adapter_bytes"] < last["adapter_bytes"]) == (last["sites"], True)
    Path("wrong.json").write_text('{"*.w_proj": 4}')
    assert "the base model has no '*.w_proj'" in fitted("predict", "predictor", "wrong.json").err


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_a_config_stands_for_its_folder(fitted: Callable[..., Any], saved: Callable[..., Path]) -> None:
    folder = saved("adapter", target_modules=["q_proj"])
    answer = fitted("predict", "predictor", folder, folder / "adapter_config.json", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"][0] == answer.json["rows"][1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\na\n", "needs module paths or globs"),
        ("*.q_proj\n", "has no adapters, only its first line"),
        ("*.q_proj\nfour\n", "adapter 1: ranks must be whole numbers, not 'four'"),
        ("name,*.q_proj\nx,4,5\n", "line 2: a row has 2 cells"),
        ("name,*.q_proj,*.q_proj\nx,4,8\n", "two columns of one name"),
        ("name,*.q_proj\nsame,4\nsame,8\n", "has two adapters named 'same'"),
    ],
)
def test_tables_that_say_something_else_are_refused(fitted: Callable[..., Any], content: str, message: str) -> None:
    Path("many.csv").write_text(content)
    answer = fitted("predict", "predictor", "many.csv")
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("missing.json",), "there is no 'missing.json'"),
        (("many.csv", "--budget", "prefill=1ms"), "the predictor is of decode"),
        ((), "name adapters or ranks"),
        (("many.csv", "--rank", "4"), "not both"),
    ],
)
def test_what_makes_no_sense_together_is_refused(
    fitted: Callable[..., Any], words: tuple[str, ...], message: str
) -> None:
    Path("many.csv").write_text("*\n4\n")
    answer = fitted("predict", "predictor", *words)
    assert answer.code == 2
    assert message in answer.err


def test_a_predictor_of_another_device_is_where_a_fit_begins(fitted: Callable[..., Any], model_cache: Path) -> None:
    other = "simulated:launch_s=4e-06"
    words = ("--device", other, "--store", "other.db")
    profiled = fitted(
        "profile", "tiny-random", "--space", "sites", "--count", 10, "--seconds", 0.1, *words, "--cache", model_cache
    )
    assert profiled.code == 0, profiled.err
    answer = fitted("fit", *words, "--from", "predictor", "-o", "moved", "--json")
    assert answer.code == 0, answer.err
    Path("many.csv").write_text("*\n4\n")
    said = fitted("predict", "moved", "many.csv", "--json").json["origin"]
    if answer.json["chosen"] == "transferred":
        assert (answer.json["source"]["device"], said) == ("simulated", "transferred")
    else:
        assert "did not lower the error on held-out adapters" in answer.err
        assert (answer.json["source"], said) == (None, "predicted")


def test_a_fit_draws_predicted_over_measured(fitted: Callable[..., Any]) -> None:
    pytest.importorskip("matplotlib")
    answer = fitted("fit", "--device", "simulated", "-o", "predictor", "--figure", "parity.png", "--json")
    assert answer.code == 0, answer.err
    assert Path("parity.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("without_card")
def test_a_length_between_those_that_were_profiled_needs_no_measuring(
    run: Callable[..., Any], model_cache: Path
) -> None:
    words = ("--device", "simulated", "--seconds", 0.1, "--cache", model_cache)
    for length in (32, 64, 128):
        assert run("profile", "tiny-random", "--space", "sites", "--count", 12, "-d", length, *words).code == 0
    assert "no measurements in decode of length 16" in run("fit", "--device", "simulated", "-d", 16).err
    fitted = run("fit", "--device", "simulated", "--json")
    assert fitted.code == 0, fitted.err
    assert fitted.json["lengths"] == [32, 64, 128]
    assert abs(fitted.json["base_left_out"]["64"]) < 1e-6
    Path("many.csv").write_text("*\n4\n")

    def predicted(*words: object) -> Any:
        return run("predict", "predictor-decode", "many.csv", *words, "--json").json

    means = [predicted("--length", length)["rows"][0]["predicted"]["middle"] for length in (32, 48, 64)]
    assert means == sorted(means)
    assert [predicted("--length", length)["origin"] for length in (48, 64)] == ["interpolated", "predicted"]
    assert predicted("--budget", "decode@48=1s")["rows"][0] == {
        **predicted("--length", 48)["rows"][0],
        "within": pytest.approx(1, abs=0.1),
    }
    outside = run("predict", "predictor-decode", "many.csv", "--length", 256)
    assert outside.code == 2
    assert "length 256 is outside the fitted lengths, 32 to 128; profile that length and fit again" in outside.err
    some = run("fit", "--device", "simulated", "-d", "32,64", "--json")
    assert (some.json["lengths"], some.json["predictor"]) == ([32, 64], "predictor-decode-32-64")


def test_a_grid_of_ranks_needs_no_file(fitted: Callable[..., Any]) -> None:
    Path("same.json").write_text('{"*.q_proj": 4, "*.v_proj": 4}')
    of_file = fitted("predict", "predictor", "same.json", "--json").json["rows"][0]
    words = ("--rank", "8,4", "--sites", "q_proj,v_proj", "--sites", "all")
    rows = fitted("predict", "predictor", *words, "--json").json["rows"]
    assert [row["adapter"] for row in rows] == ["q_proj,v_proj r4", "q_proj,v_proj r8", "all r4", "all r8"]
    assert rows[0] == {**of_file, "adapter": "q_proj,v_proj r4"}


def test_a_lone_quote_in_a_table_of_ranks_is_named(fitted: Callable[..., Any]) -> None:
    Path("many.csv").write_text('name,*.q_proj\nfirst,4\n"second,4\n' + "third,4\n" * 20_000)
    answer = fitted("predict", "predictor", "many.csv")
    assert answer.code == 2
    assert "'many.csv' is not CSV after line" in answer.err
    assert "look for a lone quote" in answer.err
