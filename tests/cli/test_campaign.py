"""`adaptare profile` as a campaign: in parts, by stubs, and what it says on the way."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.console import Console
from adaptare.profiler import Store
from adaptare.workflows.profiling import campaign

LLAMA = '{"model_type": "llama", "num_hidden_layers": 8, "hidden_size": 64, "num_attention_heads": 4, \
"intermediate_size": 96, "vocab_size": 512}'


def test_a_campaign_that_runs_out_of_time_goes_on_later(
    run: Callable[..., Any], model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("profile", "tiny-random", "--space", "sites", "--count", 34, "--cache", model_cache, "--json")
    words = (*words, "--device", "simulated", "--seconds", 0.1, "--minutes", 10)
    with monkeypatch.context() as patch:  # the time is up after the first group
        patch.setattr(campaign, "time", SimpleNamespace(monotonic=lambda: math.inf, time=time.time))
        first = run(*words)
    assert first.code == 0, first.err
    assert (first.json["measured"], first.json["left"]) == (32, 2)
    assert "2 of 34 are not measured yet; the same command goes on with them" in first.err
    second = run(*words)
    assert (second.json["already_there"], second.json["measured"], second.json["left"]) == (32, 2, 0)
    shares = [row["over_base"] for row in second.json["rows"]]
    assert all(share["lower"] <= share["middle"] <= share["upper"] for share in shares)


@pytest.mark.slow
def test_a_campaign_stops_when_the_predictor_is_good_enough(run: Callable[..., Any], model_cache: Path) -> None:
    words = ("profile", "tiny-random", "--space", "sites", "--count", 30, "--cache", model_cache, "--json")
    words = (*words, "--device", "simulated", "--seconds", 0.1, "--until-error")
    first = run(*words, "1%")
    assert first.code == 0, first.err
    assert 10 <= first.json["measured"] < 30
    assert "1 % is wanted" in first.err
    again = run(*words, "1%")
    assert again.json["measured"] == 0
    fitted = run("fit", "--device", "simulated", "--json").json["error_card"]
    assert fitted["mape"] < fitted["mape_upper"] <= 1
    assert again.json["error_reached"] == pytest.approx(fitted["mape_upper"])
    out_of_reach = run(*words, "1e-30%")
    assert out_of_reach.code == 1
    assert out_of_reach.json["error_reached"] > out_of_reach.json["error_wanted"]
    assert "is not reached; give a larger count" in out_of_reach.err


def test_a_grid_in_several_sessions_has_slopes_within_each(run: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(LLAMA)
    words = ("overhead", config, "--device", "simulated:free_bytes=7000000", "--stubs", "--rank", "1,2,4,8", "-p", 0)
    answer = run(*words, "--seconds", 0.1, "--cache", tmp_path, "--json")
    assert answer.code == 0, answer.err
    assert [row["origin"] for row in answer.json["rows"]] == ["composed"] * 5
    assert {slope["per"] for slope in answer.json["slopes"]} >= {"site"}
    with closing(Store("adaptare.db")) as store:
        assert len({each.session for each in store.measurements()}) > 1


def test_a_campaign_by_stubs_has_layers_that_are_alike(run: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(LLAMA)
    words = ("profile", config, "--device", "simulated", "--seconds", 0.1, "--count", 4, "--cache", tmp_path, "--json")
    answer = run(*words, "--stubs", "--space", "layers")
    assert answer.code == 0, answer.err
    assert {row["origin"] for row in answer.json["rows"]} == {"composed"}
    assert run(*words, "--stubs", "--space", "layers").json["measured"] == 0


def test_stubs_do_not_stand_for_what_is_to_be_measured_whole(run: Callable[..., Any], tmp_path: Path) -> None:
    config, space = tmp_path / "config.json", tmp_path / "space.yaml"
    config.write_text(LLAMA)
    space.write_text("groups: [{sites: '*.q_proj', ranks: [0, 1], tie: all}, {sites: '*', ranks: [0, 4], tie: all}]")
    words = ("profile", config, "--space", space, "--device", "simulated", "--seconds", 0.1, "--count", 3)
    words = (*words, "--cache", tmp_path, "--json")
    assert run(*words, "--stubs").json["measured"] == 3
    assert run(*words).json["measured"] == 3
    assert run(*words).json["measured"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "--minutes", 0), "the limit must be above 0 minutes"),
        (("profile", "--space", "differ.yaml", "--stubs"), "stubs need the same ranks and widths in every layer"),
        (("overhead", "--stubs", "--tasks", 2), "for several tasks loads whole models, and stubs replace them"),
        (("overhead", "--stubs", "--energy"), "counting energy loads whole models, and stubs replace them; choose one"),
    ],
)
def test_what_cannot_be_measured_in_parts_is_refused(
    run: Callable[..., Any], model_cache: Path, words: tuple[str, ...], message: str
) -> None:
    Path("differ.yaml").write_text("groups: [{sites: '*', ranks: [0, 4]}]")
    Path("config.json").write_text(LLAMA)
    command, *options = words
    answer = run(command, "config.json", "--device", "simulated", *options, "--cache", model_cache)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize(
    ("share", "elapsed_s", "said"),
    [(0.0, 5, "x"), (0.1, 60, "x, about 9 min left"), (1.0, 9, "x")],
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
