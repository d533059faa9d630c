"""What the agent answers, in this process and on a clock made by hand."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.devices.agent import memory, server
from adaptare.devices.agent.runtime import RuntimeFacts
from adaptare.devices.agent.server import Agent, sample_output
from adaptare.devices.machine_facts import ENERGY

MakeAgent = Callable[..., Agent]

LOAD = {"op": "load", "program_id": "p", "source": "", "arguments": {}, "files": {}, "feeds": []}
LOAD |= {"copies": 1, "between_bytes": 0}
ONE_FEED = {**LOAD, "feeds": [{"name": "f", "arguments": {}}]}
HELLO = {"threads": 1, "processors": [], "options": {}, "memory_bytes": 0, "free_bytes": 2**30}


def model(bind: Callable[..., Any] | None = None) -> Any:
    return SimpleNamespace(bind=bind, nodes=dict)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Lets time pass, and hands on an answer."""
    passed = [0.0]

    def takes(seconds: float, answer: Any = None) -> Any:
        passed[0] += seconds
        return answer

    monkeypatch.setattr(time, "perf_counter", lambda: passed[0])
    return takes


def answers(agent: Agent, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    replies = io.StringIO()
    server.serve(agent, [json.dumps(request) for request in requests], replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_the_end_is_an_explicit_message(make_agent: MakeAgent) -> None:
    requests = [{"seq": 9, "op": "close"}, {"seq": 10, "op": "close"}]
    assert answers(make_agent(), *requests) == [{"seq": 9, "ok": True, "end": True}]


def test_an_unknown_operation_is_answered_with_the_number_of_its_request(make_agent: MakeAgent) -> None:
    (reply,) = answers(make_agent(), {"seq": 8, "op": "dance"})
    assert (reply["seq"], reply["ok"]) == (8, False)


def test_the_first_call_is_made_after_the_state_was_restored(make_agent: MakeAgent) -> None:
    calls: list[str] = []
    bound = (lambda: calls.append("call") or [0.0], lambda: calls.append("restore"))
    agent = make_agent(load=lambda *program: model(lambda arguments: bound))
    agent.load(ONE_FEED)
    agent.run({"program_id": "p", "feed_id": "f", "calls": 2})
    assert calls == ["restore", "call"] * 3


def test_restoring_is_outside_the_timed_region(make_agent: MakeAgent, clock: Callable[..., Any]) -> None:
    agent = make_agent()
    agent.feeds["p"] = {"f": (lambda: clock(0.25), lambda: clock(8.0))}
    reply = agent.run({"program_id": "p", "feed_id": "f", "calls": 3})
    assert reply == {"count": 3, "seconds": [0.25, 0.25, 0.25]}


def test_what_a_runtime_imports_is_not_counted(
    make_agent: MakeAgent, clock: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [1000]

    def prepare(source: str) -> None:
        clock(9.0)
        held[0] += 500

    monkeypatch.setattr(memory, "private_bytes", lambda: held[0])
    reply = make_agent(prepare=prepare, load=lambda *program: model()).load(LOAD)
    assert (reply["load_s"], reply["resident_bytes"]) == (0.0, 0)


def test_loading_binding_and_the_first_call_have_their_own_seconds(
    make_agent: MakeAgent, clock: Callable[..., Any]
) -> None:
    def bind(arguments: dict[str, float]) -> Any:
        return clock(arguments["bind"], (lambda: clock(arguments["call"], [1.0]), lambda: clock(8.0)))

    feeds = [{"name": "f", "arguments": {"bind": 0.5, "call": 2.0}}, {"name": "g", "arguments": {"bind": 1, "call": 3}}]
    reply = make_agent(load=lambda *program: clock(4.0, model(bind))).load({**LOAD, "feeds": feeds})
    assert reply["bind_s"] == {"f": 0.5, "g": 1.0}
    assert reply["first_call_s"] == {"f": 2.0, "g": 3.0}
    assert reply["load_s"] == 4.0 + 0.5 + 2.0 + 1.0 + 3.0 + 2 * 8.0


def test_files_that_are_mapped_lie_beyond_the_memory_limit(
    make_agent: MakeAgent, memory_limits: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mapped = [5]

    def load(*program: Any) -> Any:
        mapped[0] += 300
        return model()

    monkeypatch.setattr(memory, "mapped_file_bytes", lambda: mapped[0])
    agent = make_agent(load=load)
    agent.place.limit(0, 10_000)
    memory_limits.clear()
    (tmp_path / "agent" / "files" / "abc").write_bytes(bytes(400))
    agent.load({**LOAD, "copies": 2, "source": "graph", "files": {"weights": "abc"}})
    assert memory_limits == [10_000 + 5 + 2 * 400, 10_000 + 5 + 2 * 300]


@pytest.mark.parametrize(("asked", "limit"), [(0, 2**30), (2**33, 2**33)])
def test_memory_is_what_is_free_unless_told_otherwise(
    make_agent: MakeAgent, memory_limits: list[int], asked: int, limit: int
) -> None:
    make_agent().hello({**HELLO, "memory_bytes": asked})
    assert memory_limits == [limit]


def test_processors_are_set_before_the_runtime(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []

    def setup(threads: int, options: dict[str, Any]) -> RuntimeFacts:
        events.append((threads, options))
        return RuntimeFacts("plain 1", ["one"])

    monkeypatch.setattr(server, "restrict", events.append)
    agent = make_agent(setup=setup)
    reply = agent.hello({**HELLO, "threads": 2, "processors": [4, 5], "options": {"a": 1}})
    assert events == [[4, 5], (2, {"a": 1})]
    assert (reply["runtime"], reply["threads"], reply["providers"]) == ("plain 1", 2, ["one"])


def test_only_a_runtime_that_attributes_says_so(make_agent: MakeAgent) -> None:
    assert make_agent().hello(HELLO)["capabilities"] == ["forget", "fork"]
    assert make_agent(attribute=print).hello(HELLO)["capabilities"] == ["attribution", "forget", "fork"]
    with pytest.raises(LookupError, match="does not attribute time to operators"):
        make_agent().attribute({})


def test_the_machine_is_sent_as_it_stands_in_its_files(make_agent: MakeAgent, tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0")
    agent = make_agent()
    agent.root = str(tmp_path)
    (reply,) = answers(agent, {"seq": 1, "op": "machine", **ENERGY})
    assert reply["machine"]["files"] == {"sys/class/powercap/intel-rapl:0/name": "package-0"}


def test_a_package_that_is_missing_is_named(make_agent: MakeAgent) -> None:
    def prepare(source: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    (reply,) = answers(make_agent(prepare=prepare), {**LOAD, "seq": 1})
    assert (reply["cause"], reply["package"]) == ("package", "torch")


@pytest.mark.parametrize("words", [*server.NO_MEMORY, None])
def test_memory_that_cannot_be_had_is_called_so(make_agent: MakeAgent, words: str | None) -> None:
    def load(*program: Any) -> Any:
        raise RuntimeError(f"x {words} y") if words else MemoryError

    (reply,) = answers(make_agent(load=load), {**LOAD, "seq": 1})
    assert reply["error"].startswith("out of memory: ")


@pytest.mark.parametrize(("length", "kept"), [(512, 512), (513, 257), (49152, 512)])
def test_samples_an_output_evenly_up_to_512_values(length: int, kept: int) -> None:
    sample = sample_output(range(length))
    assert len(sample) == kept
    assert sample == list(range(0, length, -(-length // 512)))
