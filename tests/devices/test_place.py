"""Where programs run, in this process: an accelerator on a clock made by hand."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.devices.agent import place
from adaptare.devices.agent.place import IDLE_S, LEAST_BURSTS, Host, OnAccelerator
from adaptare.devices.agent.server import Agent

MakeAgent = Callable[..., Agent]
LOAD = {"program_id": "p", "source": "", "arguments": {}, "files": {}, "feeds": [{"name": "f", "arguments": {}}]}
LOAD |= {"copies": 1, "between_bytes": 0}


class Toy:
    """An accelerator that takes the time of what is issued to it when somebody waits for it.

    The host takes a tenth of a second to issue anything.
    """

    ISSUE_S = 0.1

    def __init__(self) -> None:
        self.now_s = 0.0
        self.idle_at_s = 0.0
        self.log: list[str] = []
        self.burst_s = 0.01

    def run(self, seconds: float) -> list[float]:
        self.now_s += self.ISSUE_S
        self.idle_at_s = max(self.idle_at_s, self.now_s) + seconds
        return [1.0]

    def synchronise(self) -> None:
        self.now_s = max(self.now_s, self.idle_at_s)

    def event(self) -> SimpleNamespace:
        made = SimpleNamespace()

        def record() -> None:
            made.at_s = max(self.now_s, self.idle_at_s)

        made.record = record
        made.elapsed_time = lambda later: 1e3 * (later.at_s - made.at_s)
        return made

    def burst(self) -> None:
        self.log.append("burst")
        self.idle_at_s = max(self.idle_at_s, self.now_s) + self.burst_s

    def overwrite(self, size: int) -> None:
        self.log.append(f"overwrite {size}")

    def name(self) -> str:
        return "Toy GPU"

    def cache_bytes(self) -> int:
        return 100

    def free_bytes(self) -> int:
        return 1000

    def held_bytes(self) -> int:
        return 7

    peak_bytes = held_bytes

    def limit(self, limit_bytes: int) -> None:
        self.log.append(f"limit {limit_bytes}")

    def release(self) -> None:
        self.log.append("release")

    def lost(self, error: BaseException) -> bool:
        return False

    def facts(self) -> dict[str, Any]:
        return {"clock_mhz": 1}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    monkeypatch.setattr(time, "perf_counter", lambda: made.now_s)
    return made


@pytest.fixture
def on_toy(toy: Toy) -> OnAccelerator:
    return OnAccelerator(toy)


def test_a_call_takes_the_time_of_the_accelerator_from_idle_to_the_end(toy: Toy, on_toy: OnAccelerator) -> None:
    restored: list[float] = []

    def restore() -> None:
        restored.append(toy.now_s)
        toy.run(8.0)

    seconds = on_toy.timed(lambda: toy.run(2.0), restore, 3)
    assert seconds == pytest.approx([Toy.ISSUE_S + 2.0] * 3)
    assert len(restored) == 3


@pytest.mark.parametrize(("seconds", "share"), [(0.9, 0.1), (0.0, 1.0)])
def test_the_share_of_the_host_is_that_of_issuing_a_call(
    toy: Toy, on_toy: OnAccelerator, seconds: float, share: float
) -> None:
    assert on_toy.host_share(lambda: toy.run(seconds), lambda: None) == pytest.approx(share)
    assert Host().host_share(lambda: [1.0], lambda: None) is None


def test_clocks_are_raised_before_a_call_unless_they_still_are(toy: Toy, on_toy: OnAccelerator) -> None:
    toy.now_s = 50.0
    bursts = []
    for idle_s in (0.0, IDLE_S / 2, 2 * IDLE_S):
        toy.log.clear()
        toy.now_s += idle_s
        on_toy.timed(lambda: toy.run(1.0), lambda: None, 1)
        bursts.append(toy.log.count("burst"))
    assert bursts == [LEAST_BURSTS, 0, LEAST_BURSTS]


def test_an_accelerator_whose_clock_still_rises_is_kept_busy(toy: Toy, on_toy: OnAccelerator) -> None:
    def faster() -> None:
        Toy.burst(toy)
        toy.burst_s *= 0.95 if toy.log.count("burst") < 60 else 1.0

    toy.burst = faster  # type: ignore[method-assign]
    toy.burst_s = 0.02
    on_toy.timed(lambda: toy.run(1.0), lambda: None, 1)
    assert toy.log.count("burst") == 60 + place.STEADY_BURSTS


def test_one_that_never_settles_is_not_waited_for(toy: Toy, on_toy: OnAccelerator) -> None:
    def faster() -> None:
        Toy.burst(toy)
        toy.burst_s *= 0.97

    toy.burst = faster  # type: ignore[method-assign]
    toy.burst_s = 0.1
    on_toy.timed(lambda: toy.run(1.0), lambda: None, 1)
    assert toy.now_s == pytest.approx(place.MOST_WARM_S, abs=2.5)
    assert LEAST_BURSTS < toy.log.count("burst") < 100


def test_calls_find_a_cache_that_was_written_over(make_agent: MakeAgent, toy: Toy, on_toy: OnAccelerator) -> None:
    model = SimpleNamespace(bind=lambda feed: (lambda: toy.run(1.0), lambda: toy.log.append("restore")), nodes=dict)
    agent = make_agent(load=lambda *program: model)
    agent.place = on_toy
    agent.load({**LOAD, "between_bytes": 120})
    toy.log.clear()
    agent.run({"program_id": "p", "feed_id": "f", "calls": 2})
    assert toy.log == ["overwrite 120", "restore"] * 2


def test_the_first_call_lasts_until_the_accelerator_is_done(
    make_agent: MakeAgent, toy: Toy, on_toy: OnAccelerator
) -> None:
    model = SimpleNamespace(bind=lambda feed: (lambda: toy.run(3.0), lambda: None), nodes=dict)
    agent = make_agent(load=lambda *program: model)
    agent.place = on_toy
    reply = agent.load(LOAD)
    assert reply["first_call_s"]["f"] == pytest.approx(Toy.ISSUE_S + 3.0)
    assert reply["host_share"]["f"] == pytest.approx(Toy.ISSUE_S / (Toy.ISSUE_S + 3.0))


def test_speaks_for_the_accelerator(toy: Toy, on_toy: OnAccelerator) -> None:
    sizes = {"cache_bytes": 100, "free_bytes": 1000}
    assert on_toy.facts() == {"timer_step_s": place.EVENT_STEP_S, "accelerator": "Toy GPU", **sizes}
    assert on_toy.held_bytes() == 7
    assert on_toy.state() == {"known": {"accelerator": {"clock_mhz": 1}}}
    assert set(Host().facts()) == {"timer_step_s"}


def test_only_a_limit_below_the_free_memory_is_one(toy: Toy, on_toy: OnAccelerator) -> None:
    for asked_bytes in (0, 2000, 500):
        on_toy.limit(asked_bytes, 600)
    assert toy.log == ["limit 500"]
