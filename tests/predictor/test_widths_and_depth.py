"""One predictor for ranks, widths and depth: fitted to a simulated device, judged by its closed form."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, load_predictor, save_predictor
from adaptare.predictor.features import FLOPS, FeatureSet
from adaptare.predictor.fitting.candidates import candidates
from adaptare.profiler import RANK, WIDTH, Configuration, Measurement, ModelShape, Space, Workload, design
from adaptare.profiler.workloads.kinds import LAYER
from adaptare.profiler.workloads.space_file import grouped_space

SHAPE = ModelShape("llama", 8, 128, 4, 2, 32, 384, 512, '{"name":"eight layers"}')
TEMPLATE = Workload(SHAPE)
DEVICE = SimulatedDevice(launch_s=5e-7)
GROUPS = [
    {"sites": "*.self_attn.*", "ranks": [0, 2, 8, 16]},
    {"sites": "*.mlp.*", "ranks": [0, 2, 8, 16]},
    {"widths": [96, 192, 384]},
    {"depth": [4, 6, 8]},
]
Campaign = Callable[..., list[Measurement]]


@pytest.fixture(scope="module")
def space() -> Space:
    return grouped_space("deep", GROUPS, SHAPE)


@pytest.fixture(scope="module")
def configurations(space: Space) -> list[Configuration]:
    """Ranks, widths and depth: 40 to measure, and 100 others."""
    drawn = space.at(space.spread(100, np.random.default_rng(1)))
    return [*design(space, 40, seed=0), *map(space.decode, drawn)]


def truth(configurations: Sequence[Configuration], template: Workload = TEMPLATE) -> NDArray[np.float64]:
    return np.array([DEVICE.latency_s(template.with_configuration(each).work()) for each in configurations])


def rows(campaign: Campaign, configurations: Sequence[Configuration], **options: object) -> list[Measurement]:
    return campaign(configurations, **{"template": TEMPLATE, "device": DEVICE, **options})


@pytest.fixture(scope="module")
def predictor(
    campaign: Campaign, configurations: list[Configuration], fit_without_card: Callable[..., FittedPredictor]
) -> FittedPredictor:
    return fit_without_card(rows(campaign, configurations[:40]))


def test_ranks_widths_and_depth_are_predicted_near_the_closed_form(
    predictor: FittedPredictor, configurations: list[Configuration]
) -> None:
    measured, unseen = configurations[:40], configurations[40:]
    X, known = (predictor.features.matrix(predictor.features.values(some)) for some in (measured, unseen))
    simple = [candidates()[name].fit(X, truth(measured)).predict(known) for name in ("constant", "FLOPs-affine")]
    predictions = (predictor.predict_configs(unseen).mean, *simple)
    ours, constant, flops = (np.abs(each / truth(unseen) - 1).mean() for each in predictions)
    assert ours < 0.015
    assert ours < constant / 10
    assert ours < flops / 3


def test_flops_are_those_of_the_linears_that_are_added_and_taken_away(configurations: list[Configuration]) -> None:
    features = FeatureSet.of(TEMPLATE, configurations)
    X = features.matrix(features.values(configurations))

    def linears(configuration: Configuration) -> int:
        """FLOPs of a call without attention and head."""
        workload = TEMPLATE.with_configuration(configuration)
        sites = configuration.sites(SHAPE)
        base = sum(site.in_features * site.out_features for site in sites)
        return 2 * workload.rows * (base + configuration.adapter_parameters(SHAPE))

    expected = [linears(each) - linears(Configuration()) for each in configurations]
    np.testing.assert_allclose(X[:, FLOPS], expected)
    assert features.names[-1] == "layers"
    np.testing.assert_array_equal(X[:, -1], [-len(each.left_out) for each in configurations])


def test_one_layer_fewer_never_adds_to_a_feature_of_the_base(configurations: list[Configuration]) -> None:
    features = FeatureSet.of(TEMPLATE, configurations)
    narrow = dict.fromkeys(range(8), 96)
    deep, shallow = (Configuration.of({}, widths=narrow, left_out=gone) for gone in ((3,), (3, 5)))
    before, after = features.matrix(features.values([deep, shallow]))
    assert (after <= before).all()


def test_codes_of_a_space_are_predicted_as_their_configurations(predictor: FittedPredictor) -> None:
    path = SHAPE.sites[0].path
    expected = predictor.predict_configs([Configuration.of({path: 4}, widths={1: 96}), Configuration()]).mean
    found = predictor.predict(np.array([[4, 96], [0, 384]]), [RANK(path), WIDTH(1)]).mean
    np.testing.assert_array_equal(found, expected)


def test_the_order_in_which_a_space_leaves_layers_out_does_not_matter(predictor: FittedPredictor) -> None:
    other = grouped_space("depth", GROUPS[3:], SHAPE).leaving_out((7, 6, 5, 4, 3, 2, 1, 0))
    found = predictor.predict(other.at(np.array([[0], [1]])), other.dimensions).mean
    expected = predictor.predict_configs([Configuration.of(left_out=gone) for gone in ((1, 2, 3, 4), (2, 5))]).mean
    np.testing.assert_allclose(found, expected)


def test_a_predictor_of_widths_and_depth_is_the_same_when_it_is_read_again(
    predictor: FittedPredictor, configurations: list[Configuration], tmp_path: Path
) -> None:
    save_predictor(predictor, tmp_path / "kept")
    loaded = load_predictor(tmp_path / "kept")
    unseen = configurations[40:]
    np.testing.assert_array_equal(loaded.predict_configs(unseen).upper, predictor.predict_configs(unseen).upper)


def test_a_predictor_of_ranks_refuses_other_bases(
    campaign: Campaign, configurations: list[Configuration], fit_without_card: Callable[..., FittedPredictor]
) -> None:
    ranks = [Configuration.of(each.by_path) for each in configurations[:40]]
    predictor = fit_without_card(rows(campaign, ranks))
    for word, other in (("width", Configuration.of(widths={0: 96})), ("presence", Configuration.of(left_out=(3,)))):
        with pytest.raises(InputError, match=f"the original {word} only; profile configurations with"):
            predictor.predict_configs([other])
    with pytest.raises(InputError, match="fitted to bases of the original presence only"):
        predictor.predict(np.array([[0]]), [LAYER(3)])


def test_a_layer_is_there_or_not(predictor: FittedPredictor) -> None:
    for presence in (-1, 2):
        with pytest.raises(InputError, match=f"presence of layer 3 must be 0 to 1, not {presence}"):
            predictor.predict(np.array([[presence]]), [LAYER(3)])


def test_flops_have_one_price_with_and_without_widths(
    campaign: Campaign, configurations: list[Configuration], fit_without_card: Callable[..., FittedPredictor]
) -> None:
    source = fit_without_card(rows(campaign, configurations[:40]), regressor="non-negative")
    names = FeatureSet.of(TEMPLATE, [Configuration.uniform(SHAPE, 2)]).names
    flops = dict(zip(source.features.names, source.prices_s(source.features.names), strict=True))["flops"]
    assert "flops" not in names
    assert dict(zip(names, source.prices_s(names), strict=True))["adapter_flops"] == flops


def test_widths_and_depth_are_predicted_between_lengths(
    campaign: Campaign,
    configurations: list[Configuration],
    fit_without_card: Callable[..., FittedPredictor],
) -> None:
    templates = [Workload(SHAPE, phase="prefill", tokens=length) for length in (32, 64)]
    measured, unseen = configurations[:40], configurations[40:]
    found = fit_without_card([row for each in templates for row in rows(campaign, measured, template=each)])
    expected = truth(unseen, Workload(SHAPE, phase="prefill", tokens=48))
    np.testing.assert_allclose(found.at(48).predict_configs(unseen).mean, expected, rtol=0.03)
