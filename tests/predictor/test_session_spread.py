"""Intervals for a session of which no row is known."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from adaptare.core import InputError
from adaptare.predictor import FittedPredictor, LatencyPredictor
from adaptare.predictor.intervals import (
    DRIFT_PRIOR,
    NO_SPREAD,
    PRIOR,
    SessionSpread,
    SessionVariance,
    base_spread,
    session_spread,
    without_noise,
)
from adaptare.profiler import Configuration, Measurement
from adaptare.profiler.analysis import Interval

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]
FLAT = SessionVariance(0.0, 0.0)


def shifted(rows: list[Measurement], shift: float) -> list[Measurement]:
    """The same rows, all slower by a factor that their reference is not."""
    return [
        replace(row, visits=tuple(replace(each, samples_s=(each.samples_s[0] * shift,)) for each in row.visits))
        for row in rows
    ]


def test_one_session_has_the_spread_of_the_prior() -> None:
    found = session_spread(np.arange(9.0), np.full(9, "a"), np.arange(9).astype(str))
    assert found == PRIOR.spread(np.ones(1))
    # Both the session that was learned from and the new one are shifted.
    assert found.scale == pytest.approx(math.sqrt(2) * 0.0063)


def test_the_means_of_sessions_tell_their_variance() -> None:
    """Four sessions of 0, 1, 2 and 3 %, whose rows differ by 0.1 % to both sides."""
    sessions = np.repeat(["a", "b", "c", "d"], 6)
    errors = np.repeat([0.0, 0.01, 0.02, 0.03], 6) + np.tile([-0.001, 0.001], 12)
    within = 24 * 0.001**2 / 20
    variance = np.var([0.0, 0.01, 0.02, 0.03], ddof=1) - within / 6
    found = session_spread(errors, sessions, np.arange(24).astype(str), prior=FLAT)
    assert found.degrees == 3
    # The residuals hold (1 - 1/4) of it, a new session differs by (1 + 1/4).
    assert found.scale == pytest.approx(math.sqrt(variance / 2))


@pytest.mark.parametrize("prior_variance", [1e-6, 1e-3])
def test_the_larger_of_the_prior_and_what_sessions_tell_counts(prior_variance: float) -> None:
    sessions, errors = np.repeat(["a", "b"], 5), np.repeat([-0.01, 0.01], 5)
    found = session_spread(errors, sessions, np.arange(10).astype(str), prior=SessionVariance(prior_variance, 4))
    assert found.degrees == 5
    assert found.scale == pytest.approx(math.sqrt(max(prior_variance, 2 * 0.01**2)))


def test_sessions_of_few_adapters_tell_nothing() -> None:
    sessions = np.array(["a"] * 20 + [f"own {number}" for number in range(30)])
    adapters = np.array([*map(str, range(20)), *["0"] * 30])
    errors = np.where(adapters == "0", 1.0, 0.0)
    assert session_spread(errors, sessions, adapters).degrees == PRIOR.degrees


def test_sessions_that_differ_by_less_than_their_noise_add_nothing() -> None:
    sessions, errors = np.repeat(["a", "b"], 6), np.tile([-0.01, 0.01], 6)
    assert session_spread(errors, sessions, np.arange(12).astype(str), prior=FLAT).scale == 0


def test_probabilities_and_half_widths_are_those_of_the_t_distribution() -> None:
    spread, t = SessionSpread(0.02, 3), stats.t(3, scale=0.02)
    assert spread.half_width(0.9) == pytest.approx(t.ppf(0.95))
    shifts = np.array([-0.1, 0.0, 0.03])
    assert spread.probability_below(shifts) == pytest.approx(t.cdf(shifts))
    assert NO_SPREAD.probability_below(shifts).tolist() == [0, 1, 1]
    assert NO_SPREAD.widened(0.01, 0.9) == 0.01
    assert spread.widened(0.03, 0.9) == pytest.approx(math.hypot(0.03, t.ppf(0.95)))


@pytest.mark.parametrize("sessions", [1, 4])
def test_a_row_of_a_new_session_is_held_as_often_as_said(sessions: int) -> None:
    """Shifts as the prior expects, and rows that differ half as much, with which the prior alone would not do."""
    rng, held = np.random.default_rng(sessions), []
    for _ in range(400):
        scale = 0.01 * math.sqrt(4 / rng.chisquare(4))
        of_rows = np.arange(24) % sessions
        errors = scale * rng.standard_normal(sessions)[of_rows] + 0.005 * rng.standard_normal(24)
        errors -= errors.mean()
        labels, adapters = of_rows.astype(str), np.arange(24).astype(str)
        spread = session_spread(errors, labels, adapters, prior=SessionVariance(0.01**2, 4))
        half_width = spread.widened(float(np.quantile(np.abs(errors), 0.9, method="weibull")), 0.9)
        # The session that was learned from is shifted too, and its mean is what is predicted.
        shift = scale * (rng.standard_normal() - rng.standard_normal() / math.sqrt(sessions))
        held.append(np.mean(np.abs(shift + 0.005 * rng.standard_normal(50)) <= half_width))
    assert np.mean(held) == pytest.approx(0.9, abs=0.035)


@pytest.mark.usefixtures("without_card")
def test_a_predictor_of_sessions_that_shift_holds_the_next_one(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    early, late = draw_configs(20, 0), draw_configs(20, 2)
    rows = [*campaign(early, session="a"), *shifted(campaign(late, session="b", seed=1), 1.04)]
    known = LatencyPredictor().fit(rows)
    alone = LatencyPredictor().fit(rows[:20])
    assert known.spread.degrees == alone.spread.degrees + 1
    largest = [Configuration.uniform(alone.template.shape, 32)]
    narrow, wide = (each.relative.predict_configs(largest) for each in (alone, known))
    assert narrow.upper / narrow.mean < 1.03
    assert wide.upper / wide.mean > 1.04


@pytest.mark.usefixtures("without_card")
def test_the_probability_of_a_budget_knows_the_shift_of_a_session(
    campaign: Campaign, draw_configs: DrawConfigs
) -> None:
    predictor = LatencyPredictor().fit(campaign(draw_configs(20, 0), sigma=0.0001)).relative
    largest = [Configuration.uniform(predictor.template.shape, 32)]
    change = float(predictor.regressor.change(predictor.features.matrix(predictor.features.values(largest)))[0])
    budget_s = float(predictor.predict_configs(largest).mean[0]) * np.exp(0.005)
    certain, wide = (replace(predictor, spread=SessionSpread(scale / change, 4)) for scale in (0.0, 0.01))
    assert certain.probability_within(largest, budget_s)[0] == pytest.approx(20 / 21)
    assert wide.probability_within(largest, budget_s)[0] == pytest.approx(20 / 21 * stats.t(4).cdf(0.5), abs=0.03)


def test_seconds_know_the_spread_of_the_base_and_ratios_do_not(predictor: FittedPredictor) -> None:
    base = [Configuration()]
    seconds, ratio = predictor.predict_configs(base), predictor.relative.predict_configs(base)
    assert ratio.lower == ratio.upper == seconds.mean == predictor.base_value
    spread = base_spread(np.zeros(1))
    assert np.log(seconds.upper / seconds.mean) == pytest.approx(spread.half_width(0.9))
    assert np.log(seconds.mean / seconds.lower) == pytest.approx(spread.half_width(0.9))
    within = predictor.probability_within(base, predictor.base_value * math.exp(spread.scale))
    assert within == pytest.approx(32 / 33 * stats.t(spread.degrees).cdf(1))
    assert predictor.relative.probability_within(base, 1.001 * predictor.base_value) == pytest.approx(32 / 33)


def test_a_look_at_the_base_replaces_the_spread_between_sessions(predictor: FittedPredictor) -> None:
    base = [Configuration()]
    now = 1.3 * predictor.base_value
    exact = predictor.recalibrated(Interval(now, now, now), 6)
    drift = DRIFT_PRIOR.variance**0.5 * stats.t(DRIFT_PRIOR.degrees).ppf(0.95)
    found, before = exact.predict_configs(base), predictor.predict_configs(base)
    assert found.mean == pytest.approx(1.3 * before.mean)
    assert np.log(found.upper / found.mean) == pytest.approx(drift)
    assert found.upper / found.mean < before.upper / before.mean
    coarse = predictor.recalibrated(Interval(now / 1.2, now, now * 1.2), 6).predict_configs(base)
    assert np.log(coarse.upper / coarse.mean) > drift
    assert coarse.mean == found.mean
    same = predictor.relative.recalibrated(Interval(now, now, now), 6).predict_configs(base)
    assert same.lower == same.upper == pytest.approx(now)


def test_a_look_of_few_openings_is_refused(predictor: FittedPredictor) -> None:
    with pytest.raises(InputError, match="at least 4 openings of the base, not 3"):
        predictor.recalibrated(Interval(1.0, 1.0, 1.0), 3)


def test_the_sessions_of_a_store_replace_the_prior_of_the_base() -> None:
    prior = SessionVariance(0.1**2, 4)
    alone, quiet = (base_spread(np.zeros(sessions), prior=prior) for sessions in (1, 41))
    assert (alone.scale, alone.degrees) == (pytest.approx(math.sqrt(2) * 0.1), 4)
    assert (quiet.scale, quiet.degrees) == (pytest.approx(alone.scale * math.sqrt(4 / 44)), 44)
    moved = base_spread(np.array([0.0, 0.3]), prior=prior)
    assert moved.scale == pytest.approx(math.sqrt((4 * 2 * 0.1**2 + 0.3**2) / 5))


@pytest.mark.usefixtures("without_card")
def test_a_predictor_learns_how_its_base_moves(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    def session(number: int, slower: float) -> list[Measurement]:
        rows = campaign(draw_configs(8, number), session=str(number), seed=number)
        return [
            replace(
                row,
                **{
                    name: tuple(replace(each, samples_s=(slower * each.samples_s[0],)) for each in getattr(row, name))
                    for name in ("visits", "reference_visits")
                },
            )
            for row in rows
        ]

    steady, moving = (
        LatencyPredictor().fit([row for number, slower in enumerate(moves) for row in session(number, slower)])
        for moves in ([1.0] * 4, [1.0, 1.2, 0.8, 1.3])
    )
    assert steady.base_spread.scale < base_spread(np.zeros(1)).scale < moving.base_spread.scale
    assert steady.base_spread.degrees == moving.base_spread.degrees == base_spread(np.zeros(1)).degrees + 3


def test_errors_without_noise_have_the_variance_of_the_fit() -> None:
    rng, change = np.random.default_rng(0), np.linspace(0.1, 1, 400)
    noise = np.full(400, 0.01**2)
    errors = 0.02 * change * rng.standard_normal(400) + 0.01 * rng.standard_normal(400)
    found = without_noise(errors, change, noise)
    # 400 errors tell their variance to 7 %, which is 12 % of that of the fit.
    assert 0.016 < np.sqrt(np.mean(found**2)) < 0.024
    assert without_noise(errors, change, 0 * noise) == pytest.approx(errors / change)


def test_noise_that_explains_all_leaves_what_the_rows_cannot_tell() -> None:
    errors, change = np.random.default_rng(0).standard_normal(50), np.ones(50)
    found = without_noise(errors, change, np.full(50, 4.0))
    assert np.mean(found**2) == pytest.approx(np.mean(errors**2) * math.sqrt(2 / 50))
