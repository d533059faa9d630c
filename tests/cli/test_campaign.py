"""`adaptare profile` as a campaign: in parts, by stubs, and what it says on the way."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adaptare.console import Console
from adaptare.profiler import Store

LLAMA = '{"model_type": "llama", "num_hidden_layers": 8, "hidden_size": 64, "num_attention_heads": 4, \
"intermediate_size": 96, "vocab_size": 512}'


def test_a_campaign_that_runs_out_of_time_goes_on_later(run: Callable[..., Any], model_cache: Path) -> None:
    words = ("profile", "tiny-random", "--space", "sites", "--count", 40, "--cache", model_cache, "--json")
    words = (*words, "--device", "simulated", "--seconds", 0.1)
    first = run(*words, "--minutes", 1e-3)
    assert first.code == 0, first.err
    assert (first.json["measured"], first.json["left"]) == (32, 8)
    assert "8 of 40 are not measured yet; the same command goes on with them" in first.err
    second = run(*words, "--minutes", 10)
    assert (second.json["already_there"], second.json["measured"], second.json["left"]) == (32, 8, 0)
    shares = [row["over_base"] for row in second.json["rows"]]
    assert all(share["lower"] <= share["middle"] <= share["upper"] for share in shares)


@pytest.mark.slow
def test_a_campaign_stops_when_the_predictor_is_good_enough(run: Callable[..., Any], model_cache: Path) -> None:
    words = ("profile", "tiny-random", "--space", "sites", "--count", 30, "--cache", model_cache, "--json")
    words = (*words, "--device", "simulated", "--seconds", 0.1, "--until-error", "1%")
    first = run(*words)
    assert first.code == 0, first.err
    assert 10 <= first.json["measured"] < 30
    assert "1 % is wanted" in first.err
    again = run(*words)
    assert again.json["measured"] == 0
    fitted = run("fit", "--device", "simulated", "--json").json["error_card"]
    assert fitted["mape"] < fitted["mape_upper"] <= 1
    assert again.json["error_reached"] == pytest.approx(fitted["mape_upper"])
    out_of_reach = run(*words[:-1], "1e-30%")
    assert out_of_reach.code == 1
    assert out_of_reach.json["error_reached"] > out_of_reach.json["error_wanted"]
    assert "is not reached; give a larger count" in out_of_reach.err
    too_short = run(*words[:-1], "1e-30%", "--minutes", 1e-3, "--store", "other.db")
    assert too_short.code == 1
    assert "the time is up, and 1e-30 % is not reached" in too_short.err
    assert run(*words[:-1], "much").code == 2
    assert run(*words[:-1], "0").code == 2


def test_a_model_is_composed_from_stubs_when_asked_for(run: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(LLAMA)
    words = ("overhead", config, "--device", "simulated", "--seconds", 0.1, "--cache", tmp_path, "--json")
    whole, stubs = run(*words), run(*words, "--stubs", "--store", "other.db")
    assert stubs.code == 0, stubs.err
    for ours, theirs in zip(stubs.json["rows"], whole.json["rows"], strict=True):
        assert (ours["origin"], theirs["origin"]) == ("composed", "measured")
        assert ours["over_base"]["middle"] == pytest.approx(theirs["over_base"]["middle"])


def test_a_grid_in_several_sessions_has_slopes_within_each(run: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(LLAMA)
    words = ("overhead", config, "--device", "simulated:free_bytes=7000000", "--stubs", "--rank", "1,2,4,8", "-p", 0)
    answer = run(*words, "--seconds", 0.1, "--cache", tmp_path, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["rows"]) == 5
    assert {slope["per"] for slope in answer.json["slopes"]} >= {"site"}
    with closing(Store("adaptare.db")) as store:
        assert len({each.session for each in store.measurements()}) > 1


def test_whole_models_are_not_loaded_where_stubs_are_asked_for(run: Callable[..., Any]) -> None:
    answer = run("overhead", "tiny-random", "--device", "simulated", "--stubs", "--tasks", 2)
    assert answer.code == 2
    assert "a comparison for several tasks loads whole models, and stubs replace them" in answer.err


@pytest.mark.parametrize("space", [(), ("--space", "kinds"), ("--space", "layers", "--count", 4)])
def test_a_campaign_by_stubs_has_layers_that_are_alike(
    run: Callable[..., Any], tmp_path: Path, space: tuple[Any, ...]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(LLAMA)
    words = ("profile", config, "--device", "simulated", "--seconds", 0.1, "--count", 12, "--cache", tmp_path, "--json")
    answer = run(*words, "--stubs", *space)
    assert answer.code == 0, answer.err
    assert {row["origin"] for row in answer.json["rows"]} == {"composed"}
    again = run(*words, "--stubs", *space)
    assert again.json["measured"] == 0


def test_stubs_do_not_stand_for_what_is_to_be_measured_whole(run: Callable[..., Any], tmp_path: Path) -> None:
    config, space = tmp_path / "config.json", tmp_path / "space.yaml"
    config.write_text(LLAMA)
    space.write_text(
        "groups: [{sites: '*.q_proj', ranks: [0, 1, 2, 4], tie: all}, {sites: '*', ranks: [0, 4], tie: all}]"
    )
    words = ("profile", config, "--space", space, "--device", "simulated", "--seconds", 0.1, "--count", 7)
    words = (*words, "--cache", tmp_path, "--json")
    assert run(*words, "--stubs").json["measured"] == 7
    assert run(*words).json["measured"] == 7
    assert run(*words).json["measured"] == 0


def test_stubs_of_layers_that_differ_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    config, space = tmp_path / "config.json", tmp_path / "space.yaml"
    config.write_text(LLAMA)
    space.write_text("groups: [{sites: '*', ranks: [0, 4]}]")
    answer = run(
        "profile", config, "--device", "simulated", "--space", space, "--count", 4, "--cache", tmp_path, "--stubs"
    )
    assert answer.code == 2
    assert "stubs need the same ranks and widths in every layer" in answer.err


def test_time_must_be_above_nothing(run: Callable[..., Any]) -> None:
    answer = run("profile", "tiny-random", "--device", "simulated", "--minutes", 0)
    assert answer.code == 2
    assert "the limit must be above 0 minutes" in answer.err


@pytest.mark.parametrize(
    ("share", "elapsed_s", "said"),
    [(0.0, 5, "x"), (0.5, 40, "x, about 40 s left"), (0.1, 60, "x, about 9 min left"), (1.0, 9, "x")],
)
def test_progress_tells_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float, elapsed_s: float, said: str
) -> None:
    clock = [0.0]
    monkeypatch.setattr("adaptare.console.time.monotonic", lambda: clock[0])
    with Console(as_json=True).progress("measuring") as update:
        clock[0] = elapsed_s
        update(share, "x")
    assert capsys.readouterr().err.rstrip().endswith(said)
