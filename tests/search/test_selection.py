"""Files of selections."""

from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.profiler import Configuration
from adaptare.workflows.search.selection import Choice, Selection, load_selection, save_selection

CONFIGURATIONS = [
    Configuration.of({"model.layers.0.mlp.up_proj": 4}),
    Configuration.of({"model.layers.0.mlp.up_proj": 4}, widths={0: 24, 1: 16}),
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["ranks", "ranks and widths"])
def test_a_selection_comes_back_from_its_file(configuration: Configuration, tmp_path: Path) -> None:
    winner = Choice("winner 1", configuration, "swappable", (2e-3, 1e-3, 3e-3), 1.5, 1.6, extrapolates=True)
    selection = Selection("decode=3ms", 3e-3, 1e-3, (winner,), (), ((1.5, 2e-3),), {"nsga2": 8}, "interpolated")
    file = tmp_path / "front.json"
    save_selection(selection, file, folder=tmp_path / "run", predictor=tmp_path / "predictor")
    assert load_selection(file) == (selection, tmp_path / "run", tmp_path / "predictor")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "4.5"])
def test_a_rank_that_is_no_whole_number_is_refused(number: str, tmp_path: Path) -> None:
    winner = Choice("winner 1", CONFIGURATIONS[0], "swappable", (2e-3, 1e-3, 3e-3), 1.5, 1.6)
    selection = Selection("decode=3ms", 3e-3, 1e-3, (winner,), (), (), {"nsga2": 8})
    file = tmp_path / "front.json"
    save_selection(selection, file, folder=tmp_path / "run", predictor=tmp_path / "predictor")
    text = file.read_text()
    assert text.count('up_proj": 4') == 1
    file.write_text(text.replace('up_proj": 4', f'up_proj": {number}'))
    with pytest.raises(InputError, match="is no result of a search"):
        load_selection(file)
