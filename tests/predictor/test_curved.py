"""A device with a knee: adapters that do not fit its cache are slower than their bytes and FLOPs say."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice, Work
from adaptare.predictor import FittedPredictor, LatencyPredictor, load_predictor, save_predictor
from adaptare.predictor.estimators.curved import Curved
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload, named_space

Array = NDArray[np.float64]
Campaign = Callable[..., list[Measurement]]
RANKS = (0, 1, 4, 8, 16, 32, 64)


class SmallCache(SimulatedDevice):
    """Takes 30 % longer for what adds much to the bytes of the base."""

    def __init__(self, base_bytes: float) -> None:
        super().__init__(launch_s=5e-7)
        self.base_bytes = base_bytes

    def latency_s(self, work: Work) -> float:
        beyond = (work.moved_bytes / self.base_bytes - 1.15) / 0.03
        return super().latency_s(work) * (1 + 0.3 / (1 + float(np.exp(-beyond))))


@pytest.fixture(scope="module")
def knee(shape: ModelShape) -> SmallCache:
    return SmallCache(Workload(shape).base.work().moved_bytes)


def drawn(shape: ModelShape, n: int, seed: int) -> list[Configuration]:
    """Every site with the same rank, in some layers only."""
    space = named_space("sites", shape, ranks=RANKS)
    codes = space.at(space.spread(n, np.random.default_rng(seed)))
    return [space.decode(row) for row in codes]


@pytest.fixture(scope="module")
def bent(campaign: Campaign, knee: SmallCache, shape: ModelShape) -> FittedPredictor:
    return LatencyPredictor().fit(campaign(drawn(shape, 50, 0), device=knee, sigma=0.002))


def test_a_bent_fit_ships_where_rows_left_out_ask_for_it(
    bent: FittedPredictor, knee: SmallCache, shape: ModelShape
) -> None:
    assert bent.chosen == "curved"
    card = bent.error_card
    assert card.mae_overhead_points < 0.7 * min(card.baselines.values())
    assert "points of overhead below that of the shrunken fit" in bent.reason
    unseen = drawn(shape, 200, 1)
    truth = np.array([knee.latency_s(Workload(shape).with_configuration(each).work()) for each in unseen])
    said = bent.predict_configs(unseen)
    errors = np.abs(said.mean - truth) / bent.base_value
    assert 100 * errors.mean() < 1.3 * card.mae_overhead_points
    assert np.mean((said.lower <= truth) & (truth <= said.upper)) > 0.8


def test_it_comes_back_from_its_files(bent: FittedPredictor, shape: ModelShape, tmp_path: Path) -> None:
    save_predictor(bent, tmp_path)
    unseen = drawn(shape, 20, 1)
    before, after = bent.predict_configs(unseen), load_predictor(tmp_path).predict_configs(unseen)
    np.testing.assert_array_equal(before.upper, after.upper)


@pytest.mark.usefixtures("without_card")
def test_between_two_lengths_it_bends_where_it_does_at_both(campaign: Campaign, shape: ModelShape) -> None:
    """In prefill features grow with the tokens, and the knee stays at the same share of the base."""
    templates = [Workload(shape, phase="prefill", tokens=tokens) for tokens in (64, 80, 96)]
    configs, unseen = drawn(shape, 60, 0), drawn(shape, 50, 1)
    knees = [SmallCache(each.base.work().moved_bytes) for each in templates]
    rows = [
        row
        for knee, each in zip(knees[::2], templates[::2], strict=True)
        for row in campaign(configs, device=knee, template=each, sigma=0.002)
    ]
    found = LatencyPredictor(regressor="curved").fit(rows).at(80)
    predicted = found.predict_configs(unseen).mean / found.base_value
    workloads = [templates[1].with_configuration(each) for each in unseen]
    truth = np.array([knees[1].latency_s(each.work()) for each in workloads])
    truth /= knees[1].latency_s(templates[1].base.work())
    straight = LatencyPredictor(regressor="shrunken").fit(rows).at(80)
    linear = straight.predict_configs(unseen).mean / straight.base_value
    assert np.abs(predicted / truth - 1).mean() < 0.7 * np.abs(linear / truth - 1).mean()


def rows(n: int) -> tuple[Array, Array]:
    X = np.random.default_rng(0).uniform(size=(n, 3))
    return X, (1 + X[:, 0]) * (1 + 0.2 * np.sin(6 * X[:, 1]))


def test_left_out_is_what_a_fit_without_the_rows_is_off() -> None:
    X, y = rows(40)
    apart = np.arange(40)[:, None] // 2 == np.arange(40) // 2
    said = Curved((0,)).fit(X, y).left_out_residuals(apart)
    refitted = np.concatenate(
        [y[pair] - Curved((0,)).fit(np.delete(X, pair, 0), np.delete(y, pair)).predict(X[pair])
         for pair in np.arange(40).reshape(20, 2)]
    )  # fmt: skip
    assert np.corrcoef(said, refitted)[0, 1] > 0.9
    assert np.abs(said).mean() == pytest.approx(np.abs(refitted).mean(), rel=0.25)


def test_far_from_all_rows_the_linear_fit_is_what_it_is() -> None:
    X, y = rows(40)
    with pytest.raises(InputError, match="every latency has to be above 0"):
        Curved().fit(X, y - 5)
    fitted = Curved((0,)).fit(X, y)
    far = np.full((1, 3), 1e3)
    linear = far @ fitted.coef_ + fitted.intercept_
    assert fitted.predict(far) == pytest.approx(linear * np.exp(fitted.curve_["level"]), rel=1e-6)
