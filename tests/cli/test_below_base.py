"""Models faster than their base, command by command, on a simulated device and a tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow  # test_depth_path.py has the same path in the default run
BUDGET = "prefill=-2%"
# Recipe -> weights of the base, device with these, and how adapters are merged there.
CASES = {"lonas": ("none", "simulated", "merged"), "subnet": ("int4", "simulated:int4", "requantised")}


@pytest.fixture(scope="module", params=CASES)
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
    quantise, device, mode = CASES[recipe]
    with commands_in(folder) as run:
        narrow = ("--device", device, "--mode", mode, "--space", recipe, "-p", 128)
        profiled = run("profile", "tiny-random", *narrow, *cache, "--count", 14, "--json")
        assert profiled.code == 0, profiled.err
        assert all(row["sites"] == 0 for row in profiled.json["rows"])  # merged adapters change no latency
        fitted = run("fit", "--device", device, "-o", "faster")
        assert fitted.code == 0, fitted.err
        words = ("train", "tiny-random", "--recipe", recipe, "--quantise", quantise, "--steps", 4, "--held-out", 8)
        trained = run(*words, "-o", "run", *cache, "--data", write_data(folder))
        assert trained.code == 0, trained.err
    return folder


@pytest.fixture
def trained(run_in_copy: Callable[..., Any], trained_once: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = run_in_copy(trained_once)
    return run


def test_from_a_search_below_the_base_to_a_smaller_model(
    recipe: str, trained: Callable[..., Any], model_cache: Path, tmp_path: Path
) -> None:
    searched = trained("search", "run", "--predictor", "faster", "--budget", BUDGET, "--evaluations", 16, "--json")
    assert searched.code == 0, searched.err
    selection = searched.json
    assert selection["limit"] == pytest.approx(0.98 * selection["base"])
    quantise, _, mode = CASES[recipe]
    assert {mode, "midpoint"} <= {each["name"] for each in selection["baselines"]}
    cuts = [each for each in selection["baselines"] if each["name"].startswith("uniform width ")]
    assert 1 <= len(cuts) <= 3
    assert all(each["predicted"]["upper"] <= selection["limit"] for each in cuts)
    if mode == "merged":  # otherwise losses are of weights that are quantised again, which guided no search
        assert min(each["val_loss"] for each in selection["winners"]) <= min(each["val_loss"] for each in cuts) + 1e-6
    for winner in selection["winners"]:
        assert winner["mode"] == mode
        assert winner["configuration"]["widths"]
        assert winner["predicted"]["upper"] <= selection["limit"]
    merged = next(each for each in selection["baselines"] if each["name"] == mode)
    assert merged["predicted"]["middle"] == selection["base"]

    verified = trained("verify", "run/front.json", "--json")
    assert verified.code == 0, verified.err
    assert verified.json["winners"][0]["measured"]["overhead"]["upper"] <= -0.02

    widths = selection["winners"][0]["configuration"]["widths"]
    exported = trained("export", "run/front.json", "--to", "merged", "-o", "smaller")
    if len(widths) == 2 and len(set(widths.values())) == 1:
        assert exported.code == 0
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "smaller")
        assert model.config.intermediate_size == next(iter(widths.values()))
        with torch.no_grad():
            assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    else:
        assert exported.code == 2
        assert "export it for ONNX Runtime, as onnx" in exported.err
    onnx = trained("export", "run/front.json", "--to", "onnx", "-o", "onnx", "--cache", model_cache, "--json")
    assert onnx.code == 0, onnx.err
    assert onnx.json["quantisation"] == quantise
    assert onnx.json["difference"] < (1e-3 if quantise == "none" else 0.1)
    assert onnx.json["configuration"]["widths"] == widths


def test_a_model_of_one_width_is_exported_without_a_predictor(trained: Callable[..., Any], tmp_path: Path) -> None:
    exported = trained("export", "run", "--choice", "uniform-96", "--to", "merged", "-o", "narrow")
    assert exported.code == 0, exported.err
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "narrow").config.intermediate_size == 96


def test_a_budget_below_the_narrowest_model_is_infeasible_and_says_what_to_do(trained: Callable[..., Any]) -> None:
    found = trained("search", "run", "--predictor", "faster", "--budget", "prefill=-90%", "--evaluations", 4)
    assert found.code == 1
    assert "give the space smaller widths, or raise the budget" in found.err
