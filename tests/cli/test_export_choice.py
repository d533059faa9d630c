"""`adaptare export --choice`: adapters of a training that need no search, and rows of a front."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.profiler import Configuration
from adaptare.profiler.analysis.intervals import Interval
from adaptare.search import read_budget
from adaptare.workflows.search.result import Choice, Place, SearchResult, save_result

Run = Callable[..., Any]
SITES = {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.mlp.down_proj": 2}


@pytest.fixture(scope="module")
def trained_once(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("choices")
    with commands_in(folder) as run:
        options = ("--steps", 2, "--data", write_data(folder), "--held-out", 8, "--space", "sites")
        assert run("train", "tiny-random", "-o", "run", *options, "--cache", model_cache).code == 0
        place = Place("tiny-random", "simulated", "none", "float32", "decode", 64)
        winner = Choice("winner 1", Configuration.of(SITES), "swappable", Interval(1.0, 2.0, 3.0), 1.0, 1.0)
        budget, paths = read_budget("decode=3ms"), {"folder": Path("run"), "predictor": Path("predictor")}
        result = SearchResult(budget, 3.0, 1.0, 0.9, "predicted", place, (winner,), (), {}, **paths)
        save_result(result, Path("run/front.json"))
    return folder


@pytest.fixture
def export(run_in_copy: Callable[..., Any], trained_once: Path, model_cache: Path) -> Run:
    run = run_in_copy(trained_once)
    return lambda *words: run("export", *words, "--cache", model_cache)


@pytest.fixture
def exported_ranks(export: Run) -> Callable[..., dict[str, int]]:
    """Ranks of an export of a training, or of a front, without a predictor."""

    def ranks(source: str, choice: str) -> dict[str, int]:
        answer = export(source, "--choice", choice, "-o", f"out/{choice}", "--json")
        assert answer.code == 0, answer.err
        config = json.loads(Path(f"out/{choice}/adapter_config.json").read_text())
        found: dict[str, int] = answer.json["configuration"]["ranks"]
        assert len(config["target_modules"]) == len(found)
        return found

    Path("out").mkdir()
    return ranks


@pytest.mark.parametrize(
    ("choice", "rank"), [("start", 4), ("midpoint", 4), ("maximal", 16), ("uniform-2", 2), ("uniform 8", 8)]
)
def test_what_needs_no_search_is_exported_from_a_training(
    exported_ranks: Callable[..., dict[str, int]], choice: str, rank: int
) -> None:
    ranks = exported_ranks("run", choice)
    assert set(ranks.values()) == {rank}
    assert len(ranks) == 14


def test_baselines_of_a_front_and_ranks_of_a_file_are_exported(exported_ranks: Callable[..., dict[str, int]]) -> None:
    assert set(exported_ranks("run/front.json", "q+v 16").values()) == {16}
    assert exported_ranks("run/front.json", "winner 1") == SITES
    Path("ranks.json").write_text(json.dumps({"*.q_proj": 8, "*.0.mlp.up_proj": 3}))
    ranks = exported_ranks("run", "ranks.json")
    assert sorted(ranks.values()) == [3, 8, 8]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say which of its adapters with a choice, such as start (option --choice)"),
        (("--choice", "uniform-1152"), "choice must be one of start, minimal, maximal, uniform-2,"),
        (("--choice", "start", "--winner", 1), "--winner and --choice both say which adapter; leave one out"),
        (("--choice", "ranks.json"), "rank of"),
        (("--choice", "two.csv"), "'two.csv' has 2 adapters, and one is exported at a time"),
        (("--choice", "minimal"), "an adapter without any site cannot be written"),
    ],
)
def test_a_choice_that_a_training_does_not_have_is_refused(
    export: Run, words: tuple[object, ...], message: str
) -> None:
    Path("ranks.json").write_text(json.dumps({"*.q_proj": 99}))
    Path("two.csv").write_text("*.q_proj\n4\n8\n")
    answer = export("run", "-o", "out", *words)
    assert answer.code == 2
    assert message in answer.err
    assert not Path("out").exists()
