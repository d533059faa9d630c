"""Intervals at the default pace of every command hold the truth, whatever the openings are like."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import exp
from typing import Any

import numpy as np
import pytest
from simulated_noise import Jitter
from transformers import LlamaConfig

from adaptare.commands.calls import parts
from adaptare.commands.overhead import overhead
from adaptare.commands.profile_adapters import profile as profile_command
from adaptare.commands.tune import DEMO, QUICK
from adaptare.commands.verify import verify
from adaptare.devices import Program, SimulatedDevice, Worker
from adaptare.devices.simulated import Moment
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload, precise_within, profile
from adaptare.profiler.measuring.stopping import PreciseWithin
from adaptare.workflows.tuning_request import TuneRequest

SESSIONS = 100
LOADING_S = 5.0
SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=16)
)
MERGED = Workload(SHAPE, Configuration.uniform(SHAPE, 2)).merged


def default_of(command: Callable[..., Any]) -> PreciseWithin:
    parameters = inspect.signature(command).parameters
    return precise_within(*(parameters[name].default for name in ("half_width", "seconds", "openings")))


COMMANDS = {
    "overhead": default_of(overhead),
    "parts": default_of(parts),
    "profile": default_of(profile_command),
    "verify": default_of(verify),
    "tune": precise_within(TuneRequest.half_width, TuneRequest.seconds),
    "demo": precise_within(TuneRequest.half_width, DEMO["seconds"]),
    "tune and demo --quick": precise_within(QUICK["half_width"], QUICK["seconds"]),
}
PACES = {rule: [name for name, other in COMMANDS.items() if other == rule] for rule in COMMANDS.values()}


class Offsets:
    """A lasting log-normal offset for each opening of each program; faster than `OpeningOffset`."""

    def __init__(self, sigma: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._of = cache(lambda opening, program: exp(sigma * rng.standard_normal()))

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        factor: float = self._of(moment.opening, moment.program)
        return factor


class Slow(SimulatedDevice):
    """Each opening takes some seconds of the virtual clock before anything runs."""

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with super().open() as worker:
            self.clock_s += LOADING_S
            yield worker


def session(rule: PreciseWithin, seed: int, monkeypatch: pytest.MonkeyPatch) -> Measurement:
    """The base measured against itself, on the clock of a device whose openings differ by 2 %."""
    device = Slow(launch_s=4e-4, noise=[Offsets(0.02, seed), Jitter(0.01)], seed=seed)
    monkeypatch.setattr("adaptare.profiler.measuring.session.monotonic", lambda: device.clock_s)
    return profile([MERGED], reference=MERGED.base, device=device, stop=rule, seed=seed)[0]


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("rule", PACES, ids=[", ".join(names) for names in PACES.values()])
def test_the_default_interval_of_a_command_holds_the_truth(
    rule: PreciseWithin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Program, "hash", property(cache(Program.hash.fget)))  # type: ignore[attr-defined]
    found = [session(rule, seed, monkeypatch) for seed in range(SESSIONS)]
    assert not any(each.too_few_openings for each in found)
    assert np.mean([each.overhead.contains(0.0) for each in found]) >= 0.92
