"""One predictor for ranks and widths: fitted to a simulated device, judged by its closed form."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitting.candidates import candidates
from adaptare.profiler import RANK, WIDTH, Configuration, Measurement, ModelShape, Phase, Workload, design, read_space

SHAPE = ModelShape("llama", 4, 128, 4, 2, 32, 384, 512, '{"name":"four layers"}')
TEMPLATE = Workload(SHAPE)
DEVICE = SimulatedDevice(launch_s=5e-7)
SPACE = """
groups:
- {sites: "*.self_attn.*", ranks: [0, 2, 8, 16]}
- {sites: "*.mlp.*", ranks: [0, 2, 8, 16]}
- {widths: [96, 192, 384]}
"""
Campaign = Callable[..., list[Measurement]]


@pytest.fixture(scope="module")
def configurations(tmp_path_factory: pytest.TempPathFactory) -> list[Configuration]:
    """Ranks and widths: 40 to measure, and 100 others."""
    file = tmp_path_factory.mktemp("space") / "space.yaml"
    file.write_text(SPACE)
    space = read_space(file, SHAPE)
    drawn = space.at(space.spread(100, np.random.default_rng(1)))
    return [*design(space, 40, seed=0), *map(space.decode, drawn)]


def truth(configurations: Sequence[Configuration], template: Workload = TEMPLATE) -> NDArray[np.float64]:
    return np.array([DEVICE.latency_s(template.with_configuration(each).work()) for each in configurations])


def rows(campaign: Campaign, configurations: Sequence[Configuration], **options: object) -> list[Measurement]:
    return campaign(configurations, **{"template": TEMPLATE, "device": DEVICE, **options})


def test_a_predictor_of_ranks_and_widths_is_far_better_than_a_constant_and_flops(
    campaign: Campaign, configurations: list[Configuration]
) -> None:
    measured, unseen = configurations[:40], configurations[40:]
    predictor = LatencyPredictor().fit(rows(campaign, measured, sigma=0.005))
    expected = truth(unseen)

    def error(predicted: NDArray[np.float64]) -> float:
        return float(np.mean(np.abs(predicted / expected - 1)))

    features = FeatureSet.of(TEMPLATE, configurations)
    X, known = (features.matrix(features.values(some)) for some in (measured, unseen))
    simple = {
        name: error(candidates()[name].fit(X, truth(measured)).predict(known)) for name in ("constant", "FLOPs-affine")
    }
    ours = error(predictor.predict_configs(unseen).mean)
    assert ours < 0.01
    assert ours < simple["constant"] / 10
    assert ours < simple["FLOPs-affine"] / 3


def test_codes_of_a_space_are_predicted_as_their_configurations(
    campaign: Campaign, configurations: list[Configuration]
) -> None:
    predictor = LatencyPredictor().fit(rows(campaign, configurations[:40]))
    path = SHAPE.sites[0].path
    expected = predictor.predict_configs([Configuration.of({path: 4}, widths={1: 96}), Configuration()])
    found = predictor.predict(np.array([[4, 96], [0, 384]]), [RANK(path), WIDTH(1)])
    np.testing.assert_array_equal(found.mean, expected.mean)


def test_a_predictor_of_widths_is_the_same_when_it_is_read_again(
    campaign: Campaign, configurations: list[Configuration], tmp_path: Path
) -> None:
    predictor = LatencyPredictor().fit(rows(campaign, configurations[:40]))
    save_predictor(predictor, tmp_path / "kept")
    loaded = load_predictor(tmp_path / "kept")
    unseen = configurations[40:]
    np.testing.assert_array_equal(loaded.predict_configs(unseen).upper, predictor.predict_configs(unseen).upper)


def test_a_predictor_of_ranks_refuses_narrower_layers(campaign: Campaign, configurations: list[Configuration]) -> None:
    ranks = [Configuration.of(each.by_path) for each in configurations[:40]]
    predictor = LatencyPredictor().fit(rows(campaign, ranks))
    narrower = Configuration.of({}, widths={0: 96})
    with pytest.raises(InputError, match="the original width only; profile configurations with widths"):
        predictor.predict_configs([narrower])
    with pytest.raises(InputError, match="fitted to bases of the original width only"):
        predictor.predict(np.array([[96]]), [WIDTH(0)])


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_widths_are_predicted_between_lengths(
    campaign: Campaign, configurations: list[Configuration], phase: Phase
) -> None:
    templates = [Workload(SHAPE, phase=phase, past=length, tokens=length) for length in (32, 64)]
    found = LatencyPredictor().fit(
        [row for each in templates for row in rows(campaign, configurations[:40], template=each)]
    )
    unseen = configurations[40:]
    expected = truth(unseen, Workload(SHAPE, phase=phase, past=48, tokens=48))
    np.testing.assert_allclose(found.at(48).predict_configs(unseen).mean, expected, rtol=0.03)


def test_flops_have_one_price_with_and_without_widths(campaign: Campaign, configurations: list[Configuration]) -> None:
    measured = rows(campaign, configurations[:40], sigma=0.005)
    source = LatencyPredictor(regressor="non-negative").fit(measured)
    names = FeatureSet.of(TEMPLATE, [Configuration.uniform(SHAPE, 2)]).names
    flops = dict(zip(source.features.names, source.prices_s(source.features.names), strict=True))["flops"]
    assert "flops" not in names
    assert dict(zip(names, source.prices_s(names), strict=True))["adapter_flops"] == flops
