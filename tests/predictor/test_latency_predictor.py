from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, LatencyPredictor, latency_predictor
from adaptare.profiler import RANK, Configuration, Measurement, ModelShape, Workload, named_space

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]
TrueSeconds = Callable[[Workload, Sequence[Configuration]], NDArray[np.float64]]


@pytest.mark.usefixtures("without_card")
@pytest.mark.parametrize(
    ("n", "phase", "mode"), [(24, "decode", "swappable"), (24, "prefill", "static"), (40, "decode", "padded")]
)
def test_unseen_adapters_are_predicted_within_the_noise(
    campaign: Campaign,
    draw_configs: DrawConfigs,
    true_seconds: TrueSeconds,
    shape: ModelShape,
    n: int,
    phase: str,
    mode: str,
) -> None:
    template = Workload(shape, phase=phase, mode=mode)  # type: ignore[arg-type]
    predictor = LatencyPredictor().fit(campaign(draw_configs(n, 0), template=template, sigma=0.005))
    unseen = draw_configs(100, 1)
    truth = true_seconds(template, unseen)
    errors = np.abs(predictor.predict_configs(unseen).mean / truth - 1)
    assert truth.max() > 1.2 * truth.min()
    assert errors.mean() < 0.005


def test_the_card_changes_no_prediction(
    predictor: FittedPredictor, campaign: Campaign, draw_configs: DrawConfigs, without_card: None
) -> None:
    unseen = draw_configs(50, 1)
    found, expected = (
        each.predict_configs(unseen) for each in (LatencyPredictor().fit(campaign(draw_configs(32, 0))), predictor)
    )
    for name in ("mean", "lower", "upper"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.slow
@pytest.mark.usefixtures("without_card")
@pytest.mark.parametrize(("n", "level"), [(12, 0.9), (30, 0.8)])
def test_intervals_hold_new_measurements_as_often_as_they_say(
    campaign: Campaign,
    draw_configs: DrawConfigs,
    true_seconds: TrueSeconds,
    template: Workload,
    n: int,
    level: float,
) -> None:
    unseen = draw_configs(200, 1000)
    truth = true_seconds(template, unseen)
    held = []
    for seed in range(16):
        predictor = LatencyPredictor(level=level).fit(campaign(draw_configs(n, seed), sigma=0.01, seed=seed))
        measured = truth * np.exp(0.01 * np.random.default_rng(1000 + seed).standard_normal(len(truth)))
        prediction = predictor.relative.predict_configs(unseen)
        held.append(np.mean((prediction.lower <= measured) & (measured <= prediction.upper)))
    assert level - 0.04 < np.mean(held) < level + 0.06


@pytest.mark.slow
def test_the_card_tells_the_error_on_unseen_adapters(
    campaign: Campaign,
    draw_configs: DrawConfigs,
    true_seconds: TrueSeconds,
    template: Workload,
    device: SimulatedDevice,
) -> None:
    unseen = draw_configs(300, 1000)
    ratios = true_seconds(template, unseen) / device.latency_s(template.base.work())
    measured = ratios * np.exp(0.01 * np.random.default_rng(7).standard_normal(len(ratios)))
    cards, errors = [], []
    for seed in range(6):
        predictor = LatencyPredictor().fit(campaign(draw_configs(30, seed), sigma=0.01, seed=seed))
        cards.append(predictor.error_card)
        predicted = predictor.predict_configs(unseen).mean / predictor.base_value
        errors.append(100 * np.abs(predicted - measured).mean())
    assert np.mean([card.mae_overhead_points for card in cards]) == pytest.approx(np.mean(errors), rel=0.15)
    assert np.mean([card.coverage for card in cards]) == pytest.approx(0.92, abs=0.05)
    assert min(card.kendall_tau for card in cards) > 0.8


def test_the_card_shows_what_simpler_fits_are_off(predictor: FittedPredictor) -> None:
    card = predictor.error_card
    assert (card.rows, card.sessions, card.openings) == (32, 1, 1)
    assert predictor.chosen == "shrunken"
    assert predictor.reason.startswith("no line in sites or FLOPs is as good")
    others = {"non-negative", "curved", "constant", "sites-affine", "FLOPs-affine"}
    assert set(card.baselines) == others | {"nearest neighbour", "random forest"}
    assert card.mae_overhead_points < min(error for name, error in card.baselines.items() if name != "curved")
    assert card.mae_overhead_points < card.half_width_points < 5


def test_the_fit_that_was_chosen_is_what_predicts(
    campaign: Campaign, draw_configs: DrawConfigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_predictor, "choose_candidate", lambda *_: "sites-affine")
    predictor = LatencyPredictor().fit(campaign(draw_configs(12, 0)))
    assert predictor.chosen == "sites-affine"
    assert "points of overhead above that of the shrunken fit" in predictor.reason
    assert np.flatnonzero(predictor.prices_s(predictor.features.names)).tolist() == [0]
    card = predictor.error_card
    assert "shrunken" in card.baselines
    assert "sites-affine" not in card.baselines


@pytest.mark.usefixtures("without_card")
def test_seconds_are_the_ratio_times_the_calibrated_reference(
    campaign: Campaign, draw_configs: DrawConfigs, predictor: FittedPredictor
) -> None:
    slowed = [
        replace(
            row,
            visits=tuple(replace(visit, samples_s=(2 * visit.samples_s[0],)) for visit in row.visits),
            reference_visits=tuple(replace(visit, samples_s=(2 * row.reference_s,)) for visit in row.reference_visits),
        )
        for row in campaign(draw_configs(32, 0))
    ]
    unseen = draw_configs(5, 1)
    np.testing.assert_allclose(
        LatencyPredictor().fit(slowed).predict_configs(unseen).mean, predictor.predict_configs(unseen).mean
    )


def test_codes_of_a_smaller_space_leave_the_other_sites_without_adapter(
    predictor: FittedPredictor, shape: ModelShape
) -> None:
    sites = tuple(site for site in reversed(shape.sites) if site.kind in ("q_proj", "v_proj"))
    codes = np.random.default_rng(0).integers(0, 17, size=(8, len(sites)))
    configs = [Configuration.of({site.path: int(rank) for site, rank in zip(sites, row, strict=True)}) for row in codes]
    expected = predictor.predict_configs(configs)
    found = predictor.predict(codes, [RANK(site.path) for site in sites])
    np.testing.assert_array_equal(found.mean, expected.mean)


def test_what_lies_outside_the_profiled_range_is_flagged(
    predictor: FittedPredictor, draw_configs: DrawConfigs, shape: ModelShape
) -> None:
    inside = predictor.predict_configs(draw_configs(200, 1)).extrapolates
    largest = predictor.predict_configs([Configuration.uniform(shape, 64)]).extrapolates
    assert inside.mean() < 0.15
    assert largest.all()


@pytest.mark.usefixtures("without_card")
def test_a_kind_of_linear_that_was_never_adapted_is_flagged(campaign: Campaign, shape: ModelShape) -> None:
    layers = range(shape.layers)
    configs = [
        Configuration.of({f"model.layers.{layer}.self_attn.q_proj": rank for layer in layers[:count]})
        for count in (1, 3, 6)
        for rank in (1, 4, 16)
    ]
    predictor = LatencyPredictor().fit(campaign(configs))
    asked = [Configuration.uniform(shape, 4, kinds=(kind,)) for kind in ("q_proj", "o_proj")]
    assert predictor.predict_configs(asked).extrapolates.tolist() == [False, True]


@pytest.mark.usefixtures("without_card")
def test_too_few_adapters_are_refused_with_advice(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    rows = campaign(draw_configs(8, 0))
    with pytest.raises(
        InputError, match=r"level 0\.9 needs at least 9 measured adapters, 8 came; profile more, 24 to 40"
    ):
        LatencyPredictor().fit(rows)
    with pytest.raises(InputError, match=r"needs at least 8 measured adapters, 7 came"):
        LatencyPredictor(level=0.5).fit(rows[:7])
    assert np.isfinite(LatencyPredictor(level=0.8).fit(rows).predict_configs(draw_configs(1, 1)).upper)
    again = [row for session in "abcde" for row in campaign(draw_configs(3, 0), session=session)]
    with pytest.raises(InputError, match="3 came"):
        LatencyPredictor().fit(again)


FIRST, ABSENT = "model.layers.0.self_attn.q_proj", "model.layers.9.self_attn.q_proj"


@pytest.mark.parametrize(
    ("columns", "paths", "message"),
    [
        (3, [FIRST, ABSENT], r"values of 2 dimensions must have the shape \(n, 2\), not \(1, 3\)"),
        (1, [ABSENT], f"not fitted for the rank of {ABSENT}"),
        (2, [FIRST, FIRST], "named twice"),
    ],
)
def test_codes_of_other_sites_are_refused(
    predictor: FittedPredictor, columns: int, paths: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict(np.zeros((1, columns), dtype=np.int64), [RANK(path) for path in paths])
    with pytest.raises(InputError, match=f"has no linear '{ABSENT}'"):
        predictor.predict_configs([Configuration.of({ABSENT: 4})])


@pytest.mark.usefixtures("without_card")
def test_the_probability_of_meeting_a_budget_is_that_of_unseen_adapters(
    campaign: Campaign, draw_configs: DrawConfigs
) -> None:
    predictor = LatencyPredictor().fit(campaign(draw_configs(40, 0), sigma=0.02)).relative
    unseen = draw_configs(300, 1)
    codes = predictor.features.values(unseen)
    predicted = predictor.predict(codes)
    met = [
        each.latency_s <= mean for each, mean in zip(campaign(unseen, sigma=0.02, seed=1), predicted.mean, strict=True)
    ]
    said = [
        predictor.probability_within([config], float(mean))[0]
        for config, mean in zip(unseen, predicted.mean, strict=True)
    ]
    assert np.mean(said) == pytest.approx(np.mean(met), abs=0.12)
    assert (predictor.probability_within(unseen, 2 * predicted.mean.max()) > 0.9).all()
    assert (predictor.probability_within(unseen, 0.5 * predicted.mean.min()) < 1e-6).all()


@pytest.mark.usefixtures("without_card")
def test_ten_rows_of_another_device_do_where_a_predictor_is_transferred(
    campaign: Campaign, draw_configs: DrawConfigs, template: Workload
) -> None:
    slower = SimulatedDevice(launch_s=1e-6, bandwidth_bytes_s=5e9, compute_flops_s=20e9)
    source = LatencyPredictor().fit(campaign(draw_configs(40, 0), sigma=0.001))
    few, unseen = campaign(draw_configs(10, 3), device=slower, sigma=0.01), draw_configs(200, 1)
    truth = np.array([slower.latency_s(replace(template, configuration=each).work()) for each in unseen])
    own, transferred = LatencyPredictor().fit(few), LatencyPredictor().fit(few, source=source)
    off = [np.abs(each.predict_configs(unseen).mean / truth - 1).mean() for each in (own, transferred)]
    assert transferred.chosen == "transferred"
    assert off[1] < off[0]
    assert transferred.source == source.device
    assert own.source is None


@pytest.mark.usefixtures("without_card")
def test_prices_of_another_size_of_model_are_transferred(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    source = LatencyPredictor().fit(campaign(draw_configs(40, 0)))
    larger = ModelShape("llama", 12, 256, 4, 2, 64, 512, 512, '{"name":"larger"}')
    space = named_space("sites", larger, ranks=(0, 4, 16))
    configs = [space.decode(row) for row in space.at(space.spread(12, np.random.default_rng(0)))]
    rows = campaign(configs, template=Workload(larger))
    assert LatencyPredictor().fit(rows, source=source).chosen == "transferred"


@pytest.mark.usefixtures("without_card")
def test_a_source_that_has_seen_some_of_the_rows_cannot_be_judged_by_them(
    campaign: Campaign, draw_configs: DrawConfigs
) -> None:
    rows = campaign(draw_configs(24, 0))
    source = LatencyPredictor().fit(rows[:12])
    with pytest.raises(InputError, match="fitted to some of these adapters on this device"):
        LatencyPredictor().fit(rows, source=source)


def test_an_adapter_that_was_measured_often_counts_once_on_the_card(
    campaign: Campaign, draw_configs: DrawConfigs
) -> None:
    rows = campaign(draw_configs(12, 0), sigma=0.01)
    predictor = LatencyPredictor().fit([*rows, *[rows[7]] * 20])
    measured, said, *_ = predictor.left_out
    off = np.abs(said - measured)
    of_each = [*np.delete(off[:12], 7), off[12:].mean()]
    assert predictor.error_card.rows == 32
    assert predictor.error_card.mae_overhead_points == pytest.approx(100 * np.mean(of_each), rel=1e-9)
    assert predictor.error_card.mae_overhead_points != pytest.approx(100 * off.mean(), rel=0.01)
