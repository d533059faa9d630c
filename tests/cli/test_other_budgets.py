"""Budgets of energy and memory, from the campaign to the verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEVICE = ("--device", "simulated:power_w=5")
CASES = {"energy": ("energy=+20%", "mJ"), "memory": ("memory=+20%", "MB")}


@pytest.fixture(scope="module")
def profiled(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("budgets")
    cache = ("--cache", model_cache)
    with commands_in(folder) as run:
        quantities = [word for quantity in CASES for word in ("--quantity", quantity)]
        found = run("profile", "tiny-random", *DEVICE, *cache, "--space", "sites", "--count", 24, *quantities)
        assert found.code == 0, found.err
        train = ("train", "tiny-random", "--steps", 2, "--space", "sites", "-o", "run", "--held-out", 8)
        trained = run(*train, "--data", write_data(folder), *cache)
        assert trained.code == 0, trained.err
    return folder


@pytest.mark.parametrize("quantity", CASES)
def test_a_budget_of_a_quantity_is_searched_and_verified(
    run_in_copy: Callable[..., Any], profiled: Path, quantity: str
) -> None:
    run, (budget, unit) = run_in_copy(profiled), CASES[quantity]
    fitted = run("fit", *DEVICE, "--quantity", quantity, "-o", "predictor")
    assert fitted.code == 0, fitted.err
    found = run("search", "run", "--predictor", "predictor", "--budget", budget, "--evaluations", 8, "--json")
    assert found.code == 0, found.err
    assert found.json["limit"] == pytest.approx(1.2 * found.json["base"])
    assert all(each["predicted"]["upper"] <= found.json["limit"] for each in found.json["winners"])
    verified = run("verify", "run/front.json", *DEVICE, "--json")
    assert verified.code == 0, verified.err
    for winner in verified.json["winners"]:
        assert winner["measured"]["verdict"] == "met"
        assert winner["measured"]["value"]["middle"] == pytest.approx(winner["predicted"]["middle"], rel=0.02)
    table = run("verify", "run/front.json", *DEVICE)
    assert f"measured {unit}" in table.out
    small = run("search", "run", "--predictor", "predictor", "--budget", budget.replace("+20", "-99.9"))
    assert small.code == 1
    assert f" {unit}: the smallest reachable is" in small.err
