"""Models with fewer layers than their base, command by command, on a simulated device and a tiny model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.workflows.train import training

DEPTH = "groups: [{sites: '*', ranks: [4], tie: all}, {depth: [1, 2]}]"


@pytest.fixture(scope="module")
def trained_once(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("depth")
    cache = ("--cache", model_cache)
    (folder / "depth.yaml").write_text(DEPTH)
    with commands_in(folder) as run:
        merged = ("--device", "simulated", "--mode", "merged", "--space", "subnet-depth", "-p", 128)
        profiled = run("profile", "tiny-random", *merged, *cache, "--count", 14)
        assert profiled.code == 0, profiled.err
        assert any("layers kept" in line and "MLP kept" in line for line in profiled.out.splitlines()), profiled.out
        rows = run("profile", "tiny-random", *merged, *cache, "--count", 14, "--json").json["rows"]
        assert {row["kept"]["left_out"] for row in rows} == {0.5, 1}
        fitted = run("fit", "--device", "simulated", "-o", "faster")
        assert fitted.code == 0, fitted.err
        words = ("train", "tiny-random", "--recipe", "subnet", "--space", "depth.yaml", "--steps", 4, "--held-out", 8)
        trained = run(*words, "-o", "run", *cache, "--data", write_data(folder))
        assert trained.code == 0, trained.err
    return folder


@pytest.fixture
def trained(run_in_copy: Callable[..., Any], trained_once: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = run_in_copy(trained_once)
    return run


def test_a_run_keeps_the_order_that_its_preparation_found(trained: Callable[..., Any], tmp_path: Path) -> None:
    order = json.loads((tmp_path / "run" / "base" / "layer_order.json").read_text())["left_out_in_order"]
    saved = json.loads((tmp_path / "run" / "super_adapter.json").read_text())["space"]
    assert (saved["axes"][-1]["places"], saved["axes"][-1]["choices"]) == (order, [1, 2])


def test_draws_around_a_budget_cost_layers_in_the_order_of_the_preparation(
    trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_cache: Path
) -> None:
    seen: list[tuple[Any, Any]] = []

    def reversed_order(space: Space, base: Path) -> Space:
        *others, depth = space.axes
        return replace(space, axes=(*others, replace(depth, dimensions=depth.dimensions[::-1])))

    def stop(super_adapter: Any, *_: Any, step: Any, **__: Any) -> None:
        seen.append((super_adapter.space, step.sampler.limit.cost))
        raise InputError("enough")

    monkeypatch.setattr(training, "with_layer_order", reversed_order)
    monkeypatch.setattr(training, "train_super_adapter", stop)
    around = ("--predictor", "faster", "--budget", "prefill=+2%", "--data", next(tmp_path.glob("*.jsonl")))
    words = ("--recipe", "subnet", "--space", "depth.yaml", "--steps", 4, "--held-out", 8, "--cache", model_cache)
    answer = trained("train", "tiny-random", *words, *around, "-o", "around")
    assert "enough" in answer.err
    ((space, cost),) = seen
    assert cost.dimensions == space.dimensions


@pytest.mark.slow
def test_what_the_predictor_was_not_fitted_to_wins_nothing(trained: Callable[..., Any], model_cache: Path) -> None:
    apart = ("--device", "simulated", "--store", "apart.db")
    space = ("--space", "subnet-depth", "--rank", 4, "-d", 64, "--count", 14)
    profiled = trained("profile", "tiny-random", *apart, *space, "--cache", model_cache)
    assert profiled.code == 0, profiled.err
    assert trained("fit", *apart, "-o", "apart").code == 0
    words = ("--predictor", "apart", "--budget", "overhead=60%", "--evaluations", 8)
    found = trained("search", "run", *words, "--json")
    assert found.code == 0, found.err
    (part,) = (each for each in found.json["baselines"] if each["name"] == "q+v 4")
    assert part["extrapolates"]
    assert part["predicted"]["upper"] < found.json["limit"]
    assert not any(winner["extrapolates"] for winner in found.json["winners"])


@pytest.mark.slow
def test_from_a_search_below_the_base_to_a_model_of_fewer_layers(
    trained: Callable[..., Any], model_cache: Path, tmp_path: Path
) -> None:
    searched = trained(
        "search", "run", "--predictor", "faster", "--budget", "prefill=-2%", "--evaluations", 8, "--json"
    )
    assert searched.code == 0, searched.err
    assert [winner["configuration"]["left_out"] for winner in searched.json["winners"]] == [[1]]
    assert {"1 layers", "merged"} <= {each["name"] for each in searched.json["baselines"]}

    verified = trained("verify", "run/front.json", "--json")
    assert verified.code == 0, verified.err
    assert verified.json["winners"][0]["measured"]["overhead"]["upper"] <= -0.02

    exported = trained("export", "run/front.json", "--to", "merged", "-o", "smaller")
    assert exported.code == 0, exported.err
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "smaller")
    assert (model.config.num_hidden_layers, len(model.model.layers)) == (1, 1)
    with torch.no_grad():
        assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    refused = trained("export", "run/front.json", "-o", "adapter")
    assert refused.code == 2
    assert "belongs to a model of fewer layers" in refused.err
    onnx = trained("export", "run/front.json", "--to", "onnx", "-o", "onnx", "--cache", model_cache, "--json")
    assert onnx.code == 0, onnx.err
    assert onnx.json["difference"] < 1e-3
    assert onnx.json["configuration"]["left_out"] == [1]


@pytest.mark.slow
def test_a_model_of_fewer_layers_is_exported_without_a_search(trained: Callable[..., Any], tmp_path: Path) -> None:
    exported = trained("export", "run", "--choice", "1-layers", "--to", "merged", "-o", "shallow")
    assert exported.code == 0, exported.err
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "shallow").config.num_hidden_layers == 1


def test_a_budget_below_the_shallowest_model_is_infeasible_and_says_what_to_do(trained: Callable[..., Any]) -> None:
    found = trained("search", "run", "--predictor", "faster", "--budget", "prefill=-95%", "--evaluations", 4)
    assert found.code == 1
    assert "give the space smaller depth, or raise the budget" in found.err
