"""Recipes on sparse bases, command by command, on a simulated device and a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from adaptare.search.super_adapter.base_model import decoder_linears
from adaptare.search.super_adapter.merging import share_of_zeros

Run = Callable[..., Any]
MODEL = "tiny-random"


@pytest.fixture
def searched(run: Run, model_cache: Path, tmp_path: Path) -> Callable[[str], Any]:
    """Trains a recipe and searches it, with a predictor of the simulated device."""
    rows = [{"prompt": f"How much is {a} plus {b}?", "completion": str(a + b)} for a in range(8) for b in range(8)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    cache = ("--cache", model_cache)
    profile = ("profile", MODEL, "--device", "simulated", "--space", "kinds", "--rank", "0,16,32", "--count", 12)
    assert run(*profile, *cache).code == 0
    assert run("fit", "--device", "simulated").code == 0

    def call(recipe: str) -> Any:
        train = ("train", MODEL, "-o", "run", "--recipe", recipe, "--data", "data.jsonl", "--steps", 3)
        done = run(*train, "--held-out", 6, *cache)
        assert done.code == 0, done.err
        search = ("search", "run", "--predictor", "predictor-decode", "--budget", "overhead=400%", "--evaluations", 6)
        return run(*search, "--json")

    return call


@pytest.mark.usefixtures("without_card")
@pytest.mark.slow
def test_adapters_that_are_merged_are_searched_for_their_loss_alone(
    searched: Callable[[str], Any], run: Run, tmp_path: Path
) -> None:
    found = searched("sqft-sparsepeft")
    assert found.code == 0, found.err
    assert "all take as long as their base" in found.err
    for each in (*found.json["winners"], *found.json["baselines"]):
        assert (each["mode"], *each["predicted"].values()) == ("merged", *[found.json["base"]] * 3)
    assert "merged" in {each["name"] for each in found.json["baselines"]}
    refused = run("export", "run/front.json", "-o", "adapter")
    assert refused.code == 2
    assert "export it merged, as merged or onnx" in " ".join(refused.err.split())
    assert run("export", "run/front.json", "-o", "merged", "--to", "merged").code == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert share_of_zeros([linear.weight for linear in decoder_linears(merged).values()]) == 0.5


@pytest.mark.usefixtures("without_card")
def test_adapters_apart_from_a_sparse_base_are_searched_under_the_budget_and_not_merged(
    searched: Callable[[str], Any], run: Run
) -> None:
    found = searched("shears")
    assert found.code == 0, found.err
    assert "merged" not in {each["name"] for each in found.json["baselines"]}
    assert all(each["predicted"]["middle"] > found.json["base"] for each in found.json["winners"])
    refused = run("export", "run/front.json", "-o", "merged", "--to", "merged")
    assert refused.code == 2
    assert "merging this adapter would leave 0.0% zeros" in " ".join(refused.err.split())
    done = run("export", "run/front.json", "-o", "adapter", "--json")
    assert done.code == 0, done.err
    assert set(done.json["configuration"]["ranks"].values()) <= {16, 24, 32}


def test_the_sparsity_of_a_recipe_is_an_option_of_train(run: Run, model_cache: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"How much is {a} plus {b}?", "completion": str(a + b)} for a in range(8) for b in range(8)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    train = ("train", MODEL, "-o", "run", "--data", "data.jsonl", "--steps", 1, "--cache", model_cache)
    dense = run(*train, "--sparsity", "40%")
    assert dense.code == 2
    assert "'placement' keeps its base dense" in " ".join(dense.err.split())
    assert not (tmp_path / "run").exists()
    assert run(*train, "--recipe", "shears", "--sparsity", "25%").code == 0
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "base")
    assert share_of_zeros([linear.weight for linear in decoder_linears(pruned).values()]) == 0.25
    other = run(*train, "--recipe", "shears")
    assert other.code == 2
    assert "sparsity 0.25, not None" in " ".join(other.err.split())
