"""The whole path on a real runtime: ONNX Runtime, with a quantised base and without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INT4 = "ort-cpu:int4,threads=1"
QUICKLY = ("--openings", 2, "--seconds", 0.5)


@pytest.mark.slow
def test_graphs_with_every_site_are_one_program_that_predictors_know(
    run: Callable[..., Any], model_cache: Path
) -> None:
    words = ("profile", "tiny-random", "--space", "kinds", "--rank", "0,4,8", "--count", 12, "-d", 4, "--open")
    answer = run(*words, *QUICKLY, "--device", INT4, "--cache", model_cache, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["measured"], answer.json["failed"]) == (12, 0)
    grid = ("--rank", "0,8", "-p", 0, "-d", 4)
    assert run("overhead", "tiny-random", *grid, *QUICKLY, "--device", INT4, "--cache", model_cache).code == 0
    fitted = run("fit", "--device", INT4, "--open", "--json").json
    assert (fitted["open"], fitted["lengths"], fitted["predictor"]) == (True, [4], "predictor-decode-int4-open")
    assert run("fit", "--device", INT4, "-o", "predictor", "--json").json["open"]
    Path("ranks.json").write_text('{"model.layers.0.self_attn.q_proj": 4}')
    predicted = run("predict", "predictor", "ranks.json", "--device", INT4)
    assert predicted.code == 0, predicted.err
    assert "swappable open" in predicted.out


@pytest.mark.slow
def test_a_search_wants_the_base_that_was_timed(run: Callable[..., Any], model_cache: Path, data: Path) -> None:
    words = ("profile", "tiny-random", "--space", "kinds", "--rank", "0,4,8", "--count", 12, "-d", 4)
    run(*words, *QUICKLY, "--mode", "padded", "--device", INT4, "--cache", model_cache)
    run("fit", "--device", INT4, "-o", "predictor")
    trained = ("--space", "kinds", "--rank", "0,4,8", "--data", data, "--steps", 2, "--cache", model_cache)
    run("train", "tiny-random", "-o", "plain", *trained)
    refused = run("search", "plain", "--predictor", "predictor", "--budget", "overhead=50%")
    assert refused.code == 2
    assert (
        "of a base with quantisation int4, and this one has none; train or shrink with quantisation int4" in refused.err
    )

    run("train", "tiny-random", "-o", "rounded", "--quantise", "int4", *trained)
    answer = run(
        *("search", "rounded", "--predictor", "predictor", "--budget", "overhead=90%", "--evaluations", 4, "--json")
    )
    assert answer.code == 0, answer.err
    folded = answer.json["baselines"][0]
    assert (folded["name"], folded["mode"]) == ("requantised", "requantised")
    assert {row["mode"] for row in answer.json["winners"]} == {"padded"}
    verified = run("verify", "rounded/front.json", *QUICKLY, "--cache", model_cache, "--json")
    assert all(row["measured"]["value"] for row in verified.json["baselines"])


@pytest.mark.slow
def test_the_demo_runs_on_a_quantised_base(
    run: Callable[..., Any], model_cache: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"configurations": 12, "half_width": 0.5, "seconds": 1.0}
    quick |= {"steps": 4, "train_s": 20.0, "gradient_examples": 4, "held_out": 8}
    monkeypatch.setattr("adaptare.commands.tune.QUICK", quick)
    answer = run(
        *("demo", "--quick", "--model", "tiny-random", "--device", INT4, "--data", data),
        *("--cache", model_cache, "--budget", "overhead=90%", "--json"),
    )
    assert answer.code in (0, 1, 4), answer.err
    found = answer.json
    verified, (adapter, onnx) = found["verification"], found["delivered"]["exports"]
    assert (verified["place"]["device"], verified["place"]["quantisation"]) == ("ort-cpu:threads=1", "int4")
    assert verified["baselines"][0]["name"] == "requantised"
    for winner in verified["winners"]:
        value = winner["measured"]["value"]
        assert value["lower"] <= value["middle"] <= value["upper"]
    assert adapter["kind"] == "peft"
    assert Path("adaptare-demo/operators.json").is_file()
    assert (onnx["kind"], onnx["difference"] < 0.1) == ("onnx-swappable", True)
    assert (Path(onnx["folder"]) / "adapter.onnx_adapter").is_file()
