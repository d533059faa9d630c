"""Measurements whose truth is the closed form of a simulated device."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.devices import SimulatedDevice
from adaptare.predictor import FittedPredictor, LatencyPredictor, latency_predictor
from adaptare.predictor.fitting import cross_validation
from adaptare.predictor.fitting.training_rows import Rows
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload, named_space
from adaptare.profiler.store.measurement import Visit

RANKS = (0, 1, 4, 8, 16, 32)
ROUNDS = 5
Campaign = Callable[..., list[Measurement]]
TrueSeconds = Callable[[Workload, Sequence[Configuration]], NDArray[np.float64]]
DrawConfigs = Callable[[int, int], list[Configuration]]


@pytest.fixture(scope="session")
def shape() -> ModelShape:
    return ModelShape("llama", 6, 128, 4, 2, 32, 256, 512, '{"name":"small"}')


@pytest.fixture(scope="session")
def template(shape: ModelShape) -> Workload:
    return Workload(shape)


@pytest.fixture(scope="session")
def device() -> SimulatedDevice:
    return SimulatedDevice(launch_s=5e-7)


@pytest.fixture(scope="session")
def draw_configs(shape: ModelShape) -> DrawConfigs:
    """`(n, seed)` -> n adapter configs from few to many sites and low to high ranks."""
    space = named_space("sites", shape, ranks=RANKS)

    def draw(n: int, seed: int) -> list[Configuration]:
        codes = space.at(space.spread(n, np.random.default_rng(seed)))
        return [space.decode(row) for row in codes]

    return draw


@pytest.fixture(scope="session")
def true_seconds(device: SimulatedDevice) -> TrueSeconds:
    def seconds(template: Workload, configs: Sequence[Configuration]) -> NDArray[np.float64]:
        return np.array([device.latency_s(replace(template, configuration=config).work()) for config in configs])

    return seconds


@pytest.fixture(scope="session")
def campaign(device: SimulatedDevice, template: Workload) -> Campaign:
    """`(configs, sigma=…, seed=…)` -> one measurement each, off by a log-normal factor of its own."""

    def measure(
        configs: Sequence[Configuration],
        *,
        sigma: float = 0.005,
        seed: int = 0,
        template: Workload = template,
        device: SimulatedDevice = device,
        session: str = "first",
    ) -> list[Measurement]:
        rng = np.random.default_rng(seed)
        reference_s = device.latency_s(template.base.work())
        measurements = []
        for config in configs:
            workload = replace(template, configuration=config)
            seconds = device.latency_s(workload.work()) * np.exp(sigma * rng.standard_normal())
            measurements.append(
                Measurement(
                    workload=workload,
                    device=device.info(),
                    reference=template.base,
                    reference_s=reference_s,
                    session=session,
                    visits=tuple(Visit(0, number, seconds, (seconds,)) for number in range(ROUNDS)),
                    reference_visits=tuple(Visit(0, number, reference_s, (reference_s,)) for number in range(ROUNDS)),
                    stopped_by="rounds",
                    taken_at="2025-01-01T00:00:00+00:00",
                )
            )
        return measurements

    return measure


@pytest.fixture(scope="session")
def fit_without_card() -> Callable[..., FittedPredictor]:
    """`(rows, **options)` -> a fit as under `without_card`, for fixtures that several tests share."""

    def exact(candidates: Iterable[str], rows: Rows, **_: object) -> dict[str, object]:
        return dict.fromkeys(candidates, rows.ratios)

    def fit(rows: Sequence[Measurement], **options: object) -> FittedPredictor:
        with pytest.MonkeyPatch.context() as patch:
            for module in (cross_validation, latency_predictor):
                patch.setattr(module, "left_out_ratios", exact)
            return LatencyPredictor(**options).fit(rows)  # type: ignore[arg-type]

    return fit


@pytest.fixture(scope="session")
def predictor(campaign: Campaign, draw_configs: DrawConfigs) -> FittedPredictor:
    """Of 32 adapters, with its error card."""
    return LatencyPredictor().fit(campaign(draw_configs(32, 0)))
