"""One predictor of several numbers of tokens: length is a feature like any other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, LatencyPredictor, at_length, load_predictor, save_predictor
from adaptare.profiler import Configuration, Measurement, Mode, ModelShape, Phase, Workload, named_space
from adaptare.profiler.analysis import Interval

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]
TrueSeconds = Callable[[Workload, Sequence[Configuration]], NDArray[np.float64]]
Fitted = Callable[..., FittedPredictor]

pytestmark = pytest.mark.usefixtures("without_card")


@pytest.fixture(scope="module")
def fitted(campaign: Campaign, draw_configs: DrawConfigs, template: Workload, fit_without_card: Fitted) -> Fitted:
    """`(lengths, sigma=…, **changes of the template)` -> one predictor of 30 adapters at each length."""

    @cache
    def fit(*lengths: int, sigma: float = 0.0, **changes: Any) -> FittedPredictor:
        own = replace(template, **changes)
        rows = [
            row
            for length in lengths
            for row in campaign(draw_configs(30, 0), template=at_length(own, length), sigma=sigma, seed=length)
        ]
        return fit_without_card(rows)

    return fit


@pytest.mark.parametrize(("phase", "mode"), [("decode", "swappable"), ("prefill", "static"), ("prefill", "padded")])
def test_predicts_what_would_be_measured_at_a_length_between(
    fitted: Fitted, true_seconds: TrueSeconds, draw_configs: DrawConfigs, template: Workload, phase: Phase, mode: Mode
) -> None:
    found = fitted(128, 64, phase=phase, mode=mode).at(96)
    wanted = at_length(replace(template, phase=phase, mode=mode), 96)
    assert (found.template, found.reference, found.origin) == (wanted, wanted.base, "interpolated")
    unseen = draw_configs(20, 1)
    # Attention grows with the square of the tokens.
    assert found.predict_configs(unseen).mean == pytest.approx(true_seconds(wanted, unseen), rel=0.01)
    assert not found.predict_configs(unseen).extrapolates.any()


def test_a_fitted_length_is_predicted_as_well_as_by_a_predictor_of_its_own(
    fitted: Fitted, true_seconds: TrueSeconds, draw_configs: DrawConfigs
) -> None:
    joint, unseen = fitted(32, 64, 128, sigma=0.01), draw_configs(50, 1)
    assert (joint.length, joint.lengths) == (128, (32, 64, 128))
    for length in joint.lengths:
        own, found = fitted(length, sigma=0.01), joint.at(length)
        assert (found.origin, found.base_value) == ("predicted", own.base_value)
        truth = true_seconds(found.template, unseen)
        errors = [np.abs(each.predict_configs(unseen).mean / truth - 1).mean() for each in (found, own)]
        assert errors[0] < 1.1 * errors[1]


def test_intervals_between_lengths_hold_the_truth(
    fitted: Fitted, true_seconds: TrueSeconds, draw_configs: DrawConfigs
) -> None:
    found = fitted(32, 64, 128, sigma=0.01).at(96)
    unseen = draw_configs(100, 1)
    truth = true_seconds(found.template, unseen) * np.exp(0.01 * np.random.default_rng(5).standard_normal(100))
    predicted = found.predict_configs(unseen)
    assert np.mean((predicted.lower <= truth) & (truth <= predicted.upper)) > 0.85


def half_width(predictor: FittedPredictor) -> float:
    return float(half_widths(predictor.relative)[1])


def half_widths(predictor: FittedPredictor) -> NDArray[np.float64]:
    """Of the base, and of rank 32 everywhere."""
    said = predictor.predict_configs([Configuration.uniform(predictor.template.shape, rank) for rank in (0, 32)])
    return np.log(said.upper / said.mean)


def test_errors_of_the_base_at_lengths_left_out_widen_the_interval_between(fitted: Fitted) -> None:
    assert fitted(32, 64).base.left_out == {}
    straight = fitted(32, 48, 64)
    assert straight.base.left_out[48] == pytest.approx(0, abs=1e-9)
    assert half_width(straight.at(40)) == pytest.approx(half_width(straight.at(48)), rel=0.1)
    bent = replace(
        straight, base=replace(straight.base, values={**straight.base.values, 48: 1.1 * straight.base.at(48)})
    )
    assert bent.base.left_out[48] == pytest.approx(1 / 1.1 - 1)
    assert half_width(bent.at(48)) == pytest.approx(half_width(straight.at(48)), rel=0.1)
    assert (half_widths(bent.at(40)) > 0.09).all()
    ratios = half_widths(bent.at(40).relative)  # an error of the base moves only what the adapter adds
    assert ratios[0] == pytest.approx(0, abs=1e-9)
    assert 0.04 < ratios[1] < 0.09
    now = bent.at(40).base_value
    measured = bent.at(40).recalibrated(Interval(now, now, now), 6)
    assert half_widths(measured)[0] == pytest.approx(
        half_widths(straight.at(48).recalibrated(Interval(now, now, now), 6))[0]
    )
    assert (half_widths(measured.at(44)) > 0.09).all()


def test_the_base_of_a_prefill_follows_the_square_of_attention(shape: ModelShape, fitted: Fitted) -> None:
    compute_bound = SimulatedDevice(launch_s=5e-7, bandwidth_bytes_s=1e15, compute_flops_s=1e9)
    prefill = Workload(shape, phase="prefill")
    seconds = {length: compute_bound.latency_s(at_length(prefill.base, length).work()) for length in (32, 512)}
    curve = replace(fitted(32, 64).base, base=prefill.base, values=seconds)
    truth = compute_bound.latency_s(at_length(prefill.base, 256).work())
    assert curve.at(256) == pytest.approx(truth, rel=1e-9)


def test_is_saved_like_any_other(fitted: Fitted, draw_configs: DrawConfigs, tmp_path: Path) -> None:
    found, unseen = fitted(32, 64), draw_configs(5, 1)
    save_predictor(found, tmp_path / "both")
    loaded = load_predictor(tmp_path / "both")
    assert loaded.lengths == (32, 64)
    for length in (32, 40, 64):
        np.testing.assert_array_equal(
            loaded.at(length).predict_configs(unseen).upper, found.at(length).predict_configs(unseen).upper
        )


def test_no_length_is_extrapolated(fitted: Fitted) -> None:
    for length in (31, 65):
        message = f"length {length} is outside the fitted lengths, 32 to 64; profile that length"
        with pytest.raises(InputError, match=message):
            fitted(32, 64).at(length)
    with pytest.raises(InputError, match="length 32 is outside the fitted lengths, 64; profile"):
        fitted(64).at(32)


def test_an_adapter_outside_the_range_of_all_lengths_is_flagged(
    campaign: Campaign, shape: ModelShape, draw_configs: DrawConfigs, template: Workload
) -> None:
    small = [Configuration.of({path: min(rank, 4) for path, rank in each.ranks}) for each in draw_configs(30, 0)]
    rows = [
        row for tokens in (8, 512) for row in campaign(small, template=Workload(shape, phase="prefill", tokens=tokens))
    ]
    found = LatencyPredictor().fit(rows)
    for length in (8, 60, 512):
        said = found.at(length).predict_configs([Configuration.uniform(shape, rank) for rank in (3, 20)])
        assert said.extrapolates.tolist() == [False, True]


@pytest.mark.parametrize(
    ("phase", "ranks"),
    [("decode", (0, 1, 4, 8, 16)), ("prefill", (1, 4, 8, 16))],
    ids=["placements", "every site"],
)
def test_what_was_profiled_at_both_lengths_is_known_between_them(
    campaign: Campaign, shape: ModelShape, phase: Phase, ranks: tuple[int, ...]
) -> None:
    """Columns that never change, as the number of sites on every site, are no range that rounding may reverse."""
    space = named_space("sites", shape, ranks=ranks)
    configs = [space.decode(row) for row in space.at(space.spread(30, np.random.default_rng(0)))]
    ends = [Workload(shape, phase=phase, past=length, tokens=length) for length in (8, 512)]
    found = LatencyPredictor().fit([row for each in ends for row in campaign(configs, template=each)])
    assert not found.at(96).predict_configs(configs).extrapolates.any()


def test_open_graphs_cost_something_without_adapter_at_every_length(
    campaign: Campaign, draw_configs: DrawConfigs, shape: ModelShape, template: Workload
) -> None:
    rows = []
    for past in (32, 64):
        for row in campaign(draw_configs(30, 0), template=replace(template, past=past, graph="open")):
            visits = [replace(visit, samples_s=(visit.samples_s[0] + 0.1 * row.reference_s,)) for visit in row.visits]
            rows.append(replace(row, visits=tuple(visits)))
    both = LatencyPredictor().fit(rows)
    found = both.at(48)
    assert found.template.graph == "open"
    nothing = found.predict_configs([Configuration()])
    assert nothing.mean[0] / found.base_value == pytest.approx(1.1, abs=0.02)


def test_an_adapter_at_several_lengths_counts_once_and_phases_do_not_mix(
    campaign: Campaign, draw_configs: DrawConfigs, template: Workload
) -> None:
    rows = [row for past in (16, 32, 64) for row in campaign(draw_configs(4, 0), template=replace(template, past=past))]
    with pytest.raises(InputError, match="needs at least 9 measured adapters, 4 came"):
        LatencyPredictor().fit(rows)
    other = campaign(draw_configs(4, 0), template=replace(template, phase="prefill", tokens=64))
    with pytest.raises(InputError, match=r"phase decode and prefill|different references"):
        LatencyPredictor().fit([*rows, *other])


def test_prices_are_those_of_any_length(fitted: Fitted) -> None:
    joint = fitted(32, 64)
    names = joint.features.names
    assert joint.at(32).prices_s(names) == joint.at(64).prices_s(names)
    assert joint.prices_s(names) == pytest.approx(fitted(64).prices_s(names), rel=0.05, abs=1e-12)
