"""Five walks from outside, of under 40 lines each: a device, a regressor, an algorithm, a space with widths, a recipe.

Every toy passes its suite, and something whole is done with it. An objective comes along.
"""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_algorithm import Climber
from toy_device import Abacus
from toy_objective import Download
from toy_quantity import BytesMoved
from toy_regressor import Nearby
from toy_space import slim

import adaptare
from adaptare.core import InputError
from adaptare.devices import Program, SimulatedDevice
from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
from adaptare.profiler import WIDTH, Configuration, FixedRounds, Measurement, ModelShape, Workload, design, profile
from adaptare.profiler.measuring.probes import Latency
from adaptare.search import Limit, PredictedLatency, PredictedUpperEnd, search
from adaptare.testing import (
    FEEDS,
    AlgorithmSuite,
    DevicePrograms,
    DeviceSuite,
    ObjectiveSuite,
    RegressorSuite,
    SpaceSuite,
)

TOYS = sorted(Path(__file__).parent.glob("toy_*.py"))
# Lines of a toy that needs more than 40.
LONGER = {"toy_dimension": 60, "toy_runtime": 120}
PUBLIC = {
    "adaptare",
    "adaptare.search.recipes",
    *(f"adaptare.{package}" for package in ("core", "devices", "profiler", "predictor", "search")),
}
SHAPE = ModelShape.from_mapping(
    {
        "model_type": "llama",
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "vocab_size": 64,
    }
)
SPACE = slim(SHAPE)
# Every predictor here is fitted without what only its error card needs.
pytestmark = pytest.mark.usefixtures("without_card")


@pytest.mark.parametrize("file", TOYS, ids=lambda file: file.stem)
def test_a_toy_is_short_and_imports_what_is_public(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    assert len(source.splitlines()) <= LONGER.get(file.stem, 40)
    assert {name for name in modules if name.split(".")[0] not in sys.stdlib_module_names} <= {"numpy", *PUBLIC}


class TestAbacus(DeviceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls) -> Abacus:
        return Abacus()

    @pytest.fixture(scope="class")
    @classmethod
    def programs(cls) -> DevicePrograms:
        good, other = (Program(name, "simulated", f'"{name}"', FEEDS) for name in ("good", "other"))
        return DevicePrograms(good, other, good, Program("failing", "melody", "{}", FEEDS))


class TestNearby(RegressorSuite):
    @pytest.fixture
    def regressor(self) -> Nearby:
        return Nearby()


class TestClimber(AlgorithmSuite):
    @pytest.fixture
    def make(self) -> object:
        return lambda space, seed: Climber(space, seed=seed)


class TestSlim(SpaceSuite):
    @pytest.fixture
    def space(self) -> object:
        return SPACE


class TestDownload(ObjectiveSuite):
    @pytest.fixture
    def space(self) -> object:
        return SPACE

    @pytest.fixture
    def objective(self) -> Download:
        return Download(SPACE, SHAPE)


def measured(configs: list[Configuration]) -> list[Measurement]:
    workloads = [Workload(SHAPE, config) for config in configs]
    device = SimulatedDevice(launch_s=5e-7)
    return profile(workloads, reference=Workload(SHAPE).base, device=device, stop=FixedRounds(3), seed=0)


@pytest.fixture(scope="module")
def rows() -> list[Measurement]:
    """The first thirty configurations of the space."""
    return measured(design(SPACE, 30, seed=0))


def test_the_device_tells_what_an_adapter_costs_on_it(tmp_path: Path) -> None:
    report = adaptare.overhead(
        "tiny-random", device=Abacus(), ranks=[1, 8], prompts=[], openings=2, store=tmp_path / "adaptare.db"
    )
    assert [(row.rank, row.mode) for row in report.rows] == [(1, "swappable"), (8, "swappable"), (8, "merged")]
    assert all(row.overhead_lower <= row.overhead <= row.overhead_upper for row in report.rows)
    assert {each.device.device for each in adaptare.Store(tmp_path / "adaptare.db").measurements()} == {"abacus"}


def test_the_quantity_is_measured_beside_latency_stored_predicted_and_limits_a_search(tmp_path: Path) -> None:
    drawn = design(SPACE, 24, seed=0)
    known, unseen = drawn[:12], drawn[12:]
    rows = profile(
        [Workload(SHAPE, each) for each in known],
        reference=Workload(SHAPE).base,
        device=SimulatedDevice(),
        stop=FixedRounds(3),
        seed=0,
        probes=[Latency(), BytesMoved()],
    )
    store = adaptare.Store(tmp_path / "adaptare.db")
    store.append(rows)
    stored = store.measurements()

    def moved(configuration: Configuration) -> int:
        return Workload(SHAPE, configuration).work().moved_bytes

    assert stored[0].value("bytes_moved").middle == pytest.approx(moved(known[0]))
    assert stored[0].reference_value("bytes_moved") == pytest.approx(moved(Configuration()))
    assert stored[0].has("latency")
    predictor = LatencyPredictor(quantity="bytes_moved").fit(stored)
    assert (predictor.quantity, predictor.unit) == ("bytes_moved", "B")

    assert predictor.predict_configs(unseen).mean == pytest.approx([moved(each) for each in unseen], rel=0.01)
    limit = Limit(PredictedUpperEnd(predictor, SPACE.dimensions), 1.02 * moved(Configuration()))
    small = Download(SPACE, SHAPE)
    front = search(Climber(SPACE, seed=0), SPACE, [small], [limit], evaluations=20, seed=0)
    assert front.members
    assert all(moved(member.configuration) <= 1.03 * moved(Configuration()) for member in front.members)


def test_the_regressor_is_fitted_saved_loaded_and_predicts(rows: list[Measurement], tmp_path: Path) -> None:
    predictor = LatencyPredictor(regressor=Nearby()).fit(rows)
    assert predictor.chosen == "Nearby"
    assert "shrunken" in predictor.error_card.baselines
    save_predictor(predictor, tmp_path)
    with pytest.raises(
        InputError, match=r"unknown regressor 'Nearby'.*curved.*load_predictor\(path, regressor=Nearby\)"
    ):
        load_predictor(tmp_path)
    loaded, unseen = load_predictor(tmp_path, regressor=Nearby), [Configuration.uniform(SHAPE, 7)]
    np.testing.assert_array_equal(loaded.predict_configs(unseen).upper, predictor.predict_configs(unseen).upper)


def test_one_predictor_serves_ranks_and_widths_and_limits_the_algorithm(
    rows: list[Measurement],
) -> None:
    predictor = LatencyPredictor().fit(rows)
    latency, small = PredictedLatency(predictor, SPACE.dimensions), Download(SPACE, SHAPE)
    limit = Limit(PredictedUpperEnd(predictor.relative, SPACE.dimensions), 1.05 * predictor.base_value)
    front = search(Climber(SPACE, seed=0), SPACE, [latency, small], [limit], evaluations=40, seed=0)
    assert len(front.history) == 40
    assert all(member.upper[0] <= limit.bound for member in front.members)
    assert front.members[0].values[0] < predictor.base_value, "narrower layers are faster than the base"
    assert WIDTH in SPACE.kinds
    unseen = design(SPACE, 40, seed=0)[30:]
    truth = np.array([each.latency_s for each in measured(unseen)])
    assert np.ptp(truth) > 0.1 * truth.mean()
    assert np.abs(predictor.predict_configs(unseen).mean / truth - 1).mean() < 0.01
