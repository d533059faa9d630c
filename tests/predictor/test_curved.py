"""A device with a knee: adapters that do not fit its cache are slower than their bytes and FLOPs say."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice, Work
from adaptare.predictor import FittedPredictor, LatencyPredictor, interpolate, load_predictor, save_predictor
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.estimators.smooth import Smooth
from adaptare.predictor.fitted_predictor import Part
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
    codes = space.expand(space.spread(n, np.random.default_rng(seed)))
    return [space.decode(row) for row in codes]


@pytest.fixture(scope="module")
def bent(campaign: Campaign, knee: SmallCache, shape: ModelShape) -> FittedPredictor:
    return LatencyPredictor().fit(campaign(drawn(shape, 60, 0), device=knee, sigma=0.002))


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
    errors = np.abs(said.mean_s - truth) / bent.reference_s
    assert 100 * errors.mean() < 1.3 * card.mae_overhead_points
    assert np.mean((said.lower_s <= truth) & (truth <= said.upper_s)) > 0.8


def test_it_comes_back_from_its_files(bent: FittedPredictor, shape: ModelShape, tmp_path: Path) -> None:
    save_predictor(bent, tmp_path)
    unseen = drawn(shape, 20, 1)
    before, after = bent.predict_configs(unseen), load_predictor(tmp_path).predict_configs(unseen)
    np.testing.assert_array_equal(before.mean_s, after.mean_s)
    np.testing.assert_array_equal(before.upper_s, after.upper_s)


@pytest.mark.usefixtures("without_card")
def test_between_two_lengths_both_bend_where_they_did(campaign: Campaign, shape: ModelShape) -> None:
    """In prefill features grow with the tokens, of which a curve must not take notice."""
    templates = [Workload(shape, phase="prefill", tokens=tokens) for tokens in (64, 96)]
    knee = SmallCache(templates[0].base.work().moved_bytes)
    configs, unseen = drawn(shape, 60, 0), drawn(shape, 50, 1)
    ends = [LatencyPredictor().fit(campaign(configs, device=knee, template=each, sigma=0.002)) for each in templates]
    assert [each.chosen for each in ends] == ["curved", "curved"]
    bends = [each.predict_configs(unseen).mean_s / _linear(each, unseen) for each in ends]
    assert all(np.ptp(np.log(each)) > 0.05 for each in bends)
    both = np.mean([each.predict_configs(unseen).mean_s for each in ends], axis=0)
    assert interpolate(ends, 80).predict_configs(unseen).mean_s == pytest.approx(both, rel=1e-9)


def _linear(predictor: FittedPredictor, configs: list[Configuration]) -> Array:
    state = predictor.parts[0].regressor.state()
    straight = Curved.from_state({name: each for name, each in state.items() if "curve" not in name})
    return replace(predictor, parts=(Part(straight),)).predict_configs(configs).mean_s


@pytest.mark.usefixtures("without_card")
def test_a_session_levels_it_like_any_other(bent: FittedPredictor, campaign: Campaign, knee: SmallCache) -> None:
    shape, unseen = bent.template.shape, drawn(bent.template.shape, 30, 1)
    again = bent.relevelled(campaign(drawn(shape, 20, 2), device=knee, sigma=0.002, session="second"))
    shares = again.predict_configs(unseen).mean_s / bent.predict_configs(unseen).mean_s
    assert shares == pytest.approx(np.full(30, shares[0]))


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


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5, np.inf])
def test_a_process_is_left_out_of_in_closed_form(nu: float) -> None:
    X, y = rows(30)
    fitted = Smooth(nu, by_column=False).fit(X, y)
    said = fitted.left_out_residuals(np.eye(30, dtype=np.bool_))
    off = y - fitted.predict(X)
    assert np.abs(said).mean() > np.abs(off).mean()
    # Linear in y: what changes in one row changes its own left-out prediction by nothing.
    assert (y - said)[3] == pytest.approx(_without(fitted, X, y, 3), abs=0.02)


def _without(fitted: Smooth, X: Array, y: Array, row: int) -> float:
    others = Smooth(fitted.nu, by_column=False).fit(np.delete(X, row, 0), np.delete(y, row))
    return float(others.predict(X[[row]])[0])


def test_other_kernels_are_refused() -> None:
    with pytest.raises(InputError, match=r"nu must be one of 0\.5, 1\.5, 2\.5, inf, not 2"):
        Smooth(2.0).fit(*rows(10))


def test_what_there_is_to_correct_is_above_zero() -> None:
    X, y = rows(12)
    with pytest.raises(InputError, match="every latency has to be above 0"):
        Curved().fit(X, y - 5)


def test_far_from_all_rows_the_linear_fit_is_what_it_is() -> None:
    X, y = rows(40)
    fitted = Curved((0,)).fit(X, y)
    far = np.full((1, 3), 1e3)
    linear = far @ fitted.coef_ + fitted.intercept_
    assert fitted.predict(far) == pytest.approx(linear * np.exp(fitted.curves_[0].level), rel=1e-6)
