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
PROFILE = ("profile", "tiny-random", "--space", "sites", "--count", 16)
# Of memory the budget binds, of latency it does not.
NAMED = ("memory:memory=+8%", "./latency.json:decode=+90%")


def search(run: Callable[..., Any], *budgets: str, predictors: tuple[str, ...] = ("latency", "memory")) -> Any:
    words = [word for file in predictors for word in ("--predictor", file)]
    words += [word for each in budgets for word in ("--budget", each)]
    return run("search", "run", *words, "--evaluations", 8, "--json")


@pytest.fixture(scope="module")
def searched(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a predictor of latency and one of memory, a training, and its search under budgets of both."""
    folder = tmp_path_factory.mktemp("budgets")
    cache = ("--cache", model_cache)
    with commands_in(folder) as run:
        found = run(*PROFILE, *DEVICE, *cache, "--quantity", "memory")
        assert found.code == 0, found.err
        train = ("train", "tiny-random", "--steps", 2, "--space", "sites", "-o", "run", "--held-out", 8)
        trained = run(*train, "--data", write_data(folder), *cache)
        assert trained.code == 0, trained.err
        for quantity in ("latency", "memory"):
            assert run("fit", *DEVICE, "--quantity", quantity, "-o", quantity).code == 0
        done = search(run, *NAMED, predictors=("./latency.json", "memory"))
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def both(run_in_copy: Callable[..., Any], searched: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = run_in_copy(searched)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantity", "budget", "unit"), [("energy", "energy=+20%", "mJ"), ("p90", "p90(decode)=+20%", "ms")]
)
def test_a_budget_of_a_quantity_is_searched_and_verified(
    both: Callable[..., Any], model_cache: Path, quantity: str, budget: str, unit: str
) -> None:
    assert both(*PROFILE, *DEVICE, "--quantity", quantity, "--cache", model_cache).code == 0
    fitted = both("fit", *DEVICE, "--quantity", quantity, "-o", "predictor")
    assert fitted.code == 0, fitted.err
    found = both("search", "run", "--predictor", "predictor", "--budget", budget, "--evaluations", 8, "--json")
    assert found.code == 0, found.err
    assert found.json["limit"] == pytest.approx(1.2 * found.json["base"])
    assert all(each["predicted"]["upper"] <= found.json["limit"] for each in found.json["winners"])
    verified = both("verify", "run/front.json", *DEVICE, "--json")
    assert verified.code == 0, verified.err
    for winner in verified.json["winners"]:
        assert winner["measured"]["verdict"] == "met"
        assert winner["measured"]["value"]["middle"] == pytest.approx(winner["predicted"]["middle"], rel=0.02)
    small = both("search", "run", "--predictor", "predictor", "--budget", budget.replace("+20", "-99.9"))
    assert small.code == 1
    assert f" {unit}: the smallest reachable is" in small.err


@pytest.mark.slow
def test_winners_meet_all_of_several_budgets_and_each_budget_may_name_its_predictor(both: Callable[..., Any]) -> None:
    verified = both("verify", "run/front.json", *DEVICE, "--json")
    assert verified.code == 0, verified.err
    memory, (latency,) = verified.json, verified.json["further"]
    assert [each["budget"] for each in (memory, latency)] == list(NAMED)
    for result, share in ((memory, 1.08), (latency, 1.9)):
        assert result["limit"] == pytest.approx(share * result["base"])
        assert result["winners"]
        assert all(each["predicted"]["upper"] <= result["limit"] for each in result["winners"])
        assert all(each["measured"]["verdict"] == "met" for each in result["winners"])
    assert memory["base"] > 1e4 > 1 > latency["base"]
    assert memory["front"]
    assert latency["front"] == []  # its points have predictions of the first budget
    for result, binds in ((memory, True), (latency, False)):
        largest = next(row for row in result["baselines"] if row["name"] == "uniform 16")
        assert (largest["predicted"]["upper"] > result["limit"]) == binds


@pytest.mark.parametrize(
    ("budgets", "predictors", "code", "message"),
    [
        (("decode=+8%", "memory=-99.9%"), ("latency", "memory"), 1, "MB: the smallest reachable is"),
        (("decode=+8%", "decode=20ms"), ("latency",), 2, "decode=+8% and decode=20ms limit the same quantity"),
        (("decode=+8%",), ("latency", "memory"), 2, "1 budgets need 1 predictors in the same order, or one for all"),
        (("memory:decode=+8%",), ("memory",), 2, "budget memory:decode=+8%: the predictor is of memory; measure"),
        (("joy:decode=+8%",), ("latency",), 2, "must name one of the predictors latency, not 'joy'"),
        (("latency:decode=+8%",), ("latency", "memory"), 2, "no budget is for the predictor 'memory'"),
        (("decode=+8%", "prefill@9=1ms"), ("latency",), 2, "the predictor is of decode; profile and fit prefill"),
    ],
)
def test_budgets_that_cannot_be_searched_together_are_refused(
    both: Callable[..., Any], budgets: tuple[str, ...], predictors: tuple[str, ...], code: int, message: str
) -> None:
    refused = search(both, *budgets, predictors=predictors)
    assert refused.code == code
    assert message in refused.err


@pytest.mark.usefixtures("without_card")
def test_one_adapter_meets_budgets_of_two_devices(both: Callable[..., Any]) -> None:
    board = ("--device", "simulated:launch_s=0.0001")
    assert both(*PROFILE, *board).code == 0
    assert both("fit", *board, "-o", "board").code == 0
    found = search(both, "latency:decode=+20%", "board:decode=+8%", predictors=("latency", "board"))
    assert found.code == 0, found.err
    first, second = found.json, found.json["further"][0]
    assert [own["place"]["device"] for own in (first, second)] == ["simulated", board[1]]
    assert any(  # the board's budget binds
        one["predicted"]["upper"] <= first["limit"] and other["predicted"]["upper"] > second["limit"]
        for one, other in zip(first["baselines"], second["baselines"], strict=True)
    )
    verified = both("verify", "run/front.json", "--json")
    assert verified.code == 0, verified.err
    for own in (verified.json, *verified.json["further"]):
        assert own["winners"]
        assert all(winner["predicted"]["upper"] <= own["limit"] for winner in own["winners"])
        assert all(winner["measured"]["verdict"] == "met" for winner in own["winners"])
    Path("verified.json").write_text(verified.out)
    assert both("report", "verified.json").code == 0
    refused = both("verify", "run/front.json", *board)
    assert refused.code == 2
    assert f"has budgets of simulated and {board[1]}, which are measured on their own devices" in refused.err


def test_contributions_compare_the_winner_with_itself_without_one_axis(both: Callable[..., Any]) -> None:
    result = load_result(Path("run/front.json"))
    ranks = result.winners[0].configuration.by_path
    adaptation, super_adapter = reload_adaptation(Path("run"))
    space, examples = super_adapter.space, adaptation.examples.train[:64]
    changes = FisherChanges(super_adapter, space, examples)
    point = np.array([axis.choices.index(ranks.get(axis.dimensions[0].place, 0)) for axis in space.axes])
    lost = {axis.dimensions[0].place: row[0] for axis, row in zip(space.axes, changes(point), strict=True)}
    tokens = sum(len(example.ids) - example.prompt_tokens for example in examples)
    for each, file in zip(result.under_each, ("memory", "latency"), strict=True):
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
