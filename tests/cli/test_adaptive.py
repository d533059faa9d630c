"""Measuring until a predictor is good enough: when it stops."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adaptare.devices import SimulatedDevice
from adaptare.predictor import adaptive
from adaptare.predictor.fitting.cross_validation import ErrorCard, LeftOut, make_error_card
from adaptare.predictor.fitting.training_rows import Rows
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload, named_space
from adaptare.profiler.store.measurement import Visit

SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 96, 128, '{"name":"tiny"}')


def card_of(relative: np.ndarray, half_width: float = 1.0) -> ErrorCard:
    """The card of rows that are off by so much."""
    n = len(relative)
    groups = np.array([[str(row), "0", "0", str(row)] for row in range(n)])
    left_out = LeftOut(1 + relative, np.full(n, half_width))
    rows = Rows(np.ones((n, 1)), np.ones(n), groups, np.zeros(n))
    training: Any = SimpleNamespace(rows=rows, sessions=1, openings=1, composed=0)
    return make_error_card(left_out, training, {}, level=0.9)


def measured(workloads: Sequence[Workload]) -> list[Measurement]:
    device = SimulatedDevice()
    visit = Visit(0, 0, 1.0, (1.0,))
    row = Measurement(
        workload=workloads[0],
        device=device.info(),
        reference=workloads[0].base,
        reference_s=1.0,
        session="first",
        visits=(visit,),
        reference_visits=(visit,),
        stopped_by="rounds",
        taken_at="2025-01-01T00:00:00+00:00",
    )
    return [replace(row, workload=workload) for workload in workloads]


def test_the_last_adapters_may_have_no_cut_where_measured_ones_have_one(
    monkeypatch: pytest.MonkeyPatch, without_card: None
) -> None:
    narrow = named_space("lonas", SHAPE, ranks=(1, 2))
    cut = [Workload(SHAPE, narrow.decode(narrow.at(0 * narrow.highest)))]
    whole = [Workload(SHAPE, Configuration.uniform(SHAPE, rank)) for rank in range(1, 13)]
    monkeypatch.setattr(adaptive, "BATCH", 3)
    found, _ = adaptive.measure_until(whole, measured(cut), measured, error=1e-9, note=lambda text: None)
    assert {row.workload for row in found} <= {*whole}
    assert len(found) >= 9


def test_one_lucky_dip_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    # Mean errors in per cent after each batch; rows differ as absolute errors do.
    means = [3.0, 0.95, 2.5, 1.4, 0.5]
    cards = []
    for batch, mean in enumerate(means):
        relative = np.abs(rng.standard_normal(10 + 8 * batch))
        cards.append(card_of(relative * mean / 100 / relative.mean()))
    assert [card.mape for card in cards] == pytest.approx(means)

    class Predictor:
        fewest_adapters = 9

        def fit(self, rows: Sequence[Measurement]) -> SimpleNamespace:
            return SimpleNamespace(error_card=cards.pop(0))

    monkeypatch.setattr(adaptive, "LatencyPredictor", Predictor)
    space = named_space("sites", SHAPE, ranks=(0, 1, 4, 16))
    codes = np.unique(space.at(space.spread(200, np.random.default_rng(0))), axis=0)
    workloads = [Workload(SHAPE, configuration=space.decode(row)) for row in codes if row.any()]
    found, _ = adaptive.measure_until(workloads[:42], [], measured, error=1.0, note=lambda text: None)
    assert (len(found), cards) == (42, [])


def test_an_error_above_the_wanted_one_seldom_ends_it() -> None:
    """True error 15 % above the wanted one, looked at after each of seven batches."""
    by_error, by_upper_end = [], []
    for seed in range(100):
        relative = np.abs(np.random.default_rng(seed).standard_normal(58)) * 1.15 / 100 / np.sqrt(2 / np.pi)
        cards = [card_of(relative[: 10 + 8 * batch]) for batch in range(7)]
        by_error.append(any(card.mape <= 1 for card in cards))
        by_upper_end.append(any(card.mape_upper <= 1 for card in cards))
    assert np.mean(by_error) > 0.4
    assert np.mean(by_upper_end) < 0.1


@pytest.mark.parametrize(("factor", "inside"), [(1.25, True), (1.35, False), (0.75, False), (0.78, True)])
def test_coverage_is_by_the_factor_between_ratios(factor: float, inside: bool) -> None:
    """A half-width of ln 1.3 covers from 1 / 1.3 = 0.769 to 1.3 of what is predicted."""
    card = card_of(np.full(6, factor - 1), half_width=math.log(1.3))
    assert card.coverage == inside
