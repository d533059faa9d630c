"""Predictors of numbers of tokens between those that were profiled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, LatencyPredictor, bends, interpolate, load_predictor, save_predictor
from adaptare.profiler import Configuration, Measurement, ModelShape, Phase, Workload, named_space

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]
TrueSeconds = Callable[[Workload, Sequence[Configuration]], NDArray[np.float64]]
Fitted = Callable[..., FittedPredictor]

pytestmark = pytest.mark.usefixtures("without_card")


@pytest.fixture(scope="module")
def known() -> dict[tuple[float, Workload], FittedPredictor]:
    """What tests before have fitted, by noise and template."""
    return {}


@pytest.fixture
def fitted(
    campaign: Campaign,
    draw_configs: DrawConfigs,
    template: Workload,
    known: dict[tuple[float, Workload], FittedPredictor],
) -> Fitted:
    """Fits what was measured at a length without any noise."""

    def fit(sigma: float = 0.0, **changes: Any) -> FittedPredictor:
        key = sigma, replace(template, **changes)
        if key not in known:
            known[key] = LatencyPredictor().fit(campaign(draw_configs(30, 0), template=key[1], sigma=sigma))
        return known[key]

    return fit


@pytest.mark.parametrize("changes", [{"past": 96}, {"phase": "prefill", "tokens": 96}], ids=["decode", "prefill"])
def test_says_what_would_be_measured_at_the_length(
    fitted: Fitted, true_seconds: TrueSeconds, draw_configs: DrawConfigs, template: Workload, changes: dict[str, Any]
) -> None:
    name = "tokens" if "tokens" in changes else "past"
    both = [fitted(**{**changes, name: length}) for length in (128, 64)]
    found, wanted = interpolate(both, 96), replace(template, **changes)
    assert found.template == wanted
    assert (found.chosen, found.reference) == ("interpolated", wanted.base)
    unseen = draw_configs(20, 1)
    ends = [each.predict_configs(unseen).mean_s for each in both]
    assert found.predict_configs(unseen).mean_s == pytest.approx(np.mean(ends, axis=0), rel=1e-9)
    # Attention grows with the square of the tokens.
    assert found.predict_configs(unseen).mean_s == pytest.approx(true_seconds(wanted, unseen), rel=0.02)
    assert not found.predict_configs(unseen).extrapolates.any()


def test_a_length_that_was_profiled_is_as_it_was(fitted: Fitted, draw_configs: DrawConfigs) -> None:
    three = [fitted(sigma=0.01, past=past) for past in (32, 64, 128)]
    for own in three:
        found = interpolate(three, own.template.past).predict_configs(draw_configs(5, 1))
        assert found.mean_s == pytest.approx(own.predict_configs(draw_configs(5, 1)).mean_s, rel=1e-9)


def test_the_interval_is_the_wider_one(fitted: Fitted) -> None:
    narrow, wide = fitted(sigma=0.002, past=32), fitted(sigma=0.02, past=64)
    assert interpolate([narrow, wide], 40).half_width == wide.half_width > narrow.half_width


def test_what_the_base_bends_is_told(fitted: Fitted) -> None:
    assert bends([fitted(past=32), fitted(past=64)]) == {}
    assert bends([fitted(past=past) for past in (32, 48, 64)])[48] == pytest.approx(0, abs=1e-9)


def test_is_saved_like_any_other(fitted: Fitted, draw_configs: DrawConfigs, tmp_path: Path) -> None:
    found = interpolate([fitted(past=32), fitted(past=64)], 40)
    save_predictor(found, tmp_path / "between")
    said = load_predictor(tmp_path / "between").predict_configs(draw_configs(5, 1))
    np.testing.assert_array_equal(said.mean_s, found.predict_configs(draw_configs(5, 1)).mean_s)


@pytest.mark.parametrize(
    ("changes", "length", "message"),
    [
        ([{"past": 32}], 32, "needs the predictors of two, not 1"),
        ([{"past": 32}, {"past": 64}], 65, "length 65 is not between those that were profiled, 32 and 64"),
        ([{"past": 32}, {"past": 64}], 31, "length 31 is not between"),
        ([{"past": 32}, {"past": 32}], 32, "two of the predictors are of length 32"),
        ([{"past": 32}, {"past": 64, "batch": 2}], 40, "differ in more than the length"),
        ([{"past": 32}, {"phase": "prefill", "tokens": 64}], 40, "differ in more than the length"),
    ],
)
def test_refuses_what_has_nothing_between(
    fitted: Fitted, changes: list[dict[str, Any]], length: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        interpolate([fitted(**each) for each in changes], length)


def test_predictors_of_different_devices_are_refused(
    fitted: Fitted, campaign: Campaign, draw_configs: DrawConfigs, template: Workload
) -> None:
    rows = campaign(draw_configs(30, 0), template=replace(template, past=32), device=SimulatedDevice(launch_s=1e-7))
    with pytest.raises(InputError, match="predictors of different devices"):
        interpolate([fitted(past=64), LatencyPredictor().fit(rows)], 40)


def test_the_length_that_is_not_used_may_differ(fitted: Fitted) -> None:
    assert interpolate([fitted(past=32, tokens=32), fitted(past=64, tokens=64)], 40).template.past == 40


@pytest.mark.parametrize("mode", ["padded", "merged", "static"])
def test_every_mode_is_interpolated(fitted: Fitted, draw_configs: DrawConfigs, mode: str) -> None:
    both = [fitted(mode=mode, phase="prefill", tokens=tokens) for tokens in (64, 128)]
    ends = [each.predict_configs(draw_configs(20, 1)).mean_s for each in both]
    found = interpolate(both, 96).predict_configs(draw_configs(20, 1)).mean_s
    assert found == pytest.approx(np.mean(ends, axis=0), rel=1e-9)


def test_both_ends_have_to_know_an_adapter(
    campaign: Campaign, fitted: Fitted, shape: ModelShape, draw_configs: DrawConfigs, template: Workload
) -> None:
    small = [Configuration(tuple((path, min(rank, 4)) for path, rank in each.ranks)) for each in draw_configs(30, 0)]
    short = LatencyPredictor().fit(campaign(small, template=replace(template, past=32)))
    found, large = interpolate([short, fitted(past=64)], 60), [Configuration.uniform(shape, 20)]
    assert found.predict_configs(large).extrapolates.all()
    assert not fitted(past=64).predict_configs(large).extrapolates.any()
    assert not found.predict_configs([Configuration.uniform(shape, 3)]).extrapolates.any()


def test_what_was_profiled_at_both_lengths_of_a_prompt_is_known_between_them(
    campaign: Campaign, shape: ModelShape, draw_configs: DrawConfigs, template: Workload
) -> None:
    configs = [*draw_configs(20, 0), Configuration.uniform(shape, 64)]
    prefill = replace(template, phase="prefill")
    both = [LatencyPredictor().fit(campaign(configs, template=replace(prefill, tokens=n))) for n in (8, 512)]
    found = interpolate(both, 96)
    assert not found.predict_configs(configs).extrapolates.any()


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_what_was_profiled_on_every_site_is_known_between_two_lengths(
    campaign: Campaign, shape: ModelShape, template: Workload, phase: Phase
) -> None:
    """Columns that never change, as the number of sites here, are no range that rounding may reverse."""
    space = named_space("sites", shape, ranks=(1, 4, 8, 16))
    configs = [space.decode(row) for row in space.expand(space.spread(30, np.random.default_rng(0)))]
    ends = [replace(template, phase=phase, past=length, tokens=length) for length in (64, 128)]
    found = interpolate([LatencyPredictor().fit(campaign(configs, template=each)) for each in ends], 96)
    assert not found.predict_configs(configs).extrapolates.any()


def test_features_of_decode_know_no_length_so_their_range_stays(fitted: Fitted) -> None:
    both = [fitted(past=length) for length in (64, 128)]
    found = interpolate(both, 96).feature_range
    np.testing.assert_allclose(found, both[0].feature_range, rtol=1e-12)


def test_open_graphs_are_interpolated_and_cost_something_without_adapter(
    campaign: Campaign, draw_configs: DrawConfigs, shape: ModelShape, template: Workload
) -> None:
    def opened(past: int) -> FittedPredictor:
        found = []
        for row in campaign(draw_configs(30, 0), template=replace(template, past=past, graph="open")):
            visits = [replace(visit, samples_s=(visit.samples_s[0] + 0.1 * row.reference_s,)) for visit in row.visits]
            found.append(replace(row, visits=tuple(visits)))
        return LatencyPredictor().fit(found)

    both = [opened(32), opened(64)]
    found = interpolate(both, 48)
    assert found.template.graph == "open"
    nothing = found.predict_configs([Configuration()])
    assert nothing.mean_s[0] / found.reference_s == pytest.approx(1.1, abs=0.02)
    uniform = [Configuration.uniform(shape, rank) for rank in range(1, 12)]
    everywhere = campaign(uniform, template=replace(template, past=32), sigma=0.001)
    assert both[0].relevelled(everywhere).template.graph == "open"
