"""Files of search results."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.profiler import Configuration
from adaptare.profiler.analysis.intervals import Interval
from adaptare.search import read_budget
from adaptare.search.training.accuracy import Accuracy
from adaptare.workflows.search.result import Choice, Measured, Place, SearchResult, load_result, save_result

UP = "model.layers.0.mlp.up_proj"
CONFIGURATIONS = [
    Configuration.of({UP: 4}),
    Configuration.of({UP: 4}, widths={0: 24, 1: 16}),
    Configuration.of({UP: 4}, left_out=[1]),
]
WINNER = Choice("winner 1", CONFIGURATIONS[0], "swappable", Interval(1e-3, 2e-3, 3e-3), 1.5, 1.6)
PLACE = Place("tiny-random", "simulated", "none", "float32", "decode", 64)
RESULT = SearchResult(
    read_budget("decode=3ms"), 3e-3, 1e-3, 0.9, "interpolated", PLACE, (WINNER,), (), {"nsga2": 8}, ((1.5, 2e-3),)
)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["ranks", "ranks and widths", "ranks and depth"])
def test_a_result_comes_back_from_its_file(configuration: Configuration, tmp_path: Path) -> None:
    file = tmp_path / "front.json"
    measured = Measured(Interval(1.0, 2.0, 3.0), Interval(0.1, 0.2, 0.3), 0.05, verdict="met")
    winner = replace(WINNER, configuration=configuration, extrapolates=True, measured=measured)
    result = replace(
        RESULT,
        winners=(winner,),
        baselines=(replace(WINNER, loss_difference=Interval(-0.1, 0.0, 0.1)),),
        accuracies=(Accuracy("winner 1", 8, 4, 2, 1),),
        folder=tmp_path / "run",
        predictor=tmp_path / "predictor",
    )
    assert save_result(result, file) == replace(result, file=file)
    assert load_result(file) == replace(result, file=file)


def test_its_files_may_be_moved_together(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    save_result(replace(RESULT, folder=tmp_path / "run", predictor=tmp_path / "predictor"), tmp_path / "front.json")
    moved = load_result((tmp_path / "front.json").rename(tmp_path / "there" / "front.json"))
    assert (moved.folder, moved.predictor) == (tmp_path / "there" / "run", tmp_path / "there" / "predictor")


def test_its_paths_hold_where_its_folder_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep" / "results").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk" / "deep" / "results")
    file = tmp_path / "results" / "front.json"
    save_result(replace(RESULT, folder=tmp_path / "run"), file)
    assert load_result(file).folder.samefile(tmp_path / "run")


@pytest.mark.parametrize("number", ["NaN", "4.5"])
def test_a_rank_that_is_no_whole_number_is_refused(number: str, tmp_path: Path) -> None:
    file = tmp_path / "front.json"
    save_result(RESULT, file)
    text = file.read_text()
    assert text.count('up_proj": 4') == 1
    file.write_text(text.replace('up_proj": 4', f'up_proj": {number}'))
    with pytest.raises(InputError, match=r"is no result of a search; .* winners\[0\]\.configuration: rank of"):
        load_result(file)


def test_a_result_without_a_winner_is_refused(tmp_path: Path) -> None:
    save_result(replace(RESULT, winners=()), tmp_path / "front.json")
    with pytest.raises(InputError, match="names no winner; search again with a larger budget"):
        load_result(tmp_path / "front.json")


@pytest.mark.parametrize(("name", "value"), [("limit", math.nan), ("base", 0.0), ("level", -1.0)])
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} must"):
        replace(RESULT, **{name: value})
