from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor.fitting.training_rows import ADAPTER, WORKLOAD, training_rows
from adaptare.profiler import RANK, WIDTH, Configuration, Measurement, ModelShape, Workload

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]


def test_rows_have_the_ranks_and_the_ratio_to_the_reference(campaign: Campaign, shape: ModelShape) -> None:
    rows = training_rows(campaign([Configuration.uniform(shape, 4, kinds=("q_proj",))], sigma=0))
    assert rows.values.tolist() == [[4 if site.kind == "q_proj" else 0 for site in shape.sites]]
    assert rows.rows.ratios[0] > 1
    assert len(rows.template.configuration.ranks) == 0


def test_failed_and_interrupted_measurements_are_left_out(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    good, failed, interrupted, empty = campaign(draw_configs(4, 0))
    bad = [
        replace(failed, failure="the worker died", visits=(), reference_visits=()),
        replace(interrupted, stopped_by="interrupted"),
        replace(empty, visits=(), reference_visits=()),
    ]
    assert len(training_rows([good, *bad]).lengths) == 1
    with pytest.raises(InputError, match="none of the 3 measurements is complete; profile the device first"):
        training_rows(bad)


def test_the_base_may_stand_among_adapters_of_any_mode(
    campaign: Campaign, draw_configs: DrawConfigs, template: Workload
) -> None:
    base = campaign([Configuration()], template=template.base, sigma=0)
    rows = training_rows([*base, *campaign(draw_configs(3, 0))])
    assert rows.template.mode == "swappable"
    assert not rows.values[0].any()
    assert rows.rows.ratios[0] == pytest.approx(1.0)


def test_the_newest_calibration_of_the_reference_counts(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    old, new = campaign(draw_configs(2, 0))
    new = replace(new, reference_s=0.5, taken_at="2025-02-01T00:00:00+00:00")
    assert training_rows([new, old]).base.at(64) == 0.5


def test_sessions_and_openings_are_counted(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    first = campaign(draw_configs(3, 0))
    second = campaign(draw_configs(3, 1), session="second")
    reopened = [replace(row, visits=(*row.visits[:-1], replace(row.visits[-1], opening=1))) for row in second]
    rows = training_rows([*first, *reopened])
    assert (rows.sessions, rows.openings) == (2, 3)


def test_another_device_is_refused(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    faster = SimulatedDevice(launch_s=1e-7)
    mixed = [*campaign(draw_configs(2, 0)), *campaign(draw_configs(2, 1), device=faster)]
    with pytest.raises(InputError, match=r"one device; these are of .*5e-07.* and .*1e-07.*; fit one for each"):
        training_rows(mixed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phase": "prefill"}, "phase decode and prefill"),
        ({"mode": "static"}, "mode swappable and static"),
        ({"dtype": "float16"}, "dtype float32 and float16"),
        ({"scope": "block"}, "scope model and block"),
    ],
)
def test_anything_that_differs_beside_the_adapter_is_refused(
    campaign: Campaign, draw_configs: DrawConfigs, template: Workload, change: dict[str, Any], said: str
) -> None:
    ours, other = campaign(draw_configs(2, 0))
    other = replace(other, workload=replace(other.workload, **change))
    with pytest.raises(InputError, match=f"{said}.*; fit one for each"):
        training_rows([ours, other])


def test_rows_of_several_lengths_stand_beside_the_base_of_their_own(
    campaign: Campaign, draw_configs: DrawConfigs, template: Workload
) -> None:
    short, long = (campaign(draw_configs(2, 0), template=replace(template, past=past)) for past in (8, 64))
    rows = training_rows([*short, *long])
    assert rows.template == template
    assert rows.lengths.tolist() == [8, 8, 64, 64]
    assert rows.base.values == {8: short[0].reference_s, 64: long[0].reference_s}
    assert rows.rows.groups[:2, ADAPTER].tolist() == rows.rows.groups[2:, ADAPTER].tolist()
    assert len(set(rows.rows.groups[:, WORKLOAD])) == 4
    with pytest.raises(InputError, match="ratios over different references do not compare"):
        training_rows([*long, *[replace(row, reference=template.base) for row in short]])


def test_sites_that_do_not_run_do_not_count(campaign: Campaign, shape: ModelShape, template: Workload) -> None:
    block = replace(template, scope="block")
    rows = training_rows(campaign([Configuration.uniform(shape, 4)], template=block))
    np.testing.assert_array_equal(rows.values, np.full((1, 7), 4))


def test_other_adapters_than_lora_are_refused(campaign: Campaign, shape: ModelShape) -> None:
    dora = replace(Configuration.uniform(shape, 4, kinds=("q_proj",)), kind="dora")
    with pytest.raises(InputError, match="predictors know LoRA adapters only, not dora; measure their overhead"):
        training_rows(campaign([dora], sigma=0))


def test_where_every_site_is_open_that_is_what_rows_have_in_common(
    campaign: Campaign, draw_configs: DrawConfigs, shape: ModelShape, template: Workload
) -> None:
    opened = replace(template, graph="open")
    everywhere = Configuration.uniform(shape, 4)
    rows = training_rows(campaign([*draw_configs(3, 0), everywhere], template=opened))
    assert rows.template == opened
    assert rows.values[-1].tolist() == [4] * len(shape.sites)
    with pytest.raises(InputError, match="1 of 3 measurements are of graphs without some sites"):
        training_rows([*campaign(draw_configs(2, 0), template=opened), *campaign([Configuration()])])


def test_widths_are_columns_where_some_layer_is_narrower(
    campaign: Campaign, shape: ModelShape, template: Workload
) -> None:
    narrow = Configuration.of({"model.layers.0.self_attn.q_proj": 4}, widths={2: 64})
    rows = training_rows(campaign([Configuration(), narrow]))
    assert rows.features.dimensions == (*RANK.all(shape), *WIDTH.all(shape))
    assert rows.values[:, -6:].tolist() == [[256] * 6, [256, 256, 64, 256, 256, 256]]
    assert rows.template == template
    assert training_rows(campaign([Configuration()])).features.dimensions == RANK.all(shape)


def test_narrower_rows_without_adapter_stand_beside_others_of_any_mode(campaign: Campaign, template: Workload) -> None:
    adapted = campaign([Configuration.of({"model.layers.0.self_attn.q_proj": 4})])
    bare = campaign([Configuration.of(widths={0: 64})], template=replace(template, mode="merged"))
    assert training_rows([*bare, *adapted]).template == template
