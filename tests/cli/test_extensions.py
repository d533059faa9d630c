"""What another package registers is named on the command line: a device, a space, a recipe, and others."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import InputError
from adaptare.profiler import ModelShape, Store, named_space
from adaptare.search.algorithms.algorithm import algorithm_named
from adaptare.search.budget.limits import read_budget

Run = Callable[..., Any]
ENTRY_POINTS = """
[adaptare.devices]
abacus = toy_device:Abacus
[adaptare.spaces]
slim = toy_space:slim
[adaptare.recipes]
trimmed = toy_recipe:TRIMMED
[adaptare.regressors]
nearby = toy_regressor:Nearby
[adaptare.algorithms]
climber = toy_algorithm:Climber
[adaptare.probes]
bytes_moved = toy_quantity:BytesMoved
"""


@pytest.fixture
def toys_installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys of `tests/walks` as an installed distribution; they themselves are on the path already."""
    place = tmp_path_factory.mktemp("packages")
    metadata = place / "toys-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(place)


@pytest.mark.usefixtures("toys_installed", "without_card")
def test_a_campaign_on_a_registered_device_and_space_is_fitted_by_a_registered_regressor(
    run: Run, model_cache: Path, tmp_path: Path
) -> None:
    profiled = run(
        *("profile", "tiny-random", "--device", "abacus", "--space", "slim", "--count", 12, "--seconds", 0.1),
        *("--cache", model_cache),
    )
    assert profiled.code == 0, profiled.err
    fitted = run("fit", "--regressor", "nearby", "--json")
    assert fitted.code == 0, fitted.err
    assert (fitted.json["device"]["device"], fitted.json["chosen"]) == ("abacus", "nearby")
    assert '"regressor": "nearby"' in (tmp_path / "predictor-decode.json").read_text(encoding="utf-8")
    predicted = run("predict", "predictor-decode", "--rank", 4, "--json")
    assert predicted.code == 0, predicted.err
    row = predicted.json["rows"][0]["predicted"]
    assert row["lower"] < row["middle"] < row["upper"]
    # The toy's prediction is a mean of what was measured.
    with contextlib.closing(Store("adaptare.db")) as store:
        measured = [each.latency_s for each in store.measurements()]
    assert min(measured) <= row["middle"] <= max(measured)


@pytest.mark.usefixtures("toys_installed")
def test_a_registered_recipe_cannot_make_all_layers_alike() -> None:
    shape = ModelShape("llama", 2, 64, 4, 2, 16, 128, 256, "{}")
    assert named_space("slim", shape, ranks=(0, 2)).kinds
    with pytest.raises(InputError, match="the space 'slim' may have unequal layers; use one of layers, blocks"):
        named_space("slim", shape, layers_alike=True)


@pytest.mark.parametrize("installed", [False, True])
def test_a_name_that_no_package_registers_is_answered_with_the_known_ones(
    installed: bool, request: pytest.FixtureRequest
) -> None:
    if installed:
        request.getfixturevalue("toys_installed")
        assert algorithm_named("climber").__name__ == "Climber"  # type: ignore[attr-defined]
    else:
        with pytest.raises(InputError, match="unknown search algorithm 'climber'; installed packages register hill-cl"):
            algorithm_named("climber")


@pytest.mark.usefixtures("toys_installed", "without_card")
def test_a_registered_quantity_is_measured_fitted_and_limited(run: Run, model_cache: Path) -> None:
    words = ("profile", "tiny-random", "--device", "simulated", "--space", "sites", "--count", 9, "--seconds", 0.1)
    words = (*words, "--quantity", "bytes_moved", "--cache", model_cache, "--json")
    assert run(*words).code == 0
    assert run(*words).json["already_there"] == 9
    fitted = run("fit", "--quantity", "bytes_moved", "--json")
    assert fitted.code == 0, fitted.err
    assert (fitted.json["quantity"], fitted.json["unit"]) == ("bytes_moved", "B")
    assert read_budget("bytes_moved=2MB").unit == "B"
