"""The benchmark of the search, whole, on a tiny model: rows of the published methods, and what they are made of."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import search_choice
import search_costs
import search_estimates
import search_exact
import search_latency
import search_published
import torch
from sklearn.decomposition import PCA
from typer.testing import CliRunner

import search
from adaptare.app import app
from adaptare.profiler import Space, open_model
from adaptare.profiler.workloads.space_file import named_space
from adaptare.search import Limit
from adaptare.search.training.passes import pad_batch
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.tuning import RANKS

pytestmark = pytest.mark.slow
PUBLISHED = ["AdaLoRA", "EVA", "PLoP"]


def in_this_process(*words: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    monkeypatch.setattr("sys.argv", ["search.py", *words])
    search.main()
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["by_seed"][0]
    return found


def words_of(folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A call of the benchmark on the simulated device, with commands in this process."""
    monkeypatch.setattr(search, "command", in_this_process)
    words = ["--model", "tiny-random", "--device", "simulated", "--folder", folder, "--trained", trained.parent]
    limits = ["--parts", 0.5, "--seeds", 0, "--count", 12, "--seconds", 0.5, "--evaluations", 2]
    return [*map(str, [*words, *limits]), "--json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short training."""
    folder = tmp_path_factory.mktemp("search")
    run = folder / "run-0"
    words = (
        "--steps",
        3,
        "--held-out",
        8,
        "--space",
        "blocks",
        "--rank",
        ",".join(map(str, RANKS)),
        "--quantise",
        "none",
    )
    trained = in_this_process("train", "tiny-random", "-o", run, *words)
    (folder / "train-0.json").write_text(json.dumps(trained), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def scores(trained: Path) -> dict[str, Any]:
    return {method: score(trained) for method, score in search_published.SCORES.items()}


@pytest.fixture(scope="module")
def space() -> Space:
    return named_space("blocks", open_model("tiny-random").shape, ranks=RANKS)


class Cost:
    """A millisecond for the base, and shares of it for each linear with an adapter and for each rank."""

    name = "cost_s"

    def __call__(self, codes: np.ndarray[Any, Any], /) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = 1e-3 + 1e-5 * (codes > 0).sum(axis=-1) + 1e-6 * codes.sum(axis=-1)
        return found


def test_all_rows_are_within_the_limit_and_the_published_come_without_any_other_part(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(tmp_path, trained, monkeypatch)
    before = rows(words, monkeypatch, capsys)
    found = {row["name"]: row for row in before}
    assert found["winner"]["difference"] == [0, 0, 0]
    searched = json.loads((tmp_path / "search-0-0.5.json").read_text(encoding="utf-8"))
    assert found["winner"]["predicted_upper_s"] == pytest.approx(searched["winners"][0]["predicted"]["upper"])
    assert found["rank 16 everywhere"]["predicted_upper_s"] > found["winner"]["limit_s"] == searched["limit"]
    for name, row in found.items():
        assert row["predicted_upper_s"] <= row["limit_s"] or name == "rank 16 everywhere"
        lower, middle, upper = row["difference"]
        assert lower <= middle <= upper
        assert middle == pytest.approx(row["loss"] - found["winner"]["loss"])
    assert set(PUBLISHED) < set(found)
    (tmp_path / "published-0.json").unlink()
    for part in ("command", "judged"):
        monkeypatch.setattr(search, part, None)
    monkeypatch.setattr(search, "SCORES", dict.fromkeys(search.SCORES))  # each was kept
    assert rows(words, monkeypatch, capsys) == before
    (tmp_path / "search-0-0.5.json").write_text(json.dumps({**searched, "budget": "overhead=1%"}), encoding="utf-8")
    with pytest.raises(SystemExit, match="is of the budget overhead=1%, not overhead="):
        rows(words, monkeypatch, capsys)


def test_the_same_choices_are_measured_beside_the_budget_once(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = rows(words_of(tmp_path, trained, monkeypatch), monkeypatch, capsys)
    (tmp_path / "run-0").symlink_to(trained)
    of_session = ["--parts", "0.5", "--seeds", "0", "--seconds", "2", "--half-width", "0.01"]
    monkeypatch.setattr("sys.argv", ["search_latency.py", "--folder", str(tmp_path), *of_session, "--json"])
    search_latency.main()
    first = json.loads(capsys.readouterr().out)["rows"]
    found = {row["name"]: row for row in first}
    assert set(found) == {row["name"] for row in compared if row["linears"] and row["name"] not in PUBLISHED}
    for row in compared:
        if own := found.get(row["name"]):
            assert (own["loss"], own["difference"]) == (row["loss"], row["difference"])
    middle, lower, upper = found["rank 16 everywhere"]["overhead"]
    assert found["winner"]["predicted"] <= found["winner"]["budget"] < lower <= middle <= upper
    assert found["rank 16 everywhere"]["verdict"] == "missed"
    monkeypatch.setattr(Campaign, "measure", None)
    search_latency.main()
    assert json.loads(capsys.readouterr().out)["rows"] == first


Printed = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def printed_rows(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Printed:
    """Rows that a script prints of a folder of this benchmark, with one training and half of the overhead."""
    rows(words_of(tmp_path, trained, monkeypatch), monkeypatch, capsys)
    (tmp_path / "run-0").symlink_to(trained)

    def run(script: ModuleType, *words: str) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["", "--folder", str(tmp_path), "--seeds", "0", "--json", *words])
        script.main()
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
        return found

    return run


def test_every_rule_chooses_from_the_same_configurations(printed_rows: Printed) -> None:
    found = {row["rule"]: row for row in printed_rows(search_choice, "--parts", "0.5")}
    assert list(found) == ["paired interval", "lowest loss", "expected loss"]
    assert len({row["candidates"] for row in found.values()}) == 1
    assert found["lowest loss"]["candidates"] > 1
    assert found["lowest loss"]["validation_loss"] == min(row["validation_loss"] for row in found.values())


def test_estimates_stand_beside_true_changes(printed_rows: Printed) -> None:
    found = {(row["way"], row["estimate"]): row for row in printed_rows(search_estimates, "--part", "0.5")}
    for way, sign in (("left out", 1), ("added", -1)):
        first, second, both = (found[way, each] for each in ("first order", "second order", "both"))
        assert first["changes"] >= 1
        assert sign * second["mean"] > 0
        assert both["mean"] == pytest.approx(first["mean"] + abs(second["mean"]))
        assert first["true_mean_train"] == both["true_mean_train"] != 0


def test_the_exact_optimum_stands_beside_steps(printed_rows: Printed) -> None:
    found = {row["estimates"]: row for row in printed_rows(search_exact, "--parts", "0.5")}
    assert set(found) == set(search_exact.ESTIMATES)
    start = found["at what was found"]
    assert start["estimated"]["steps"] == start["true"]["steps"] == 0.0
    assert (start["true"]["exact"] == 0.0) == (start["changed"] == 0)
    assert found["at the largest"]["true"]["steps"] != 0.0


def test_costs_find_placements_within_the_same_parts(printed_rows: Printed) -> None:
    words = ("--parts", "0.3", "0.6", "--seconds", "2", "--half-width", "0.02")
    found = {(row["cost"], row["part"]): row for row in printed_rows(search_costs, *words)}
    proxies = {"staged-fisher by parameters", "staged-fisher by linears"}
    assert {cost for cost, _ in found} == {search_costs.LATENCY, search_costs.LARGEST, *proxies}
    assert {part for cost, part in found if cost == search_costs.LATENCY} == {0.3, 0.6}
    largest = found[search_costs.LARGEST, 1.0]
    assert largest["linears"] == max(row["linears"] for row in found.values())
    for (cost, part), row in found.items():
        assert 0 < row["overhead"][0] <= largest["overhead"][0], (cost, part)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 1.0])
def test_every_method_is_within_the_limit_with_ranks_of_the_space(
    share: float, space: Space, scores: dict[str, Any]
) -> None:
    cost = Cost()
    least, most = (float(cost(codes[None])[0]) for codes in (space.base, space.at(space.highest)))
    limit = Limit(cost, least + share * (most - least))
    found = search_published.published(space, limit, scores)
    assert list(found) == PUBLISHED
    for config in found.values():
        codes = space.encode(config)
        assert set(codes.tolist()) <= set(RANKS)
        assert codes.any()
        assert cost(codes[None])[0] <= limit.bound
    if share == 1:
        assert all(space.encode(config).tolist() == space.at(space.highest).tolist() for config in found.values())


def test_a_kind_that_does_not_fit_is_adapted_in_some_layers(space: Space, scores: dict[str, Any]) -> None:
    lowest = min(scores["plop"], key=scores["plop"].__getitem__)
    config = search_published.lowest_kinds(space, Limit(Cost(), 1e-3 + 1.3e-5), scores["plop"])
    assert config is not None
    ((path, rank),) = config.ranks
    assert path.endswith(lowest)
    assert rank == 2
    assert search_published.published(space, Limit(Cost(), 1.001e-3), scores) == {}


def test_importance_orders_triplets_as_the_allocator_of_peft(trained: Path) -> None:
    adaptation, _, linears, alpha = search_published.base_of(trained)
    settings = json.loads((trained / "training.json").read_text(encoding="utf-8"))["settings"]
    model = search_published.adalora(adaptation, linears, rank=16, alpha=alpha, settings=settings)
    found = search_published.importances(model, linears)
    for kept in (5, 40):
        pattern = model.base_model.rankallocator.mask_to_budget(model.base_model.model, kept)
        ours = np.array(list(found.values()))
        top = ours > np.sort(ours, axis=None)[-kept - 1]
        theirs = np.array([pattern[f"{path}.lora_E.default"] for path in linears])
        assert theirs.sum() == kept
        assert np.array_equal(top, theirs)


def test_explained_variance_is_that_of_principal_components(trained: Path, scores: dict[str, Any]) -> None:
    adaptation, _, linears, _ = search_published.base_of(trained)
    path = next(iter(linears))
    seen: list[torch.Tensor] = []
    hook = linears[path].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for example in adaptation.examples.train[: search_published.CALIBRATION]:
        with torch.inference_mode():
            adaptation.model(pad_batch([example])["input_ids"])
        seen[-1] = seen[-1][0, example.prompt_tokens :]
    hook.remove()
    expected = PCA(16).fit(torch.cat(seen).double().numpy()).explained_variance_ratio_
    assert scores["eva"][path] == pytest.approx(expected.tolist(), rel=1e-4)


def test_feature_norms_are_one_where_inputs_have_no_direction(scores: dict[str, Any]) -> None:
    # Random weights are aligned with no input; the inputs of a kind differ from normal ones only in their directions.
    assert set(scores["plop"]) == set(search.ATTENTION) | set(search.MLP)
    assert all(norm == pytest.approx(1, abs=0.3) for norm in scores["plop"].values())
