"""What another package registers is named on the command line: a device, a space, a recipe, and others."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import InputError
from adaptare.predictor import load_predictor
from adaptare.profiler import ModelShape, Store, named_space
from adaptare.search.algorithms.algorithm import algorithm_named
from adaptare.search.budget.limits import predicted_limit, read_budget

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
def test_a_registered_algorithm_is_known_by_its_name() -> None:
    assert algorithm_named("climber").__name__ == "Climber"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("toys_installed")
def test_a_registered_recipe_cannot_make_all_layers_alike() -> None:
    shape = ModelShape("llama", 2, 64, 4, 2, 16, 128, 256, "{}")
    assert named_space("slim", shape, ranks=(0, 2)).kinds
    with pytest.raises(InputError, match="the space 'slim' may have unequal layers; use one of layers, blocks"):
        named_space("slim", shape, layers_alike=True)


@pytest.mark.usefixtures("without_card")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "--regressor", "nearby"), "unknown regressor 'nearby'; installed packages register curved, non-"),
        (
            ("search", "run", "--predictor", "predictor-decode", "--budget", "overhead=5%", "--algorithm", "climber"),
            "unknown search algorithm 'climber'; installed packages register hill-climbing, nsga2, random, staged",
        ),
    ],
)
def test_a_name_that_no_package_registers_is_answered_with_the_known_ones(
    run: Run, model_cache: Path, words: tuple[str, ...], message: str
) -> None:
    usual = ("--device", "simulated", "--space", "sites", "--count", 12, "--seconds", 0.1, "--cache", model_cache)
    assert run("profile", "tiny-random", *usual).code == 0
    if words[0] == "search":
        assert run("fit").code == 0
    answer = run(*words)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())


@pytest.mark.usefixtures("toys_installed", "without_card")
def test_a_registered_quantity_is_measured_stored_predicted_and_limited(run: Run, model_cache: Path) -> None:
    words = ("profile", "tiny-random", "--device", "simulated", "--space", "sites", "--count", 14, "--seconds", 0.1)
    profiled = run(*words, "--quantity", "bytes_moved", "--cache", model_cache, "--json")
    assert profiled.code == 0, profiled.err
    assert run(*words, "--quantity", "bytes_moved", "--cache", model_cache, "--json").json["already_there"] == 14
    fitted = run("fit", "--quantity", "bytes_moved", "--json")
    assert fitted.code == 0, fitted.err
    with contextlib.closing(Store("adaptare.db")) as store:
        rows = store.measurements()
    predictor = load_predictor(fitted.json["predictor"])
    moved = predictor.predict_configs([row.workload.configuration for row in rows]).mean
    assert moved == pytest.approx([row.workload.work().moved_bytes for row in rows], rel=0.01)
    budget = read_budget("bytes_moved=+5%")
    limit = predicted_limit(budget, predictor, predictor.dimensions)
    assert limit.bound == pytest.approx(1.05 * rows[0].reference_value("bytes_moved"))
    assert read_budget("bytes_moved=2MB").unit == "B"
