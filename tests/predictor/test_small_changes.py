"""Predictions of configurations that change little, on a simulated device whose truth is known."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, LatencyPredictor
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload, named_space
from adaptare.profiler.store.measurement import Visit
from adaptare.search import read_budget
from adaptare.search.algorithms import smallest_that_fits
from adaptare.search.budget import predicted_limit
from adaptare.workflows.tuning import halfway

OPENINGS = 5
DrawConfigs = Callable[[int, int], list[Configuration]]
pytestmark = pytest.mark.usefixtures("without_card")


@pytest.fixture(scope="module")
def shape() -> ModelShape:
    return ModelShape("llama", 12, 256, 4, 2, 64, 768, 512, '{"name":"deeper"}')


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice(launch_s=5e-8)


def session(
    device: SimulatedDevice, configs: Sequence[Configuration], shape: ModelShape, *, sigma: float, seed: int
) -> list[Measurement]:
    """Rows whose openings are off by `sigma`, each by itself, and those of the reference too."""
    rng, base = np.random.default_rng(seed), Workload(shape).base
    base_s = device.latency_s(base.work())
    reference = base_s * np.exp(sigma * rng.standard_normal(OPENINGS))
    rows = []
    for config in configs:
        workload = replace(Workload(shape), configuration=config)
        seconds = device.latency_s(workload.work()) * np.exp(sigma * rng.standard_normal(OPENINGS))
        visits, references = (
            tuple(Visit(number, number, float(each), (float(each),)) for number, each in enumerate(some))
            for some in (seconds, reference)
        )
        rows.append(Measurement(workload, device.info(), base, base_s, f"{seed}", visits, references))
    return rows


@pytest.fixture(scope="module")
def predictor(
    device: SimulatedDevice, shape: ModelShape, fit_without_card: Callable[..., FittedPredictor]
) -> FittedPredictor:
    space = named_space("kinds", shape, ranks=(0, 1, 4, 8, 16, 32))
    configs = [space.decode(codes) for codes in space.at(space.spread(48, np.random.default_rng(0)))]
    return fit_without_card(session(device, configs, shape, sigma=0.02, seed=0))


def test_the_base_is_predicted_exactly(predictor: FittedPredictor) -> None:
    said = predictor.relative.predict_configs([Configuration()])
    assert said.lower == said.mean == said.upper == predictor.base_value
    assert predictor.predict_configs([Configuration()]).upper > 1.05 * predictor.base_value


def test_one_linear_of_rank_1_has_an_interval_as_narrow_as_its_effect(
    predictor: FittedPredictor, shape: ModelShape
) -> None:
    one, all_linears = Configuration.of({shape.sites[0].path: 1}), Configuration.uniform(shape, 32)
    said = predictor.relative.predict_configs([one, all_linears])
    overhead, half_width = said.mean / predictor.base_value - 1, np.log(said.upper / said.mean)
    assert 0 < overhead[0] < 0.01
    assert half_width[0] < 0.01
    assert half_width[0] < 0.2 * half_width[1]


def test_q_and_v_fit_a_budget_of_three_per_cent(predictor: FittedPredictor, shape: ModelShape) -> None:
    """An interval of a constant width, ±2.1 % from these rows, leaves no room for them."""
    space = named_space("sites", shape, ranks=(0, 8))
    some = Configuration.uniform(shape, 8, kinds=("q_proj", "v_proj"))
    codes = np.stack([space.encode(some), space.encode(Configuration.uniform(shape, 8))])
    limit = predicted_limit(read_budget("overhead=3%"), predictor, space.dimensions)
    assert (limit.cost(codes) <= limit.bound).tolist() == [True, False]
    absolute = read_budget(f"decode={1e3 * limit.bound:.9f}ms")
    limit = predicted_limit(absolute, predictor, space.dimensions)
    assert not (limit.cost(codes) <= limit.bound).any(), "the base may be slower in the next session"


def test_the_budget_of_the_demo_does_not_depend_on_the_width_of_intervals(
    predictor: FittedPredictor, shape: ModelShape
) -> None:
    space = named_space("kinds", shape, ranks=(0, 1, 8, 32))
    wide = replace(predictor, residuals=3 * predictor.residuals)
    budget = halfway(predictor, space)
    assert halfway(wide, space) == budget
    assert len(str(budget).removeprefix("overhead=").removesuffix("%").replace(".", "")) <= 3  # what is shown is exact
    smallest_that_fits(space, [predicted_limit(budget, wide, space.dimensions)])  # raises if nothing fits


@pytest.mark.slow
def test_intervals_hold_the_truth_of_small_middle_and_large_changes(device: SimulatedDevice, shape: ModelShape) -> None:
    space = named_space("kinds", shape, ranks=(0, 1, 4, 8, 16, 32))
    drawn = space.at(space.spread(190, np.random.default_rng(1)))
    unseen = [space.decode(codes) for codes in drawn]
    base_s = device.latency_s(Workload(shape).base.work())
    truth = np.array([device.latency_s(replace(Workload(shape), configuration=each).work()) for each in unseen])
    held, widths = [], []
    for seed in range(12):
        codes = space.at(space.spread(48, np.random.default_rng(100 + seed)))
        rows = session(device, [space.decode(each) for each in codes], shape, sigma=0.03, seed=seed)
        predictor = LatencyPredictor().fit(rows).relative
        said = predictor.predict_configs(unseen)
        held.append((said.lower / predictor.base_value <= truth / base_s) & (truth / base_s <= said.upper / base_s))
        widths.append(np.log(said.upper / said.mean))
    order = np.argsort(truth)
    shares = [np.mean([each[part] for each in held]) for part in np.array_split(order, 3)]
    assert min(shares) > 0.88, shares
    medians = [np.median([each[part] for each in widths]) for part in np.array_split(order, 3)]
    assert medians == sorted(medians)
