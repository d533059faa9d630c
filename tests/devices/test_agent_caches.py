"""What a program finds in the caches of the processor when it is called."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.devices.agent.place import Host
from adaptare.devices.agent.server import Agent
from adaptare.devices.program import MOST_COPIES, Program

MakeAgent = Callable[..., Agent]

LOAD = {"program_id": "p", "source": "", "arguments": {}, "files": {}, "feeds": [{"name": "f", "arguments": {}}]}
LOAD |= {"copies": 1, "between_bytes": 0}
RUN = {"program_id": "p", "feed_id": "f"}


def test_copies_of_a_cold_program_are_called_in_turn(make_agent: MakeAgent) -> None:
    calls: list[int] = []

    def load(folder: str, source: str, arguments: dict[str, Any], copy: int) -> Any:
        return model((lambda: calls.append(copy) or [0.0], lambda: None))

    served = make_agent(load=load)
    served.load({**LOAD, "copies": 4})
    served.run({**RUN, "calls": 5})
    assert calls == [1, 2, 3, 4] * 2 + [1]


def model(bound: Any) -> Any:
    return SimpleNamespace(bind=lambda feed: bound, nodes=dict)


def test_other_memory_is_read_before_every_call_that_is_timed(make_agent: MakeAgent) -> None:
    events: list[str] = []

    class Read(bytearray):
        def find(self, part: bytes, start: int, end: int) -> int:  # type: ignore[override]
            assert super().find(part, start, end) == -1, "all of it is read"
            events.append(f"read {end - start} of {len(self)}")
            return -1

    bound = (lambda: events.append("call") or [0.0], lambda: events.append("restore"))
    served = make_agent(load=lambda *program: model(bound))
    served.load({**LOAD, "between_bytes": 70})
    assert isinstance(served.place, Host)
    served.place._others = Read(b"1" * 70)
    events.clear()
    served.run({**RUN, "calls": 2})
    assert events == ["read 70 of 70", "restore", "call"] * 2


@pytest.mark.parametrize(
    ("moved_bytes", "others_bytes", "copies"),
    [
        (1, 2**40, 201),
        (100, 2**40, 3),
        (1000, 2**40, 2),
        (0, 2**40, 201),
        (10, 90, 10),  # the rest of a small model leaves some of it in the caches
        (10, 0, 1),
    ],
)
def test_the_others_move_as_much_as_the_rest_of_the_model_or_fill_the_cache_twice(
    moved_bytes: int, others_bytes: int, copies: int
) -> None:
    assert Program.copies_in_turn(moved_bytes, others_bytes, 100) == copies


def test_copies_have_an_upper_bound() -> None:
    assert Program.copies_in_turn(1, 2**62, 2**62) == MOST_COPIES
