"""Files of selections."""

from pathlib import Path

import pytest

from adaptare.profiler import Configuration
from adaptare.search.workflows.selection import Choice, Selection, load_selection, save_selection

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
