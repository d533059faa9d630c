"""Disturbances of a simulated device, one class per kind, so that a statistical test can select exactly one."""

import math
from dataclasses import dataclass

import numpy as np

from adaptare.devices.simulated import Moment


@dataclass(frozen=True)
class Jitter:
    """Independent log-normal noise of standard deviation `sigma`, median 1."""

    sigma: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        return math.exp(self.sigma * rng.standard_normal())


class Autocorrelated:
    """Autocorrelated log-normal noise: an AR(1) series of standard deviation `sigma`, correlation `rho`."""

    def __init__(self, sigma: float, rho: float) -> None:
        self._sigma, self._rho, self._state = sigma, rho, 0.0

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        fresh = math.sqrt(1 - self._rho**2) * rng.standard_normal()
        self._state = self._rho * self._state + fresh
        return math.exp(self._sigma * self._state)


@dataclass(frozen=True)
class Bursts:
    """Slows down a random share of the calls by `slowdown`."""

    share: float
    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        return self.slowdown if rng.random() < self.share else 1.0


@dataclass(frozen=True)
class RegimeStep:
    """Slows down everything by `slowdown` from `at_s` on, like a new process on the same host."""

    at_s: float
    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        return self.slowdown if moment.clock_s >= self.at_s else 1.0


@dataclass(frozen=True)
class Drift:
    """Slows down everything by the share `per_s` each second, like a device that heats up."""

    per_s: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        return 1.0 + self.per_s * moment.clock_s


@dataclass(frozen=True)
class WarmUp:
    """Slows down the first call of a program by `slowdown`, fading over about `calls` calls."""

    calls: float
    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        return 1.0 + (self.slowdown - 1.0) * math.exp(-moment.call / self.calls)


@dataclass(frozen=True)
class Touch:
    """Slows down the first call after another program by `slowdown`: its weights were evicted from the cache."""

    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        return self.slowdown if moment.switched else 1.0


@dataclass(frozen=True)
class OpeningOffset:
    """Log-normal offset of standard deviation `sigma` per program and opening (one fresh load of all programs)."""

    sigma: float
    seed: int = 0

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        own = np.random.default_rng([self.seed, moment.opening, int(moment.program, 16)])
        return math.exp(self.sigma * own.standard_normal())


@dataclass(frozen=True)
class TwoLevels:
    """Slows down a program by `slowdown` for a random share of its openings."""

    share: float
    slowdown: float
    seed: int = 0

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        own = np.random.default_rng([self.seed, moment.opening, int(moment.program, 16)])
        return self.slowdown if own.random() < self.share else 1.0
