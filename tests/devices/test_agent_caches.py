"""What a program finds in the caches of the processor when it is called."""

from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.devices import agent

LOAD = {"program_id": "p", "source": "", "arguments": {}, "feeds": [{"name": "f", "arguments": {}}]}
LOAD |= {"moved_bytes": 80, "others_bytes": 0, "between_bytes": 0}
RUN = {"program_id": "p", "feed_id": "f"}


def test_copies_of_a_cold_program_are_called_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "last_level_cache_bytes", lambda: 100)
    calls: list[int] = []

    def load(source: str, arguments: dict[str, Any], copy: int) -> Any:
        return SimpleNamespace(bind=lambda feed: (lambda: calls.append(copy) or [0.0], lambda: None))

    served = agent.Agent(SimpleNamespace(load=load, providers=lambda model: {}))
    served.load({**LOAD, "others_bytes": 900})
    served.run({**RUN, "calls": 5})
    assert calls == [1, 2, 3, 4] * 2 + [1]


@pytest.mark.parametrize(
    ("moved_bytes", "between_bytes", "read"),
    [(80, 70, 70), (80, 500, 120), (200, 500, 0), (80, 0, 0)],  # until the caches are filled twice
)
def test_other_memory_is_read_before_every_call_that_is_timed(
    monkeypatch: pytest.MonkeyPatch, moved_bytes: int, between_bytes: int, read: int
) -> None:
    monkeypatch.setattr(agent, "last_level_cache_bytes", lambda: 100)
    events: list[str] = []

    class Read(bytearray):
        def find(self, part: bytes, start: int, end: int) -> int:  # type: ignore[override]
            assert super().find(part, start, end) == -1, "all of it is read"
            events.append(f"read {end - start} of {len(self)}")
            return -1

    def load(source: str, arguments: dict[str, Any], copy: int) -> Any:
        return SimpleNamespace(
            bind=lambda feed: (lambda: events.append("call") or [0.0], lambda: events.append("restore"))
        )

    served = agent.Agent(SimpleNamespace(load=load, providers=lambda model: {}))
    served.load({**LOAD, "moved_bytes": moved_bytes, "between_bytes": between_bytes})
    served.others._bytes = Read(served.others._bytes)
    events.clear()
    served.run({**RUN, "calls": 2})
    assert events == [*[f"read {read} of {read}"] * bool(read), "restore", "call"] * 2


@pytest.mark.parametrize(
    ("moved_bytes", "others_bytes", "copies"),
    [
        (1, 2**40, 201),
        (100, 2**40, 3),
        (150, 2**40, 3),
        (1000, 2**40, 2),
        (0, 2**40, 201),
        (10, 90, 10),  # the rest of a small model leaves some of it in the caches
        (40, 90, 4),
        (10, 0, 1),
    ],
)
def test_the_others_move_as_much_as_the_rest_of_the_model_or_fill_the_cache_twice(
    monkeypatch: pytest.MonkeyPatch, moved_bytes: int, others_bytes: int, copies: int
) -> None:
    monkeypatch.setattr(agent, "last_level_cache_bytes", lambda: 100)
    assert agent.copies_in_turn(moved_bytes, others_bytes) == copies


def test_copies_have_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "last_level_cache_bytes", lambda: 2**62)
    assert agent.copies_in_turn(1, 2**62) == agent.MOST_COPIES
