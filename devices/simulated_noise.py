"""What disturbs a simulated device, each kind on its own, so that a statistical test can ask for exactly one."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Moment:
    """Where in the life of a simulated worker a call happens.

    Args:
        clock_s: Virtual time since the device was made, seconds.
        call: Calls of this program since it was loaded.
        opening: How often the device had been opened before.
        program: Hash of the running program.
        switched: Whether another program ran just before.
    """

    clock_s: float
    call: int
    opening: int
    program: str
    switched: bool


class Noise(Protocol):
    """Multiplies the true latency of a call."""

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """1 leaves the call as it is."""
        ...


@dataclass(frozen=True)
class Jitter:
    """Independent log-normal noise of standard deviation `sigma`, median 1."""

    sigma: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        return math.exp(self.sigma * rng.standard_normal())


class Autocorrelated:
    """Log-normal noise that remembers: an AR(1) series of standard deviation `sigma`, correlation `rho`."""

    def __init__(self, sigma: float, rho: float) -> None:
        self._sigma, self._rho, self._state = sigma, rho, 0.0

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        fresh = math.sqrt(1 - self._rho**2) * rng.standard_normal()
        self._state = self._rho * self._state + fresh
        return math.exp(self._sigma * self._state)


@dataclass(frozen=True)
class Bursts:
    """A share of calls, taken at random, is slower by `slowdown`."""

    share: float
    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        return self.slowdown if rng.random() < self.share else 1.0


@dataclass(frozen=True)
class RegimeStep:
    """From `at_s` on, everything is slower by `slowdown`, as when a neighbour moves in."""

    at_s: float
    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        return self.slowdown if moment.clock_s >= self.at_s else 1.0


@dataclass(frozen=True)
class Drift:
    """Everything gets slower by the share `per_s` each second, as when the device heats up."""

    per_s: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        return 1.0 + self.per_s * moment.clock_s


@dataclass(frozen=True)
class WarmUp:
    """The first call of a program is slower by `slowdown`, fading over about `calls` calls."""

    calls: float
    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        return 1.0 + (self.slowdown - 1.0) * math.exp(-moment.call / self.calls)


@dataclass(frozen=True)
class Touch:
    """The first call after another program ran is slower by `slowdown`: its weights left the cache."""

    slowdown: float

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        return self.slowdown if moment.switched else 1.0


@dataclass(frozen=True)
class OpeningOffset:
    """Each opening of each program has a lasting log-normal offset of standard deviation `sigma`."""

    sigma: float
    seed: int = 0

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """See `Noise.factor`."""
        own = np.random.default_rng([self.seed, moment.opening, int(moment.program, 16)])
        return math.exp(self.sigma * own.standard_normal())
