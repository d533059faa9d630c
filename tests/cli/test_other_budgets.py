"""Budgets of energy, memory and a percentile, from the campaign to the verdict."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Configuration
from adaptare.search.training import FisherChanges
from adaptare.workflows.search.result import load_result
from adaptare.workflows.train.adaptation import reload_adaptation

DEVICE = ("--device", "simulated:power_w=5")
CASES = {"energy": ("energy=+20%", "mJ"), "memory": ("memory=+20%", "MB"), "p90": ("p90(decode)=+20%", "ms")}


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
        for quantity in ("latency", "memory"):
            assert run("fit", *DEVICE, "--quantity", quantity, "-o", quantity).code == 0
    return folder


@pytest.mark.slow_after(1)
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
    assert f" {unit}; base " in table.out
    small = run("search", "run", "--predictor", "predictor", "--budget", budget.replace("+20", "-99.9"))
    assert small.code == 1
    assert f" {unit}: the smallest reachable is" in small.err


@pytest.fixture
def both(run_in_copy: Callable[..., Any], profiled: Path) -> Callable[..., Any]:
    """Searches under budgets of latency and memory, with a predictor of each."""
    return run_in_copy(profiled)


def search(run: Callable[..., Any], *budgets: str, predictors: tuple[str, ...] = ("latency", "memory")) -> Any:
    words = [word for file in predictors for word in ("--predictor", file)]
    return run("search", "run", *words, *[word for each in budgets for word in ("--budget", each)], "--json")


@pytest.mark.parametrize("binding", [("decode=+8%", "memory=+90%"), ("decode=+90%", "memory=+8%")])
def test_winners_meet_all_of_several_budgets(both: Callable[..., Any], binding: tuple[str, str]) -> None:
    found = search(both, *binding)
    assert found.code == 0, found.err
    assert [each["budget"] for each in (found.json, *found.json["further"])] == list(binding)
    for result in (found.json, *found.json["further"]):
        assert result["winners"]
        assert all(each["predicted"]["upper"] <= result["limit"] for each in result["winners"])
    (memory,) = found.json["further"]
    assert found.json["front"]
    assert memory["front"] == []  # its points have predictions of the first budget
    assert memory["base"] > 1e4 > 1 > found.json["base"]
    whole = next(each for each in found.json["baselines"] if each["name"] == "uniform 16")
    assert whole["predicted"]["upper"] > found.json["limit"] or binding[0] == "decode=+90%"

    verified = both("verify", "run/front.json", *DEVICE, "--json")
    assert verified.code == 0, verified.err
    for result in (verified.json, *verified.json["further"]):
        assert all(each["measured"]["verdict"] == "met" for each in result["winners"])
    table = both("verify", "run/front.json", *DEVICE)
    assert table.out.count("measured") == 2
    assert all(f"Budget {budget}: " in table.out for budget in binding)


@pytest.mark.parametrize(
    ("budgets", "predictors", "code", "message"),
    [
        (("decode=+8%", "memory=-99.9%"), ("latency", "memory"), 1, "MB: the smallest reachable is"),
        (("decode=+8%", "decode=20ms"), ("latency",), 2, "decode=+8% and decode=20ms limit the same quantity"),
        (("decode=+8%",), ("latency", "memory"), 2, "1 budgets need 1 predictors in the same order, or one for all"),
        (("memory:decode=+8%",), ("memory",), 2, "budget memory:decode=+8%: the predictor is of memory; measure"),
        (
            ("latency:decode=+8%", "memory:memory=+9%", "latency:decode=2s"),
            ("memory", "latency"),
            2,
            "the same quantity",
        ),
        (("joy:decode=+8%",), ("latency",), 2, "must name one of the predictors latency, not 'joy'"),
        (("latency:decode=+8%",), ("latency", "memory"), 2, "no budget is for the predictor 'memory'"),
        (("memory=+8%", "decode=+8%"), ("latency", "memory"), 2, "budget memory=+8%: the predictor is of latency"),
        (("decode=+8%", "prefill@9=1ms"), ("latency",), 2, "the predictor is of decode; profile and fit prefill"),
        (("decode=+8%", "joy=3"), ("latency", "memory"), 2, "must limit one of prefill, decode, overhead"),
    ],
)
def test_budgets_that_cannot_be_searched_together_are_refused(
    both: Callable[..., Any], budgets: tuple[str, ...], predictors: tuple[str, ...], code: int, message: str
) -> None:
    refused = search(both, *budgets, predictors=predictors)
    assert refused.code == code
    assert message in refused.err


def test_a_budget_names_its_predictor(both: Callable[..., Any]) -> None:
    in_order = search(both, "decode=+8%", "memory=+90%").json
    names = ("memory:memory=+90%", "./latency.json:decode=+8%")
    found = search(both, *names, predictors=("./latency.json", "memory"))
    assert found.code == 0, found.err
    (latency,) = found.json["further"]
    assert [each["budget"] for each in (found.json, latency)] == list(names)
    assert (found.json["limit"], latency["limit"]) == (in_order["further"][0]["limit"], in_order["limit"])
    verified = both("verify", "run/front.json", *DEVICE)
    assert "Budget ./latency.json:decode=+8%: " in verified.out


def test_one_adapter_meets_budgets_of_two_devices(run_in_copy: Callable[..., Any], profiled: Path) -> None:
    run, board = run_in_copy(profiled), ("--device", "simulated:launch_s=0.0001")
    assert run("profile", "tiny-random", *board, "--space", "sites", "--count", 24).code == 0
    assert run("fit", *board, "-o", "board").code == 0
    alone = search(run, "decode=+20%", predictors=("latency",)).json
    budgets = ("latency:decode=+20%", "board:decode=+8%")
    found = search(run, *budgets, predictors=("latency", "board"))
    assert found.code == 0, found.err
    each = (found.json, *found.json["further"])
    assert [own["place"]["device"] for own in each] == ["simulated", board[1]]
    for own in each:
        assert own["winners"]
        assert all(winner["predicted"]["upper"] <= own["limit"] for winner in own["winners"])
    first, both = (answer["winners"][0]["configuration"] for answer in (alone, found.json))
    assert first != both  # the board's budget binds
    verified = run("verify", "run/front.json", "--json")
    assert verified.code == 0, verified.err
    for own in (verified.json, *verified.json["further"]):
        assert all(winner["measured"]["verdict"] == "met" for winner in own["winners"])
    Path("verified.json").write_text(verified.out)
    assert run("report", "verified.json").code == 0
    assert Path("report.html").read_text().count("Winners under the budget") >= 1
    refused = run("verify", "run/front.json", *board)
    assert refused.code == 2
    assert f"has budgets of simulated and {board[1]}, which are measured on their own devices" in refused.err


def test_contributions_compare_the_winner_with_itself_without_one_axis(both: Callable[..., Any]) -> None:
    assert search(both, "decode=+8%", "memory=+90%").code == 0
    result = load_result(Path("run/front.json"))
    ranks = result.winners[0].configuration.by_path
    adaptation, super_adapter = reload_adaptation(Path("run"))
    space, examples = super_adapter.space, adaptation.examples.train[:64]
    changes = FisherChanges(super_adapter, space, examples)
    point = np.array([axis.choices.index(ranks.get(axis.dimensions[0].place, 0)) for axis in space.axes])
    lost = {axis.dimensions[0].place: row[0] for axis, row in zip(space.axes, changes(point), strict=True)}
    tokens = sum(len(example.ids) - example.prompt_tokens for example in examples)
    for each, file in zip(result.under_each, ("latency", "memory"), strict=True):
        predictor = load_predictor(Path(file)).relative

        def predicted(ranks: Mapping[str, int], predictor: FittedPredictor = predictor) -> float:
            codes = space.encode(Configuration.of(ranks))
            return float(predictor.predict(codes[None], space.dimensions).mean[0])

        assert {path for one in each.contributions for path in one.linears} == set(ranks)
        for one in each.contributions:
            (path,) = one.linears
            others = {other: rank for other, rank in ranks.items() if other != path}
            assert one.cost == pytest.approx(predicted(ranks) - predicted(others))
            assert one.gain == pytest.approx(lost[path] / tokens)
    shown = both("search", "run", "--predictor", "latency", "--budget", "decode=+8%").out
    assert "Adapters of winner 1, each compared with the winner without it" in shown
