"""Models faster than their base, command by command, on a simulated device and a tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

DEVICE = ("--device", "simulated")
PROFILE = ("profile", "tiny-random", *DEVICE, "--mode", "merged", "--space", "subnet")
BUDGET = "prefill=-2%"


@pytest.fixture(scope="module", params=["lonas", "subnet"])
def recipe(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained_once(
    recipe: str,
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp(recipe)
    cache = ("--cache", model_cache)
    with commands_in(folder) as run:
        profiled = run(*PROFILE, *cache, "-p", 128, "--count", 14, "--json")
        assert profiled.code == 0, profiled.err
        assert all(row["sites"] == 0 for row in profiled.json["rows"])  # merged adapters change no latency
        fitted = run("fit", *DEVICE, "-o", "faster")
        assert fitted.code == 0, fitted.err
        words = ("train", "tiny-random", "--recipe", recipe, "--steps", 4, "--held-out", 8, "-o", "run", *cache)
        trained = run(*words, "--data", write_data(folder))
        assert trained.code == 0, trained.err
    return folder


@pytest.fixture
def trained(run_in_copy: Callable[..., Any], trained_once: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = run_in_copy(trained_once)
    return run


def test_from_a_search_below_the_base_to_a_smaller_model(
    trained: Callable[..., Any], model_cache: Path, tmp_path: Path
) -> None:
    searched = trained("search", "run", "--predictor", "faster", "--budget", BUDGET, "--evaluations", 16, "--json")
    assert searched.code == 0, searched.err
    selection = searched.json
    assert selection["budget_s"] == pytest.approx(0.98 * selection["base_s"])
    assert {"merged", "uniform width 64", "midpoint"} <= {each["name"] for each in selection["baselines"]}
    for winner in selection["winners"]:
        assert winner["mode"] == "merged"
        assert winner["widths"]
        assert winner["predicted_upper_s"] <= selection["budget_s"]
    merged = next(each for each in selection["baselines"] if each["name"] == "merged")
    assert merged["predicted_s"] == selection["base_s"]

    verified = trained("verify", "run/front.json", "--json")
    assert verified.code == 0, verified.err
    assert verified.json["winners"][0]["overhead_upper"] <= -0.02

    widths = selection["winners"][0]["widths"]
    exported = trained("export", "run/front.json", "--to", "merged", "-o", "smaller")
    if len(widths) == 2 and len(set(widths.values())) == 1:
        assert exported.code == 0
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "smaller")
        assert model.config.intermediate_size == next(iter(widths.values()))
        with torch.no_grad():
            assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    else:
        assert exported.code == 2
        assert "with --to onnx" in exported.err
    refused = trained("export", "run/front.json", "-o", "adapter")
    assert refused.code == 2
    assert "belongs to narrower layers" in refused.err
    onnx = trained("export", "run/front.json", "--to", "onnx", "-o", "onnx", "--cache", model_cache, "--json")
    assert onnx.code == 0, onnx.err
    assert onnx.json["difference"] < 1e-3
    assert onnx.json["widths"] == widths


def test_a_budget_below_the_narrowest_model_is_infeasible_and_says_what_to_do(trained: Callable[..., Any]) -> None:
    found = trained("search", "run", "--predictor", "faster", "--budget", "prefill=-90%", "--evaluations", 4)
    assert found.code == 1
    assert "give the space narrower widths, or raise the budget" in found.err


def test_a_relative_budget_without_a_sign_is_refused(trained: Callable[..., Any]) -> None:
    found = trained("search", "run", "--predictor", "faster", "--budget", "prefill=15%")
    assert found.code == 2
    assert "needs a sign to be relative to the base: -15% is 15 % less" in found.err
